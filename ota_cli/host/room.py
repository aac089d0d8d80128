"""Room in a file system: what takes how much of it, asking for it before a write, and the failure
of a write that found none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import NoSpace

BLOCK_BYTES = 4096
_STAT_BLOCK_BYTES = 512


def in_blocks(size: int) -> int:
    """What a file of `size` bytes takes."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def allocated_bytes(path: str) -> int:
    """What the content of `path`, which is not followed, takes: of a sparse file not its size. 0
    where that can not be told."""
    with suppress(OSError):
        return allocated_of(os.lstat(path))
    return 0


def allocated_of(status: os.stat_result) -> int:
    """The same of what stat(2) has told."""
    return status.st_blocks * _STAT_BLOCK_BYTES


def directory_bytes(root: str) -> int:
    """What a small directory takes in the file system of `root`, by what that one itself does: some
    keep directories among their inodes."""
    return os.statvfs(root).f_frsize if allocated_bytes(root) else 0


def require_kernel_room(boot: Path, needed_bytes: int, given_back_bytes: int = 0) -> None:
    """Raises NoSpace where the boot partition lacks room for another kernel and initrd;
    `given_back_bytes` are removed before they are written."""
    free = os.statvfs(boot)
    available = free.f_bavail * free.f_frsize + given_back_bytes
    if needed_bytes > available:
        raise NoSpace(
            f"the boot partition needs {needed_bytes} bytes for the new kernel and has {available}",
            hint=f"remove old kernels from {boot}",
            slug="boot-too-small",
        )


def no_space(what: str) -> NoSpace:
    """`what`, a path in a slot, could not be written because the file system is full."""
    if _has_inodes(what if os.path.isdir(what) else os.path.dirname(what)):
        return NoSpace(
            f"no space left while writing {what}",
            hint="use a smaller image or larger slots; `ota check` tells the space needed",
        )
    return NoSpace(
        f"no inodes left while writing {what}",
        hint="make the slot's file system with more inodes: mkfs.ext4 -N",
    )


def _has_inodes(directory: str) -> bool:
    """Also where that is not known."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return True
    return not disk.f_files or disk.f_favail > 0
