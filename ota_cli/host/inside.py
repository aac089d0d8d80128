"""Following symlinks inside a slot, as a process chrooted into it would, and reading there.

Absolute targets start at the slot's root and `..` never leaves it, so a path can not lead into
the running system (FIELD-LESSONS 27, 28, 32).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

from ..errors import DoesNotFit, ImageDamaged, SlotUnusable
from .files import read_limited

MAX_SYMLINKS = 40
_MAX_TEXT_BYTES = 1024 * 1024


def resolve_parent(root: Path, path: str) -> str:
    """`path` with its parent resolved inside `root`; the last component is not followed.

    The result is a path inside the slot (`/usr/lib/x` for `/lib/x` on a merged-usr system).
    Parts that do not exist are taken as they are. Raises OSError (ELOOP, ENOTDIR).
    """
    parent, _, name = path.rpartition("/")
    resolved = resolve(root, parent)
    return f"{resolved}/{name}"


def resolve(root: Path, path: str) -> str:
    """`path` with all symlinks resolved inside `root`; the root itself is the empty string."""
    pending = [part for part in reversed(path.split("/")) if part]
    done: List[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        target = link_target(f"{root}/{'/'.join([*done, part])}")
        if not target:
            done.append(part)
            continue
        followed += 1
        if followed > MAX_SYMLINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done.clear()
        pending.extend(reversed(target.split("/")))
    return "".join(f"/{part}" for part in done)


def link_target(place: str) -> str:
    """Where the symlink `place` points; empty for what is none, or is gone."""
    try:
        return os.readlink(place)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return ""
        raise


def text_inside(root: Path, path: str) -> Optional[str]:
    """What the start of the file `path`, followed inside `root`, says; None for no regular file."""
    place = f"{root}{resolve(root, path)}"
    if not os.path.isfile(place):
        return None
    with open(place, encoding="utf-8", errors="replace") as file:
        return file.read(_MAX_TEXT_BYTES)


def whole_text(root: Path, path: str, limit_bytes: int) -> Optional[str]:
    """What the file `path`, followed inside `root`, says; None where nothing is there.

    Raises OSError, DoesNotFit for more than `limit_bytes`, and ImageDamaged for what is no regular
    file: a fifo would be waited for, and a device has no end.
    """
    place = f"{root}{resolve(root, path)}"
    if os.path.lexists(place) and not os.path.isfile(place):
        raise ImageDamaged(f"{place} is not a regular file", slug="not-a-file")
    try:
        return read_limited(place, limit_bytes).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except ImageDamaged:
        what = f"{place} is larger than {limit_bytes} bytes"
        raise DoesNotFit(what, slug="text-too-large") from None


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Raises SlotUnusable, naming `place`, when it is there and can not be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(f"{place} can not be read", error) from error


def unreadable(what: str, error: OSError) -> SlotUnusable:
    """The failure of a disk under a slot that keeps `what` from being done."""
    return SlotUnusable(
        f"{what}: {error.strerror}",
        hint="see `dmesg`: the disk of the running or of the standby slot may be failing",
        slug="unreadable",
    )


def is_executable(root: Path, path: str) -> bool:
    """True when `path`, followed inside `root`, is an executable regular file."""
    try:
        status = os.stat(f"{root}{resolve(root, path)}", follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)
