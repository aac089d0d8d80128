"""Disks that fail on cue: file systems that run full, go read-only, or lose what is below them."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator, List

from tests.support.blocks import mounted, run
from tests.support.webserver import Answer, WebServer


class CueServer(WebServer):
    """Serves the image at `image`; `cue` is called once, before any content is given away.

    By then a plan is made and the standby slot is open.
    """

    def __init__(self, directory: Path, image: Path, cue: Callable[[], None]) -> None:
        super().__init__(directory)
        self._cues = [cue]
        for path in image.rglob("*"):
            if path.is_file():
                self.script[f"/{path.relative_to(image)}"] = [Answer(path.read_bytes())]

    def answer(self, target: str) -> Answer:
        with self._lock:
            while "/rootfs" in target and self._cues:
                self._cues.pop()()
        return super().answer(target)


def fill_up(place: Path, spare_bytes: int = 0) -> None:
    """Leaves `spare_bytes`, in whole blocks, of the file system at `place`; removing `place`
    gives all the rest back."""
    with suppress(OSError), open(place, "wb", buffering=0) as filler:
        while filler.write(b"\0" * 1024):
            pass
    os.truncate(place, max(0, place.stat().st_size - spare_bytes))


def use_up_inodes(place: Path) -> None:
    """Makes empty files below `place` until the file system has room for none."""
    place.mkdir()
    with suppress(OSError):
        for number in itertools.count():
            (place / str(number)).touch()


def inside_of(root: Path) -> Path:
    """The standby slot as the `ota` that works on the device below `root` has it mounted."""
    pid = int((root / "run/ota.lock").read_text())
    return Path(f"/proc/{pid}/root/run/ota/standby")


def loops_of(image: Path) -> List[str]:
    """The loop devices of `image`."""
    return run("losetup", "-j", image, "-n", "-O", "NAME").split()


def trigger_error(image: Path) -> None:
    """Lets ext4 find an error in the mounted file system of `image` (sysfs, trigger_fs_error)."""
    (loop,) = loops_of(image)
    Path("/sys/fs/ext4", Path(loop).name, "trigger_fs_error").write_text("by a test")


def lose_content(image: Path, path: str) -> None:
    """Takes the file `path` of the mounted `image`, and all that lies behind it, off the disk."""
    blocks = run("debugfs", "-R", f"blocks {path}", image).split()
    header = run("dumpe2fs", "-h", image).splitlines()
    size = next(line.split()[-1] for line in header if line.startswith("Block size"))
    os.truncate(image, min(map(int, blocks)) * int(size))


@contextmanager
def thin_store(directory: Path) -> Iterator[Path]:
    """A place for sparse images, to be limited by `limit`."""
    with mounted("thin", directory, "size=100M", kind="tmpfs") as store:
        yield store


def limit(store: Path, free_bytes: int) -> None:
    """So many bytes can be written below `store` from now on."""
    found = os.statvfs(store)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    run("mount", "-o", f"remount,size={used + free_bytes}", store)
