"""What people see, on a terminal of 80 columns. The screens in `expected` are to be looked at:
`make screens` writes them anew, and `git diff` shows what has changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, NamedTuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Server, copy_tree
from tests.support.bench import ota
from tests.support.terminal import screen

EXPECTED = Path(__file__).parent / "expected"
pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed here"),
]
_ASCII = {"LC_ALL": "C", "LANG": "C"}


class Bench(NamedTuple):
    """`ota` runs in the directory of `device`, beside the server's certificate."""

    device: Path
    server: Server

    def run(self, *words: object, code: int = 0) -> None:
        done = ota(*words, "--root", self.device)
        assert done.code == code, done.err

    def update(self, *more: object) -> None:
        at = ("--version", f"{self.server.url}v2/", "--cacert", self.server.cacert)
        self.run("update", *at, "--no-self-confirm", *more)

    def reboot(self) -> None:
        next_boot(probe(self.device))

    def fail_health(self) -> None:
        checks = self.device / "etc/ota/health.d"
        checks.mkdir()
        (checks / "10-camera").write_text("#!/bin/sh\necho no camera answers\nexit 1\n")
        (checks / "10-camera").chmod(0o755)


def _as_new(bench: Bench) -> None:
    """A device that was just set up."""


def _staged(bench: Bench) -> None:
    bench.update("--stage-only")


def _armed(bench: Bench) -> None:
    bench.update()


def _trial(bench: Bench) -> None:
    bench.update()
    bench.reboot()


def _confirmed(bench: Bench) -> None:
    _trial(bench)
    bench.run("commit")


def _fell_back(bench: Bench) -> None:
    bench.fail_health()
    _trial(bench)
    bench.run("commit", code=18)
    bench.reboot()


def _taken_back(bench: Bench) -> None:
    _confirmed(bench)
    bench.run("rollback")
    bench.run("rollback")


def _disarmed(bench: Bench) -> None:
    bench.update()
    bench.run("rollback")


def _with_ecus(bench: Bench) -> None:
    info = bench.device / "boot/ota/ecu_info.yml"
    more = "secondaries: [{ecu_id: p1, ip_addr: 127.0.0.1, ssh_port: 1}]\n"
    more += "available_ecu_ids: [bench, p1, p2]\n"
    info.write_text(f"{info.read_text()}{more}")


class Screen(NamedTuple):
    """`given`: how the device is. URL stands for the server's."""

    words: str
    given: Callable[[Bench], None] = _as_new
    env: Mapping[str, str] = {}
    colours: bool = False


_CHECK = "check --version URLv2/ --cacert cacert.pem"
_MISSING = "check --version URLnowhere/ --cacert cacert.pem"
SCREENS: Dict[str, Screen] = {
    "status-new": Screen("status"),
    "status-staged": Screen("status", _staged),
    "status-armed": Screen("status", _armed),
    "status-trial": Screen("status", _trial),
    "status-confirmed": Screen("status", _confirmed),
    "status-fell-back": Screen("status", _fell_back),
    "status-taken-back": Screen("status", _taken_back),
    "status-disarmed": Screen("status", _disarmed),
    "status-ecus": Screen("status", _with_ecus),
    "status-ecus-ascii": Screen("status", _with_ecus, _ASCII),
    "history": Screen("history", _fell_back),
    "check": Screen(_CHECK),
    "check-dumb": Screen(_CHECK, env={"TERM": "dumb"}),
    "check-up-to-date": Screen(_CHECK, _confirmed),
    "error-missing": Screen(_MISSING),
    "error-missing-colours": Screen(_MISSING, colours=True),
    "error-missing-no-color": Screen(_MISSING, env={"NO_COLOR": "1"}, colours=True),
    "error-missing-dumb": Screen(_MISSING, env={"TERM": "dumb"}, colours=True),
    "error-no-anchor": Screen("image inspect URLv2/ --cacert cacert.pem --anchors empty"),
    "error-usage": Screen("update --version v2 --reboot --stage-only"),
}  # fmt: skip


@pytest.fixture
def place(first_directory_device: Path, server: Server) -> Iterator[Path]:
    """A directory whose name is as long in every run, with a device and what else is named."""
    made = Path(tempfile.mkdtemp(prefix="ota-", dir="/tmp"))
    copy_tree(first_directory_device, made / "device")
    shutil.copy(server.cacert, made / "cacert.pem")
    (made / "empty").mkdir()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("name", list(SCREENS))
def test_a_screen_is_as_it_was_looked_at(name: str, place: Path, server: Server) -> None:
    wanted = SCREENS[name]
    wanted.given(Bench(place / "device", server))
    words = wanted.words.replace("URL", server.url).split()
    if words[0] != "image":
        words += ["--root", "device"]
    shown = screen(words, place, wanted.env, colours=wanted.colours)
    expected = EXPECTED / f"{name}.txt"
    if os.environ.get("SCREENS") == "write":
        expected.write_text(shown, "utf-8")
    assert shown == expected.read_text("utf-8")


def test_no_screen_is_expected_that_nothing_shows() -> None:
    assert {path.stem for path in EXPECTED.iterdir()} == set(SCREENS)


def test_nothing_goes_beyond_the_right_edge() -> None:
    """A terminal breaks long lines in the middle of words: those that are full were."""
    wide = [
        f"{path.name}: {line}"
        for path in EXPECTED.iterdir()
        for line in path.read_text("utf-8").splitlines()
        if len(line) >= 80 and "\x1b" not in line
    ]
    assert wide == []
