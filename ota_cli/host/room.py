"""The failure of a write that found no room, and of what there is none."""

from __future__ import annotations

import os

from ..errors import NoSpace


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
