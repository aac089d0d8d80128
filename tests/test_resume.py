"""An update killed in the middle of large files goes on in them: the server's log tells."""

from __future__ import annotations

import random
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from ota_cli.events import silent
from ota_cli.image.build import BuildOptions, build
from ota_cli.image.sign import sign
from tests.conftest import Images, copy_tree
from tests.support.bench import environment, ota, ota_argv
from tests.support.blocks import mounted, needs_root
from tests.support.nginx import Nginx, needs_nginx
from tests.support.systems import make_system

pytestmark = needs_nginx

MIB = 1024 * 1024
#: Half of the text is left when it is compressed; nothing is gained with the other.
LARGE = {"opt/text": 48 * MIB, "opt/random": 24 * MIB}
#: So much of each large file has come when the update is killed: neither the beginning nor all.
CAME = 6 * MIB
PLAIN, COMPRESSED = ".part", ".body.part"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def nginx(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Serves a version with two large files; what it sends in vain waits nowhere."""
    base = tmp_path_factory.mktemp("large")
    make_system(base / "tree", 2)
    source = random.Random(7)
    data = source.getrandbits(8 * LARGE["opt/random"]).to_bytes(LARGE["opt/random"], "big")
    (base / "tree/opt/random").write_bytes(data)
    (base / "tree/opt/text").write_bytes(data[::-1].hex().encode())
    build(base / "tree", base / "served/v3", BuildOptions(version="v3"), silent)
    keys = images.keys
    sign(
        base / "served/v3", keys / "sign.key", keys / "sign.crt", datetime.now(timezone.utc)
    )  # fmt: skip
    with Nginx(base / "served", unsent_bytes=64 * 1024) as server:
        yield server


def words(device: Path, nginx: Nginx) -> List[str]:
    there = ["--version", f"{nginx.url}v3/", "--cacert", str(nginx.cacert)]
    return ["update", "--root", str(device), *there]


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        assert process.poll() is None, "the update ended"
        time.sleep(0.01)


def killed_in_the_middle(device: Path, nginx: Nginx, *suffixes: str) -> None:
    """An update that ends for good once enough has come of a file with each of `suffixes`."""
    staging = device / "slots/b/.ota/staging"

    def have_come() -> bool:
        sizes = [(path.name[64:], _size(path)) for path in staging.glob("*.part")]
        return all(max((s for n, s in sizes if n == suffix), default=0) >= CAME
                   for suffix in suffixes)  # fmt: skip

    with subprocess.Popen([*ota_argv(), *words(device, nginx), "--limit-rate", "8M"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env=environment()) as process:  # fmt: skip
        until(have_come, process)
        process.kill()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sent_by(nginx: Nginx, action: Callable[[], object]) -> int:
    """Bytes of bodies that the server sends while `action` runs."""
    before = nginx.sent_bytes()
    action()
    return nginx.sent_bytes() - before


def completed(device: Path, nginx: Nginx) -> int:
    """Bytes that an update received which ends well and leaves nothing behind."""
    done = ota(*words(device, nginx), "--json")
    assert done.code == 0, done.err
    assert not (device / "slots/b/.ota/staging").exists()
    received: int = done.result["bytes"]["downloaded"]
    return received


def test_killed_in_the_middle_of_large_files_next_to_nothing_is_fetched_twice(
    device: Path, nginx: Nginx, tmp_path: Path
) -> None:
    other = copy_tree(device, tmp_path / "other")
    whole = sent_by(nginx, lambda: completed(other, nginx))
    second: List[int] = []

    def both() -> None:
        killed_in_the_middle(device, nginx, PLAIN, COMPRESSED)
        second.append(completed(device, nginx))

    assert whole <= sent_by(nginx, both) <= 1.04 * whole
    assert second[0] <= whole - 2 * CAME


@needs_root
def test_what_was_left_takes_no_room_from_the_next_run(device: Path, nginx: Nginx) -> None:
    with mounted("slot-b", device / "slots/b", "size=80M", kind="tmpfs"):
        killed_in_the_middle(device, nginx, PLAIN)
        completed(device, nginx)
