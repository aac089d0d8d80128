"""Mounts that can not outlive this process.

A changing `ota` moves into a mount namespace of its own before its first mount. The kernel
takes these mounts down when the process ends, however it ends: a SIGKILL leaves neither stale
mounts nor loop devices behind (a loop device set up by `mount -o loop` goes with its mount).
On ordinary exits mounts are undone in reverse order and a failing umount is an error; after a
failure the mount goes at once, and what it showed when the last thread has left it.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence

from ..errors import NeedsRoot, SlotUnusable
from .files import make_directory_durably
from .run import CommandFailed, run

_CLONE_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)
_FSCK_TIMEOUT_S = 1800.0
_OPENED_AT = Path("/run/ota/opened")

#: How the names begin that these give to devices of the device mapper.
_STACKED = {"LVM-": "LVM", "CRYPT-": "encryption"}

STANDBY_OPTIONS = ("nosuid", "nodev", "noexec", "noatime")


def enter_private_namespace() -> None:
    """Gives this process its own mount table, from which nothing propagates.

    Call it before threads are started. Raises NeedsRoot, and SlotUnusable in a chroot whose root
    is no mount point: mounts made there could propagate to the system outside.
    """
    if _libc.unshare(_CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise NeedsRoot(
            f"mounting a slot needs root ({os.strerror(number)})", hint="run it with sudo"
        )
    try:
        run(["mount", "--make-rprivate", "/"])
    except CommandFailed:
        raise SlotUnusable(
            "slots can not be mounted here: `/` is not a mount point, as in a plain chroot",
            hint="bind-mount the directory of the chroot onto itself before entering it",
        ) from None


@contextmanager
def mounted(source: str, target: Path, options: Sequence[str]) -> Iterator[Path]:
    """Mounts `source` on the directory `target` for the time of the block.

    Raises SlotUnusable when it can not be mounted or, after the block, not be unmounted (then
    data may not have reached the disk).
    """
    make_directory_durably(target)
    try:
        run(["mount", "-o", ",".join(options), source, str(target)])
    except CommandFailed as error:
        raise SlotUnusable(
            f"{source} can not be mounted: {error.message}",
            hint="see `dmesg`; `ota update` makes a new file system in a standby slot whose own is "
            "damaged",
        ) from None
    with _until_unmounted(source, target):
        yield target


@contextmanager
def _until_unmounted(source: str, target: Path) -> Iterator[None]:
    """Takes away what is mounted on `target` after the block, as `mounted` promises.

    Where the block fails, threads that it began may be busy there for a moment; that they are
    must not be what the user is told.
    """
    is_done = False
    try:
        yield
        is_done = True
    finally:
        if not is_done:
            with suppress(CommandFailed):  # it goes with this process
                run(["umount", "--lazy", str(target)])
    try:
        run(["umount", str(target)])
    except CommandFailed as error:
        raise SlotUnusable(f"{source} can not be unmounted: {error.message}") from None


def check_file_system(node: str, holding: Sequence[int] = ()) -> None:
    """Has e2fsck find or make an ext4 clean (e2fsck(8): 0 clean, 1 corrected).

    `holding`: as in `run`.
    Raises CommandFailed where it can not, without a `returncode` where it did not run to its end.
    """
    run(["e2fsck", "-p", node], ok=(0, 1), timeout_s=_FSCK_TIMEOUT_S, holding=holding)


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The tree at `place` for writing: a directory, else a device or disk-image file that nobody
    uses, checked by e2fsck and mounted in a namespace of its own.

    Raises NeedsRoot, and SlotUnusable like `mounted`.
    """
    if place.is_dir():
        yield place
        return
    enter_private_namespace()
    try:
        check_file_system(str(place))
    except CommandFailed as error:
        raise SlotUnusable(
            f"{place} holds no file system that is whole: {error.message}",
            hint="`ota update` makes a new one in a slot; `mkfs.ext4` does elsewhere",
        ) from None
    options = [*STANDBY_OPTIONS, *(["loop"] if place.is_file() else [])]
    with mounted(str(place), _OPENED_AT, options) as root:
        yield root


@contextmanager
def read_only_view(directory: Path, target: Path) -> Iterator[Path]:
    """Shows what is mounted at `directory`, and nothing mounted below it, read-only at `target`."""
    make_directory_durably(target)
    try:
        run(["mount", "--bind", str(directory), str(target)])
    except CommandFailed as error:
        raise SlotUnusable(f"{directory} can not be viewed: {error.message}") from None
    with _until_unmounted(str(directory), target):
        run(["mount", "-o", "remount,bind,ro", str(target)])
        yield target


class MountPoint(NamedTuple):
    """A line of mountinfo: `device` is `major:minor`; `root` the mounted part of it; `kind` the
    file system's name."""

    device: str
    root: str
    path: str
    kind: str

    @property
    def stacked(self) -> str:
        """Which of LVM, encryption and RAID it lies on, if any (sysfs)."""
        block = Path("/sys/dev/block") / self.device
        with suppress(OSError):
            uuid = (block / "dm/uuid").read_text("ascii")
            return next((name for mark, name in _STACKED.items() if uuid.startswith(mark)), "")
        return "RAID" if (block / "md").exists() else ""


def mount_points() -> List[MountPoint]:
    """All mounts this process sees (proc(5), mountinfo)."""
    with open(
        "/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
    ) as lines:  # a name may have a \r in it
        fields = [line.split(" ") for line in lines]
    return [
        MountPoint(f[2], _unescape(f[3]), _unescape(f[4]), f[f.index("-", 6) + 1]) for f in fields
    ]


def _unescape(text: str) -> str:
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text
