"""Writing a body while checking it: nothing that is not what was asked for gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

import zstandard

from ..errors import ImageDamaged, NoSpace, OtaError, SlotUnusable
from ..model import Digest
from .net_retry import Again

WINDOW_BYTES = 128 * 1024 * 1024


class Blob(NamedTuple):
    """One content to fetch. `location`: percent-encoded, relative to the base URL.

    `compressed`: the body is zstd of the content. `size`: of the content, None if not known.
    """

    digest: Digest
    size: Optional[int]
    location: str
    compressed: bool


class _Decoder(Protocol):
    def decompress(self, data: bytes) -> bytes: ...


class BlobFile:
    """A file that grows from `.part` to its name once size and sha256 are right."""

    def __init__(self, directory: Path, blob: Blob) -> None:
        self._blob = blob
        self._final = directory / blob.digest.hex()
        self._part = directory / f"{blob.digest.hex()}.part"
        self._hasher = hashlib.sha256()
        self._written = 0
        self.fed = 0
        self._limit = blob.size if blob.size is not None else _free_bytes(directory)
        self._decoder: Optional[_Decoder] = None
        if blob.compressed:
            unbounded = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
            self._decoder = unbounded.decompressobj(write_size=1 << 17)
        with writing(self._part):
            self._descriptor = os.open(
                self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )  # fmt: skip

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body. Raises Again (wrong), NoSpace, SlotUnusable."""
        self.fed += len(chunk)
        if self._decoder is not None:
            try:
                for piece in _pieces(self._decoder, chunk, self._limit - self._written):
                    self._write(piece)
            except zstandard.ZstdError as error:
                raise self._wrong(f"it can not be decompressed ({error})") from None
        else:
            self._write(chunk)

    def finish(self) -> None:
        """Gives the file its name. Raises Again when the content is not the wanted one."""
        if self._blob.size is not None and self._written != self._blob.size:
            raise self._wrong(f"it has {self._written} bytes instead of {self._blob.size}")
        if self._hasher.digest() != self._blob.digest:
            raise self._wrong("its sha256 is another")
        with writing(self._part):
            os.close(self._descriptor)
            self._descriptor = -1
            os.rename(self._part, self._final)

    def close(self) -> None:
        """Removes what was not finished."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            os.unlink(self._part)

    def _write(self, data: bytes) -> None:
        if self._written + len(data) > self._limit:
            raise self._wrong(f"it is larger than {self._limit} bytes")
        self._hasher.update(data)
        with writing(self._part):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._written += len(data)

    def _wrong(self, why: str) -> Again:
        failure = ImageDamaged(
            f"{self._blob.location} is not what the signed image says: {why}",
            hint="the image on the server is damaged; ask its publisher",
            slug="wrong-content",
        )
        return Again(failure, wrong=True)


def _pieces(decoder: _Decoder, chunk: bytes, room: int) -> list[bytes]:
    """Decompressed output of `chunk`, fed in slices so that a bomb stops at `room` bytes.

    One slice of input can blow up by the format's limit, so slices are small.
    """
    pieces = []
    total = 0
    for start in range(0, len(chunk), 1024):
        piece = decoder.decompress(chunk[start : start + 1024])
        pieces.append(piece)
        total += len(piece)
        if total > room:
            break
    return pieces


class writing:  # noqa: N801 (reads as a statement)
    """Turns an OSError of the block into the failure of the slot that is written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        if isinstance(error, OSError):
            raise _failure(self._path, error) from error


def _failure(path: Path, error: OSError) -> OtaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"no space left while writing {path}",
            hint="use a smaller image or larger slots; `ota check` tells the space needed",
        )
    return SlotUnusable(f"{path} can not be written: {error.strerror}")


def _free_bytes(directory: Path) -> int:
    free = os.statvfs(directory)
    return free.f_bavail * free.f_frsize
