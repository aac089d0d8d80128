"""Which files of a device are persistent: what an image lists and what the device's globs match, as
far as the running slot has it (FORMATS section 1). Nothing is copied here.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

from .errors import DISK_FAILS, DoesNotFit
from .host.inside import resolve, resolve_parent, unreadable
from .host.tree import xattrs_of

#: They tell the names of owners.
ACCOUNTS = ("/etc/passwd", "/etc/group")
#: Minutes of copying for nothing (FIELD-LESSONS 35).
IGNORED = ("/swapfile", "/swap.img")
#: Each directory is held open while what is in it is carried.
MAX_DEPTH = 200
#: What open(2) and others take (PATH_MAX), without the quarter that is left to the slot's own path.
MAX_PATH_BYTES = 3 * 1024


def present(listed: Iterable[str], globs: Iterable[str], running: Path) -> Iterator[str]:
    """What of it the running slot has: these are carried over.

    Raises OSError, SlotUnusable where one can not be read, and DoesNotFit for loops of symlinks.
    """
    wanted = [*listed, *(path for pattern in globs for path in expand(running, pattern))]
    for path in dict.fromkeys(wanted):
        with named(path):
            is_there = path not in IGNORED and _present(running, path)
        if is_there:
            yield path


def carried(
    listed: Iterable[str], globs: Iterable[str], running: Path
) -> Iterator[Tuple[str, os.stat_result]]:
    """All that `persist` would take, each once: where it is in `running`, and what lstat(2) says
    of it. Raises what `present` raises."""
    tops = {resolve_parent(running, path) for path in present(listed, globs, running)}
    for top in tops:
        if tops.isdisjoint(parents(top)):
            yield from _all_of(running, top)


def sources(listed: Iterable[str], globs: Iterable[str], running: Path) -> str:
    """A hash that changes with anything that `persist` would take from `running`: the names and
    inodes of it all, whose change times nobody can set, who its owners are, and the owners and
    modes of the directories that lead there.

    Empty where that can not be told now. Raises what `present` raises, OSError apart.
    """
    hasher = hashlib.sha256()
    try:
        for name in ACCOUNTS:
            hasher.update(_told(running, resolve(running, name)))
        for path in present(listed, globs, running):
            for parent in parents(path):
                hasher.update(_dressed(running, resolve(running, parent)))
            for place, _ in _all_of(running, resolve_parent(running, path)):
                hasher.update(_told(running, place))
    except OSError:
        return ""
    return hasher.hexdigest()


def _all_of(root: Path, top: str) -> Iterator[Tuple[str, os.stat_result]]:
    """`top`, and all that is in it, but for what is gone since it was listed; and what lstat(2)
    says of each. Raises DoesNotFit for what is too deep to be carried."""
    pending = [top]
    while pending:
        path = pending.pop()
        try:
            status = os.lstat(f"{root}{path}")
            names = os.listdir(f"{root}{path}") if stat.S_ISDIR(status.st_mode) else []
        except FileNotFoundError:
            continue  # the running system works on
        yield path, status
        pending += [require_shallow(f"{path}/{name}") for name in sorted(names, reverse=True)]


def require_shallow(path: str) -> str:
    """`path`, unless it is too deep to be carried: that is DoesNotFit."""
    if path.count("/") > MAX_DEPTH or len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise DoesNotFit(
            f"persistent directories are nested too deep, more than {MAX_DEPTH} levels or "
            f"{MAX_PATH_BYTES} bytes: {path[:100]}...",
            hint="remove them, or take what they are in from the list of persistent files",
            slug="persist-too-deep",
        )
    return path


def _dressed(root: Path, path: str) -> bytes:
    """What a directory made like that at `path` gets of it."""
    status = os.lstat(f"{root}{path}")
    attributes = sorted((xattrs_of(f"{root}{path}") or {}).items())
    return repr((path, status.st_mode, status.st_uid, status.st_gid, attributes)).encode()


def _told(root: Path, path: str) -> bytes:
    """What lstat(2) says of `path`; that it is missing is told, too."""
    try:
        found = os.lstat(f"{root}{path}")
    except FileNotFoundError:
        return b"%s\0-\n" % os.fsencode(path)
    numbers = (found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_ino,
               found.st_mtime_ns, found.st_ctime_ns)  # fmt: skip
    return b"%s\0%s\n" % (os.fsencode(path), repr(numbers).encode())


@contextmanager
def named(path: str) -> Iterator[None]:
    """Tells trees that disagree about `path`, and disks that fail at it, from a slot that can not
    be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise conflict(path) from error
        if error.errno == errno.ELOOP:
            raise DoesNotFit(
                f"persistent {path} leads through a loop of symlinks",
                hint="mend the symlink or take the path from the list of persistent files",
                slug="persist-loop",
            ) from error
        if error.errno in DISK_FAILS:
            raise unreadable(f"persistent {path} can not be carried over", error) from error
        raise


def expand(root: Path, pattern: str) -> Iterator[str]:
    """Paths inside `root` that a shell-like `pattern` matches, in sorted order."""
    yield from _expand(root, "", [part for part in pattern.split("/") if part])


def _expand(root: Path, base: str, parts: List[str]) -> Iterator[str]:
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    if not any(sign in head for sign in "*?["):
        yield from _expand(root, f"{base}/{head}", rest)
        return
    try:
        names = os.listdir(f"{root}{resolve(root, base)}")
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(fnmatch.filter(names, head)):
        yield from _expand(root, f"{base}/{name}", rest)


def _present(root: Path, path: str) -> bool:
    try:
        os.lstat(f"{root}{resolve_parent(root, path)}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def parents(path: str) -> Iterator[str]:
    """The directories that `path` lies in, from the top."""
    parts = path.split("/")[1:-1]
    for depth in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:depth])


def conflict(path: str) -> DoesNotFit:
    """The failure of two systems that disagree about `path`."""
    return DoesNotFit(
        f"persistent {path} is a directory in one system and not in the other",
        hint="remove it on the device or from the list of persistent files",
        slug="persist-conflict",
    )
