"""The form in which a cached object lies in a file:

    its bytes; its ETag; u64 xxh3-64 of both; u64 size of the bytes; u16 size of the ETag; "ota1"

Nothing is synced. What a power cut tore is told by its sum, which guards our own disk only: who
downloads verifies what it gets.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

_END = struct.Struct("<QQH4s")
_MAGIC = b"ota1"
_PIECE_BYTES = 256 * 1024
#: The longest ETag that is kept; a longer one is left out.
_MAX_ETAG_BYTES = 1024
#: What an object takes beyond its bytes, at most.
OVERHEAD_BYTES = _MAX_ETAG_BYTES + _END.size


class Head(NamedTuple):
    """How an answer begins. `length`: of the whole body, None if the server does not say."""

    length: Optional[int]
    etag: str


class Stored(NamedTuple):
    """An object: the first `size` bytes of `stream`, which is at its start; to be closed."""

    stream: io.FileIO
    size: int
    etag: str

    def head(self) -> Head:
        """How an answer with it begins."""
        return Head(self.size, self.etag)

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Its bytes from `offset` on."""
        self.stream.seek(offset)
        yield from _pieces(self.stream, self.size - offset)

    def close(self) -> None:
        """Ends reading."""
        self.stream.close()


def open_stored(path: Path, *, check: bool) -> Optional[Stored]:
    """The object in the file `path`; None where that is damaged. Raises OSError.

    `check`: read all of it to see that.
    """
    stream = io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    try:
        stored = _described(stream, check)
        stream.seek(0)
    except OSError:
        stream.close()
        raise
    if stored is None:
        stream.close()
    return stored


def _described(stream: io.FileIO, check: bool) -> Optional[Stored]:
    length = os.fstat(stream.fileno()).st_size
    if length < _END.size:
        return None
    end = os.pread(stream.fileno(), _END.size, length - _END.size)
    digest, size, etag_size, magic = _END.unpack(end)
    if magic != _MAGIC or size + etag_size + _END.size != length:
        return None
    if check and _sum(stream, size + etag_size) != digest:
        return None
    return Stored(stream, size, os.pread(stream.fileno(), etag_size, size).decode("latin-1"))


def _sum(stream: io.FileIO, count: int) -> int:
    import xxhash

    hasher = xxhash.xxh3_64()
    for piece in _pieces(stream, count):
        hasher.update(piece)
    return hasher.intdigest()


def _pieces(stream: io.FileIO, count: int) -> Iterator[bytes]:
    """The next `count` bytes, or those there are."""
    while count and (piece := stream.read(min(count, _PIECE_BYTES))):
        count -= len(piece)
        yield piece


class StoredWriter:
    """Writes an object into the new file `path`. All methods raise OSError."""

    def __init__(self, path: Path) -> None:
        import xxhash

        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._stream = io.FileIO(os.open(path, flags, 0o600), "w")
        self._sum = xxhash.xxh3_64()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """The next bytes."""
        self._write(chunk)
        self._sum.update(chunk)
        self._size += len(chunk)

    def finish(self, etag: str) -> int:
        """Makes it whole and closes it; how large the file is."""
        name = etag.encode("latin-1", "replace")
        name = name if len(name) <= _MAX_ETAG_BYTES else b""
        self._sum.update(name)
        self._write(name + _END.pack(self._sum.intdigest(), self._size, len(name), _MAGIC))
        self.close()
        return self._size + len(name) + _END.size

    def close(self) -> None:
        """Ends writing."""
        self._stream.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]
