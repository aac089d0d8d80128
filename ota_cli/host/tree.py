"""Reading and changing the file tree of a slot, by paths as an image names them.

Nothing here follows a symlink of the slot: scanning uses lstat, opening O_NOFOLLOW, and the
plan has removed every symlink that stood where the image has a directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Container, Dict, Iterable, Iterator, List, Optional, Tuple

from ..core.lines import RESERVED
from ..core.local import STAT, LocalFile, LocalFiles, LocalOther, LocalOthers, LocalTree
from ..entries import told_time
from ..errors import SlotUnusable
from ..events import Emit, Warned
from .inside import link_target, resolve_parent

_KINDS = {
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}

# linux/fs.h: inode flags that make a file refuse to be changed or removed; asked for with the size
# of a C long.
_FS_IOC_GETFLAGS = 0x80006601 | struct.calcsize("l") << 16
_FS_IOC_SETFLAGS = 0x40006602 | struct.calcsize("l") << 16
_FROZEN_FLAGS = 0x10 | 0x20


def scan(root: Path, emit: Emit, *, unlock: bool = False) -> LocalTree:
    """All that lies below `root`, without crossing into other file systems.

    `unlock`: give an owner who is not root, as whom modes mean nothing, access to directories
    whose mode denies reading (only for a slot that is about to be filled; the fill sets the modes
    of the image). Otherwise such directories are reported and taken as empty. Names that are not
    UTF-8 are kept (surrogate escapes).
    Raises SlotUnusable when `root` can not be read.
    """
    others = LocalOthers()
    files = LocalFiles(_regulars(root, emit, others, unlock))
    others.sort()
    return LocalTree(files, others)


def scan_files(root: Path, emit: Emit, sizes: Optional[Container[int]] = None) -> LocalFiles:
    """Like `scan`, only the regular files, and of these only those of one of `sizes`, if given."""
    found = _regulars(root, emit)
    return LocalFiles(file for file in found if sizes is None or file.size in sizes)


def look_at(root: Path, paths: Iterable[str]) -> LocalFiles:
    """Those of `paths` that `scan_files` would find. Raises SlotUnusable like it."""
    device = _device_of(root)

    def found() -> Iterator[LocalFile]:
        for path in paths:
            with suppress(OSError):
                status = os.lstat(f"{root}{path}")
                is_here = status.st_dev == device and resolve_parent(root, path) == path
                if is_here and stat.S_ISREG(status.st_mode):
                    yield _file(path, status)

    return LocalFiles(found())


def _regulars(
    root: Path, emit: Emit, others: Optional[LocalOthers] = None, unlock: bool = False
) -> Iterator[LocalFile]:
    """The regular files below `root`, one directory after the other; all else goes to `others`."""
    pending: List[str] = [""]
    device = _device_of(root)
    while pending:
        directory = pending.pop()
        for name, status in _entries(root, directory, emit, unlock):
            path = f"{directory}/{name}"
            if path == RESERVED or (path == "/lost+found" and stat.S_ISDIR(status.st_mode)):
                continue
            if stat.S_ISREG(status.st_mode):
                yield _file(path, status)
                continue
            if others is not None:
                others.append(_other(root, path, status))
            if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                pending.append(path)


def let_owner_write(root: Path, local: LocalTree) -> None:
    """Lets an owner who is not root change every directory; the fill sets their modes."""
    for path, other in local.others.items():
        if other.kind == "d":
            _let_owner(f"{root}{path}", 0o700)


def own_directory(place: Path) -> None:
    """Makes `place` a directory of our own, mode 0700, whatever stood there. Raises OSError.

    A symlink there would lead what is written and removed below it out of the slot.
    """
    if os.path.lexists(place) and not stat.S_ISDIR(os.lstat(place).st_mode):
        os.unlink(place)
    place.mkdir(mode=0o700, exist_ok=True)
    os.chmod(place, 0o700)


def folds_case(place: Path) -> bool:
    """Whether the file system takes the name of `place` in capitals for it. Raises OSError."""
    try:
        capitals = os.lstat(place.with_name(place.name.upper()))
    except FileNotFoundError:
        return False
    return os.path.samestat(capitals, os.lstat(place))


def remove_all(place: str) -> None:
    """Removes a file, or a directory with all that is in it; symlinks are not followed."""
    if stat.S_ISDIR(os.lstat(place).st_mode):
        shutil.rmtree(place)
    else:
        os.unlink(place)


def is_own_file(place: Path) -> bool:
    """Whether `place` is a regular file that has no second name anywhere."""
    status = os.lstat(place)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def remove(root: Path, path: str) -> None:
    """Removes one file, symlink, node or empty directory; frozen files are thawed first.

    Raises OSError. A directory that is not empty because of a mount in it stays an error.
    """
    target = f"{root}{path}"
    try:
        _unlink(target)
    except PermissionError as error:
        if error.errno != errno.EPERM or not _thaw(target):
            raise
        _unlink(target)


def _unlink(target: str) -> None:
    try:
        os.unlink(target)
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.lstat(target).st_mode):
            raise
        os.rmdir(target)


def thaw_below(root: Path) -> int:
    """Clears immutable and append-only of everything below `root`; how many had them."""
    thawed = 0
    for directory, names, files in os.walk(root):
        thawed += sum(_thaw(f"{directory}/{name}") for name in (*names, *files))
    return thawed


def _thaw(target: str) -> bool:
    """Clears immutable and append-only of a file or directory; False where it had neither, or
    where that is impossible."""
    mode = os.lstat(target).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return False
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        flags = bytearray(8)
        fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, flags)
        value = int.from_bytes(flags[:4], "little")
        if not value & _FROZEN_FLAGS:
            return False
        flags[:4] = (value & ~_FROZEN_FLAGS).to_bytes(4, "little")
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, bytes(flags))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _device_of(root: Path) -> int:
    try:
        return os.stat(root).st_dev
    except OSError as error:
        raise SlotUnusable(f"{root} can not be read: {error.strerror}") from None


def _entries(
    root: Path, directory: str, emit: Emit, unlock: bool
) -> Iterator[Tuple[str, os.stat_result]]:
    place = f"{root}{directory}"
    try:
        listing = _listing(place, unlock)
        stated = ((entry.name, _status(entry)) for entry in listing)
        found = [(name, status) for name, status in stated if status is not None]
    except OSError as error:
        if unlock:
            raise SlotUnusable(f"{place} can not be read: {error.strerror}") from None
        emit(Warned(f"{place} can not be read ({error.strerror}); taken as empty"))
        return
    yield from found


def _listing(place: str, unlock: bool) -> List[os.DirEntry[str]]:
    if unlock:
        _let_owner(place, 0o500)
    with os.scandir(place) as listing:
        entries = list(listing)
    if entries and not os.access(place, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
    return entries


def _status(entry: os.DirEntry[str]) -> Optional[os.stat_result]:
    """None for what is gone since it was listed: the running system works on."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _let_owner(place: str, wanted: int) -> None:
    mode = os.lstat(place).st_mode
    if os.geteuid() != 0 and mode & wanted != wanted:
        os.chmod(place, stat.S_IMODE(mode) | 0o700)


def stat_at(root: Path, path: str) -> bytes:
    """What `LocalFiles.stat` says of the regular file at `path`, as it is now. Raises OSError."""
    return STAT.pack(*_stat(os.lstat(f"{root}{path}")))


def _stat(status: os.stat_result) -> Tuple[int, int, int, int]:
    """What tells that a file was changed, as `STAT` has it."""
    mtime_ns, ctime_ns = told_time(status.st_mtime_ns), told_time(status.st_ctime_ns)
    return status.st_size, mtime_ns, ctime_ns, status.st_ino


def _file(path: str, status: os.stat_result) -> LocalFile:
    return LocalFile(
        path, *_stat(status), status.st_uid, status.st_gid, status.st_nlink,
        stat.S_IMODE(status.st_mode),
    )  # fmt: skip


def _other(root: Path, path: str, status: os.stat_result) -> LocalOther:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    target = link_target(f"{root}{path}") if kind == "l" else ""
    device = status.st_rdev if kind in "bc" else 0
    return LocalOther(
        path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid,
        target, device,
    )  # fmt: skip


def has_xattrs(descriptor: int) -> bool:
    """Whether an open file has extended attributes."""
    try:
        return bool(os.listxattr(descriptor))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise


def xattrs_of(target: str, *, follow: bool = False) -> Optional[Dict[str, bytes]]:
    """Extended attributes of `target`; None where the file system has none."""
    try:
        names = os.listxattr(target, follow_symlinks=follow)
        return {name: os.getxattr(target, name, follow_symlinks=follow) for name in names}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return None
        raise
