"""Hashing and copying local content: one read, sha256 always, the page cache left alone."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from ..events import Emit, Warned
from ..model import Digest

CHUNK_BYTES = 256 * 1024
#: Files from this size on are dropped from the page cache once read (FIELD-LESSONS 43).
LARGE_BYTES = 16 * 1024 * 1024
_BATCH = 256

Arrived = Callable[[int], None]


def digest_of(path: str) -> Digest:
    """sha256 of the regular file `path`, which is not followed. Raises OSError."""
    return _read(path, None)[0]


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


def digest_files(
    root: Path, paths: Iterable[str], emit: Emit, arrived: Arrived, *, unlock: bool = False
) -> Dict[str, Digest]:
    """sha256 of each of `paths` below `root`, on all cores.

    `unlock`: also of files whose mode denies reading to their owner, who runs this; never for
    the running slot, which is only read.

    A file that can not be read is reported and left out: content we can not read is content we
    do not have. `arrived` is called with the number of bytes read.
    """
    ordered = list(paths)
    batches = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
    digests: Dict[str, Digest] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = pool.map(lambda batch: _digest_batch(root, batch, unlock), batches)
        for known, size, failures in done:
            digests.update(known)
            arrived(size)
            for failure in failures:
                emit(Warned(failure))
    return digests


def _digest_batch(
    root: Path, paths: List[str], unlock: bool
) -> Tuple[Dict[str, Digest], int, List[str]]:
    known: Dict[str, Digest] = {}
    failures: List[str] = []
    total = 0
    for path in paths:
        try:
            with made_readable(f"{root}{path}") if unlock else nullcontext():
                known[path], size = _read(f"{root}{path}", None)
            total += size
        except OSError as error:
            failures.append(f"{root}{path} can not be read ({error.strerror}); taken as missing")
    return known, total, failures


def copy_hashed(source: str, descriptor: int) -> Tuple[Digest, int]:
    """Appends the content of `source` (not followed) to `descriptor`; its sha256 and size.

    Raises OSError.
    """
    return _read(source, descriptor)


def mtime_of(path: str) -> Optional[int]:
    """Modification time in ns, None when `path` is gone."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def _read(path: str, copy_to: Optional[int]) -> Tuple[Digest, int]:
    """Reads `path` once: its sha256 and size; the bytes also go to `copy_to`, if any."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        hasher = hashlib.sha256()
        size = 0
        while True:
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                break
            hasher.update(chunk)
            if copy_to is not None:
                _write_all(copy_to, chunk)
            size += len(chunk)
        if size >= LARGE_BYTES:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return Digest(hasher.digest()), size
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
