"""The objects that were fetched before, by key: within bounds, and right or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Set, Tuple

from ..host.files import make_directory_durably
from ..host.tree import own_directory, remove_all
from .stored import OVERHEAD_BYTES, Stored, StoredWriter, open_stored

_KEY = re.compile(r"(?:url-)?[0-9a-f]{64}(?:\.zst)?")
_DRAFT = ".part"
_STEP_BYTES = 256 * 1024


class Limits(NamedTuple):
    """Beyond `soft_bytes` goes what was used longest ago; `hard_bytes` are never exceeded."""

    soft_bytes: int
    hard_bytes: int


def limits_of(directory: Path) -> Limits:
    """Half and three quarters of what is free there or a cache uses already. Raises OSError."""
    disk = os.statvfs(directory)
    used = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory))
    room = disk.f_bavail * disk.f_frsize + used
    return Limits(room // 2, room * 3 // 4)


class Cache:
    """The objects in `directory`, for all threads of one process.

    An object is a file with the name of its key, which it gets when it is whole; making a cache
    removes what a killed process left unfinished. Raises OSError.
    """

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict(_by_use(directory))
        self._bytes = sum(self._sizes.values())
        #: What this process has written or summed up: it need not be read twice.
        self._sound: Set[str] = set()

    def find(self, key: str) -> Optional[Stored]:
        """The object `key`, if it is here and as it was stored."""
        with self._lock:
            if key not in self._sizes:
                return None
            self._sizes.move_to_end(key)
            is_sound = key in self._sound
        stored = None
        with suppress(OSError):
            stored = open_stored(self._directory / key, check=not is_sound)
        if stored is None:
            self.drop(key)
            return None
        now = time.time_ns()
        with suppress(OSError):  # only for the next process to know the order
            os.utime(stored.stream.fileno(), ns=(now, now))
        self._sound.add(key)
        return stored

    def drop(self, key: str) -> None:
        """Forgets the object `key`."""
        with self._lock:
            self._remove(key)

    def begin(self, key: str) -> Optional[Draft]:
        """A new object; None where there is no room for any."""
        if not self.reserve(_STEP_BYTES):
            return None
        try:
            return Draft(self, self._directory, key)
        except OSError:
            self.give_back(_STEP_BYTES)
            return None

    def reserve(self, count: int) -> bool:
        """Counts `count` more bytes, for which others may go; False where that is too much."""
        with self._lock:
            while self._sizes and self._bytes + count > self._limits.soft_bytes:
                self._remove(next(iter(self._sizes)))
            if self._bytes + count > self._limits.hard_bytes:
                return False
            self._bytes += count
            return True

    def give_back(self, count: int) -> None:
        """Takes back what `reserve` counted."""
        with self._lock:
            self._bytes -= count

    def take(self, draft: Path, key: str, size: int) -> None:
        """Makes the whole object in `draft`, whose bytes are counted, that of `key`."""
        with self._lock:
            self._remove(key)
            os.rename(draft, self._directory / key)
            self._sizes[key] = size
            self._sound.add(key)

    def _remove(self, key: str) -> None:
        if key in self._sizes:
            self._bytes -= self._sizes.pop(key)
            self._sound.discard(key)
            with suppress(OSError):
                os.unlink(self._directory / key)

    def can_hold(self, count: int) -> bool:
        """Whether an object of `count` bytes is not too large for all of it."""
        return count + OVERHEAD_BYTES <= self._limits.hard_bytes


class NeverFits(OSError):
    """An object is larger than all that the cache may take."""


class Draft:
    """An object on its way into a cache. What was added can be read from the file `path`."""

    def __init__(self, cache: Cache, directory: Path, key: str) -> None:
        self.path = directory / f"{key}{_DRAFT}"
        self._cache = cache
        self._key = key
        self._reserved = _STEP_BYTES
        self._size = 0
        self._writer = StoredWriter(self.path)

    def require_room(self, count: int) -> None:
        """Raises NeverFits for an object of `count` bytes, or more, that the cache can not hold."""
        if not self._cache.can_hold(count):
            raise NeverFits(errno.ENOSPC, "it is larger than the cache", str(self.path))

    def add(self, chunk: bytes) -> None:
        """The next bytes. Raises OSError, ENOSPC also where the cache must not grow now, and
        NeverFits."""
        self._size += len(chunk)
        missing = self._size + OVERHEAD_BYTES - self._reserved
        if missing > 0:
            more = max(missing, _STEP_BYTES)
            if not self._cache.reserve(more):
                self.require_room(self._reserved + more)  # is it too much by itself?
                raise OSError(errno.ENOSPC, "the cache is full", str(self.path))
            self._reserved += more
        self._writer.add(chunk)

    def finish(self, etag: str) -> None:
        """Puts the whole object into the cache. Raises OSError."""
        size = self._writer.finish(etag)
        self._cache.take(self.path, self._key, size)
        self._cache.give_back(self._reserved - size)
        self._reserved = 0

    def discard(self) -> None:
        """Leaves nothing of an object that was not finished."""
        self._writer.close()
        if self._reserved:
            self._cache.give_back(self._reserved)
            self._reserved = 0
            with suppress(OSError):
                os.unlink(self.path)


@contextmanager
def open_cache(directory: Path) -> Iterator[Cache]:
    """The cache in `directory`, which is made if need be, for this process only.

    Raises OSError, BlockingIOError while another process has it.
    """
    make_directory_durably(directory.parent)
    own_directory(directory)
    claim = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Cache(directory, limits_of(directory))
    finally:
        os.close(claim)


def _by_use(directory: Path) -> Iterator[Tuple[str, int]]:
    """Key and size of each object, used longest ago first; removes all else."""
    found = []
    for entry in list(os.scandir(directory)):
        if _KEY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            found.append((status.st_mtime_ns, entry.name, status.st_size))
        else:
            remove_all(entry.path)
    return ((name, size) for _, name, size in sorted(found))
