"""Writing a body while checking it: nothing but what was asked for gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import zstandard

from ..entries import Digest
from ..errors import ImageDamaged, NoSpace, OtaError, SlotUnusable
from .net_retry import Again
from .net_unpack import Unpacker

#: More of a body than this, beyond its content, is no zstd of it (RFC 8878: blocks of 128 KiB).
_OVERHEAD_BYTES = 1024 * 1024
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Blob(NamedTuple):
    """One content to fetch. `location`: percent-encoded, relative to the base URL.

    `compressed`: the body is zstd of the content. `size`: of the content, None if not known.
    """

    digest: Digest
    size: Optional[int]
    location: str
    compressed: bool


class BlobFile:
    """A file that grows as `<hex digest>.part` and gets its name once size and sha256 are right.

    Nothing is on disk before the first `feed` and, unless finished, nothing after `close`.
    `received`: bytes of the body so far.
    """

    def __init__(self, directory: Path, blob: Blob, window_bytes: int) -> None:
        self._blob = blob
        self._final = directory / blob.digest.hex()
        self._part = directory / f"{blob.digest.hex()}.part"
        self._hasher = hashlib.sha256()
        self._written = 0
        self._descriptor = -1
        self._unpacker = Unpacker(self._write, window_bytes) if blob.compressed else None
        self.received = 0

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body.

        Raises Again (wrong), MoreMemory (ask again with more), NoSpace, SlotUnusable.
        """
        self.received += len(chunk)
        if self._unpacker is None:
            self._write(chunk)
        else:
            with self._unpacking():
                self._unpacker.feed(chunk)
        if self.received > self._written + self._written // 64 + _OVERHEAD_BYTES:
            raise self._wrong(f"{self.received} bytes hold only {self._written} of content")

    def finish(self) -> None:
        """Gives the file its name. Raises Again (wrong), NoSpace, SlotUnusable."""
        if self._unpacker is not None:
            with self._unpacking():
                self._unpacker.finish()
        if self._blob.size is not None and self._written != self._blob.size:
            raise self._wrong(f"it has {self._written} bytes instead of {self._blob.size}")
        if self._hasher.digest() != self._blob.digest:
            raise self._wrong("its sha256 is another")
        with _disk_errors(self._part):
            descriptor, self._descriptor = self._open(), -1
            os.close(descriptor)
            os.rename(self._part, self._final)

    def close(self) -> None:
        """Removes what was not finished, and lets go of the memory now.

        It and its unpacker hold each other: the collector would come by too late.
        """
        self._unpacker = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.unlink(self._part)

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        try:
            yield
        except zstandard.ZstdError as error:
            raise self._wrong(f"it can not be decompressed ({error})") from None

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self._part, _FLAGS, 0o600)
        return self._descriptor

    def _write(self, data: bytes) -> None:
        self._check_room(len(data))
        self._hasher.update(data)
        with _disk_errors(self._part):
            descriptor = self._open()
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        self._written += len(data)

    def _check_room(self, count: int) -> None:
        """The declared size bounds what is written; where there is none, the disk does."""
        size = self._blob.size
        if size is not None and self._written + count > size:
            raise self._wrong(f"it is larger than {size} bytes")
        if size is None and count > _free_bytes(self._final.parent):
            raise _no_space(self._part)

    def _wrong(self, why: str) -> Again:
        failure = ImageDamaged(
            f"{self._blob.location} is not what the signed image says: {why}",
            hint="the image on the server is damaged or half uploaded; ask its publisher",
            slug="wrong-content",
        )
        return Again(failure, wrong=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into the failure of the slot that is written."""
    try:
        yield
    except OSError as error:
        raise _disk_failure(path, error) from error


def _disk_failure(path: Path, error: OSError) -> OtaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(path)
    return SlotUnusable(
        f"{path} can not be written: {error.strerror}",
        hint="the kernel log tells more about the device",
    )


def _no_space(path: Path) -> NoSpace:
    return NoSpace(
        f"no space left while writing {path}",
        hint="use a smaller image or larger slots; `ota check` tells the space needed",
    )


def _free_bytes(directory: Path) -> int:
    with _disk_errors(directory):
        free = os.statvfs(directory)
    return free.f_bavail * free.f_frsize
