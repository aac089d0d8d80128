"""Room on file systems: asked for before a write, and what there is none of where one failed."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import NoSpace

_BLOCK_BYTES = 4096


def in_blocks(size: int) -> int:
    """What a file of `size` bytes takes."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


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
