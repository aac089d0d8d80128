"""Whoever listens may be gone: the work is done all the same, and never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Server
from tests.support.bench import environment, ota, ota_argv

FULL = Path("/dev/full")


def shell(line: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs `line` with "$@" being `ota` and its words."""
    argv = [*ota_argv(), *(str(word) for word in words)]
    return subprocess.run(
        ["bash", "-c", line, "bash", *argv],
        capture_output=True, text=True, env=environment(), check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        '"$@" >&-', '"$@" 2>&-', '"$@" >&- 2>&- <&-', '"$@" >/dev/full', '"$@" 2>/dev/full',
        '"$@" >/dev/full 2>&1', 'set -o pipefail; "$@" 2>&1 | true',
        'set -o pipefail; "$@" | true',
    ],
)  # fmt: skip
@pytest.mark.parametrize("output", ["plain", "json", "jsonl"])
def test_an_update_arms_whether_or_not_somebody_listens(
    device: Path, server: Server, line: str, output: str
) -> None:
    at = ["--version", f"{server.url}v2/", "--cacert", server.cacert]
    ran = shell(line, "update", "--root", device, *at, "--output", output)
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert next_boot(probe(device)).slot == "b"


def test_an_answer_that_can_not_be_written_is_told(device: Path) -> None:
    ran = shell('"$@" >/dev/full', "status", "--root", device)
    assert "ota: warning: stdout can not be written: No space left on device" in ran.stderr


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("status", "--help")])
def test_help_that_can_not_be_written_is_told(words: tuple[str, ...]) -> None:
    ran = shell('"$@" >/dev/full', *words)
    assert ran.stderr == "ota: warning: stdout can not be written: No space left on device\n"
    ran = shell('set -o pipefail; "$@" | true', *words)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_names_the_terminal_can_not_show_are_escaped(device: Path) -> None:
    info = device / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text("utf-8").replace("bench", "böse"), encoding="utf-8")
    ran = ota("status", "--root", device, env={"PYTHONIOENCODING": "ascii"})
    assert ran.code == 0, ran.err
    assert "b\\xf6se" in ran.out


def test_a_traceback_for_a_report_steers_no_terminal() -> None:
    """With -v, of a program that `ota` needs and that fails with words of its own."""
    script = (
        "from pathlib import Path\n"
        "from ota_cli.cli.boundary import Display, run_verb\n"
        "from ota_cli.host.run import run\n"
        "says = ['sh', '-c', r\"printf '\\033[2J\\033]0;evil\\007' >&2; exit 3\"]\n"
        "run_verb('status', Display(Path('/'), 'plain', 1, 'never', None), lambda _: run(says))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert done.stderr.count(b"\\x1b[2J") == 2, "in the traceback and in the message"
    assert b"\x1b" not in done.stderr
