"""Files on disk: the durable ways to write them.

Invariant: after `write_durably` or `replace_in_place` returned, the new content survives a
power cut; before, the old content does. What GRUB reads must never be renamed over (it replays
no journal): use `replace_in_place` for its environment.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Union

from ..errors import ConfigError, ImageDamaged, NeedsRoot

if TYPE_CHECKING:
    import tempfile

PathLike = Union[str, "os.PathLike[str]"]

_libc = ctypes.CDLL(None, use_errno=True)


def write_durably(path: PathLike, data: bytes, mode: int = 0o644) -> None:
    """Replaces `path` by `data`: temporary file beside it, fsync, rename, fsync of the directory.

    Raises OSError; the temporary file is then gone, and the old content still in place, unless only
    the directory could not be synced: then the new one is, perhaps not for good.
    """
    target = os.fspath(path)
    temporary = f"{target}.ota-new"
    try:
        with os.fdopen(_create(temporary, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, target)
    except BaseException:  # a signal leaves nothing behind either
        _forget(temporary)
        raise
    fsync_directory(os.path.dirname(target) or ".")


def replace_in_place(path: PathLike, data: bytes) -> None:
    """Overwrites the first `len(data)` bytes of an existing file with one pwrite and fdatasync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def remove_durably(path: PathLike) -> None:
    """Removes `path` if it exists; the removal survives a power cut."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    fsync_directory(os.path.dirname(os.fspath(path)) or ".")


def make_directory_durably(path: Path, mode: int = 0o755) -> None:
    """Makes `path` and its missing parents, whatever the umask; each is synced in its parent."""
    if path.is_dir():
        return
    make_directory_durably(path.parent, mode)
    path.mkdir(mode, exist_ok=True)
    path.chmod(mode)
    fsync_directory(path.parent)


def fsync(path: PathLike) -> None:
    """Makes durable what was written to `path`, which is not followed. Raises OSError."""
    _fsync(path, os.O_NOFOLLOW)


def fsync_directory(path: PathLike) -> None:
    """Makes names created, renamed or removed in the directory `path` durable."""
    _fsync(path, os.O_DIRECTORY)


def _fsync(path: PathLike, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def syncfs(path: PathLike) -> None:
    """Writes out the whole file system that holds `path`; raises OSError when that failed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(descriptor)


def writing_hint(path: Path) -> str:
    """What to do where `path` can not be written."""
    return f"is the file system of {path.parent} mounted, and mounted writable? See `dmesg`"


def room_hint(path: Path) -> str:
    """What to do where `path` has no room."""
    kernels = "remove old kernels from /boot, or " if "boot" in path.parts else "remove "
    return f"{kernels}what else fills the file system of {path.parent}"


def is_directory(path: PathLike) -> bool:
    """Whether `path` is a directory, by whatever links.

    Raises NeedsRoot where that may not be seen, ConfigError where it can not be told.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise NeedsRoot(f"{os.fspath(path)} can not be used: {error.strerror}") from None
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)} can not be used: {error.strerror}") from None


def temporary_directory(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """One that is gone after its `with` block. Raises ConfigError where none can be made."""
    import tempfile

    with temporary_errors():
        return tempfile.TemporaryDirectory(prefix=prefix)


@contextmanager
def temporary_errors() -> Iterator[None]:
    """Turns an OSError of the block, which makes what is temporary only, into ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"no temporary directory can be made: {error.strerror}",
            hint="make room in /tmp, or name another directory in TMPDIR",
            slug="no-temporary",
        ) from None


def read_limited(path: PathLike, limit_bytes: int) -> bytes:
    """The content of the regular file `path`; a fifo would be waited for.

    Raises OSError, and ImageDamaged when it is longer than `limit_bytes`.
    """
    with open(path, "rb", opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ImageDamaged(f"{os.fspath(path)} is larger than the limit of {limit_bytes} bytes")
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _create(path: str, mode: int) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, mode)
    return descriptor


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
