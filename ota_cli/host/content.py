"""Hashing and copying local content: one read, sha256 always, the page cache left alone."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
import threading
from collections import deque
from contextlib import closing, contextmanager
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Deque,
    Generator,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    TypeVar,
)

from ..entries import Digest
from ..events import Emit, Warned
from .interrupts import deferred

if TYPE_CHECKING:
    from concurrent.futures import Future

CHUNK_BYTES = 256 * 1024
#: Files from this size on are dropped from the page cache once read (FIELD-LESSONS 43).
LARGE_BYTES = 16 * 1024 * 1024
_BATCH = 256
#: So many bytes are read by a thread before it tells of them.
_TALLY_BYTES = 4 * 1024 * 1024

Arrived = Callable[[int], None]
Item = TypeVar("Item")
Made = TypeVar("Made")


class Copied(NamedTuple):
    """What was copied, as it was read, and when the source was changed last."""

    digest: Digest
    size: int
    mtime_ns: int


def digest_of(path: str) -> Digest:
    """sha256 of the regular file `path`, which is not followed. Raises OSError."""
    return _digest(path, None, False, _nobody)[0]


@contextmanager
def made_readable(path: str) -> Iterator[None]:
    """Lets its owner read a file whose mode denies it, for the time of the block."""
    if os.geteuid() == 0:
        yield
        return
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o400 or status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        yield
        return
    os.chmod(path, mode | 0o400)
    try:
        yield
    finally:
        os.chmod(path, mode)


class Stopped(Exception):
    """Work ended before it was done, because whoever wanted it is gone."""


def in_turn(
    work: Callable[[List[Item]], Made], items: Iterable[Item], size: int, stop: threading.Event
) -> Generator[Made, None, None]:
    """What `work` makes of `items`, up to `size` at a time, in their order and on all cores.

    Only a few batches are there at once. `stop` is set when the iterator ends, perhaps before all
    is done: `work` may end then, too. To be closed: no thread is at work afterwards.
    """
    from concurrent.futures import ThreadPoolExecutor  # not for verbs that hash a file or two

    def made(batch: List[Item]) -> Made:
        if stop.is_set():
            raise Stopped
        return work(batch)

    cores, remaining = os.cpu_count() or 1, iter(items)
    with ThreadPoolExecutor(cores) as pool:
        begun: Deque[Future[Made]] = deque()
        try:
            while batch := list(itertools.islice(remaining, size)):
                with deferred():
                    begun.append(pool.submit(made, batch))
                if len(begun) > 2 * cores:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            stop.set()


def digest_files(
    root: Path,
    files: Iterable[Tuple[str, int]],
    emit: Emit,
    arrived: Arrived,
    *,
    unlock: bool = False,
) -> Generator[Optional[Digest], None, None]:
    """sha256 of each of `files` below `root`, in their order, on all cores.

    `files`: paths, with the bytes that each is thought to have; one that has others is read whole
    all the same. `unlock`: also of files whose mode denies reading to their owner, who runs this;
    never for the running slot, which is only read.

    A file that can not be read is reported and None: content we can not read is content we do not
    have. `arrived` is called with numbers of bytes read, from any thread. To be closed by whoever
    may fail meanwhile: nothing is read afterwards.
    """
    stop = threading.Event()

    def digested(batch: _Batch) -> _Digested:
        return _digest_batch(root, batch, unlock, _Tally(arrived, stop))

    with closing(in_turn(digested, files, _BATCH, stop)) as batches:
        for batch in batches:
            for failure in batch.failures:
                emit(Warned(failure))
            yield from batch.digests


_Batch = List[Tuple[str, int]]


class _Digested(NamedTuple):
    digests: List[Optional[Digest]]
    failures: List[str]


class _Tally:
    """Passes on numbers of bytes, several at a time: many threads tell one meter. Raises Stopped
    instead once `stop` is set."""

    def __init__(self, arrived: Arrived, stop: threading.Event) -> None:
        self._arrived = arrived
        self._stop = stop
        self._held = 0

    def add(self, count: int) -> None:
        self._held += count
        if self._held >= _TALLY_BYTES:
            self.flush()

    def flush(self) -> None:
        held, self._held = self._held, 0
        if self._stop.is_set():
            raise Stopped
        if held:
            self._arrived(held)


def _digest_batch(root: Path, files: _Batch, unlock: bool, tally: _Tally) -> _Digested:
    digests: List[Optional[Digest]] = []
    failures: List[str] = []
    for path, expected in files:
        try:
            digest, _ = _digest(f"{root}{path}", expected, unlock, tally.add)
        except OSError as error:
            failures.append(f"{root}{path} can not be read ({error.strerror}); taken as missing")
            digests.append(None)
            continue
        digests.append(digest)
    tally.flush()
    return _Digested(digests, failures)


def _nobody(count: int) -> None:
    """Who does not want to know how much was read."""


def _digest(
    path: str, expected: Optional[int], unlock: bool, arrived: Arrived
) -> Tuple[Digest, int]:
    try:
        with _opened(path) as descriptor:
            return _read(path, descriptor, None, expected, arrived)
    except PermissionError:
        if not unlock:
            raise
    with made_readable(path):
        return _digest(path, expected, False, arrived)


def copy_hashed(source: str, descriptor: int, arrived: Arrived = _nobody) -> Copied:
    """Appends the content of `source` (not followed) to `descriptor`. Raises OSError, which names
    `source` where that can not be read, and nothing where `descriptor` can not be written.

    `arrived` is called with numbers of bytes copied.
    """
    with _opened(source) as opened:
        status = os.fstat(opened)
        digest, size = _read(source, opened, descriptor, status.st_size, arrived)
        return Copied(digest, size, status.st_mtime_ns)


def data_of(descriptor: int) -> Iterator[Tuple[int, memoryview]]:
    """What an open file has from where on, in pieces: each is good until the next is asked for.

    Between them are holes, and after the last. Raises OSError.
    """
    done, place = 0, _chunks.place
    for start, end in _extents(descriptor):
        os.lseek(descriptor, start, os.SEEK_SET)
        while start < end and (count := os.readv(descriptor, (place[: end - start],))):
            yield start, place[:count]
            start += count
            done += count
    if done >= LARGE_BYTES:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _extents(descriptor: int) -> Iterator[Tuple[int, int]]:
    """From where to where an open file has data: everywhere, if its file system does not tell."""
    size, end = os.fstat(descriptor).st_size, 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = end, size
        yield start, min(end, size)


def write_at(descriptor: int, offset: int, piece: memoryview) -> None:
    """Writes all of `piece`. Raises OSError."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    _write_all(descriptor, piece)


def drop_from_cache(path: str) -> None:
    """Makes the next read of what is on the disk already come from there. Raises OSError."""
    with _opened(path) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class _opened:  # noqa: N801 (used as a function; a generator takes several times as long)
    """A file for reading, for the time of the block; symlinks are not followed."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _read(
    path: str, descriptor: int, copy_to: Optional[int], expected: Optional[int], arrived: Arrived
) -> Tuple[Digest, int]:
    """Reads the open file `path` once: its sha256 and size; the bytes also go to `copy_to`, if any.

    `expected`: its size, if known; it saves the read that finds the end.
    """
    hasher = hashlib.sha256()
    size, place = 0, _chunks.place
    while count := _read_into(place, descriptor, path):
        chunk = place[:count]
        hasher.update(chunk)
        if copy_to is not None:
            _write_all(copy_to, chunk)
        size += count
        arrived(count)
        if size == expected and count < CHUNK_BYTES:
            break
    if size >= LARGE_BYTES:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return Digest(hasher.digest()), size


def _read_into(place: memoryview, descriptor: int, path: str) -> int:
    """readv(2) whose error names the file, as that of opening it does: writing it elsewhere can
    fail, too."""
    try:
        return os.readv(descriptor, (place,))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


class _Chunks(threading.local):
    """A place to read into for each thread: memory that is asked for anew for each chunk costs
    more in page faults than hashing it does."""

    def __init__(self) -> None:
        self.place = memoryview(bytearray(CHUNK_BYTES))


_chunks = _Chunks()


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]
