"""The index of a slot: which content its last fill left where, so that less has to be read again.

It is a hint. A file that has the size, times and inode of its entry is thought to hold what it
held then; whoever copies it hashes it all the same. `/.ota/index` of the slot:

    8 bytes   magic and version
    8 bytes   xxh3-64 of the rest
    zstd of   for each regular file: i64 size, mtime, ctime; u64 inode; 32 bytes sha256;
              u16 length of the path; the path, as the file system has it

DESIGN wants an xxh3 of each content in it, too. Nothing would read that: wherever content is
looked at, its sha256 is needed anyway.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, NamedTuple

from ..core.local import STAT, Known, LocalFiles
from ..entries import Digest

INDEX = "index"
_MAGIC = b"ota-ix\0\1"
_ROW = struct.Struct(f"<{STAT.size}s32sH")
_HEAD = struct.Struct("<8sQ")
_PIECE_BYTES = 256 * 1024


class Indexed(NamedTuple):
    """One regular file: its `LocalFiles.stat`, and the sha256 of what it holds."""

    path: str
    stat: bytes
    digest: Digest


def write_index(directory: Path, indexed: Iterable[Indexed]) -> None:
    """Keeps `indexed` below `directory`; one that is there and equal is not replaced.

    Raises OSError. Not flushed: whatever is torn fails the checksum.
    """
    path, fresh = directory / INDEX, directory / f"{INDEX}.new"
    with open(fresh, "w+b", opener=_private) as stream:
        stream.write(bytes(_HEAD.size))
        _write_rows(stream, indexed)
        head = _HEAD.pack(_MAGIC, _sum(stream))
        stream.seek(0)
        stream.write(head)
    if _is_same(path, head, fresh.stat().st_size):
        os.unlink(fresh)
    else:
        os.rename(fresh, path)


def most_bytes(files: int) -> int:
    """How large an index of so many files becomes at most: names and times are compressed to less
    than a row is without its name."""
    return _HEAD.size + files * _ROW.size


def index_bytes(directory: Path) -> int:
    """How large the index below `directory` is; 0 where there is none."""
    try:
        return os.lstat(directory / INDEX).st_size
    except OSError:
        return 0


def remembered(directory: Path, files: LocalFiles) -> Known:
    """What the index below `directory` says of those of `files` that are as they were.

    Nothing where there is no index or it is damaged.
    """
    import zstandard

    known = Known(files)
    try:
        with open(directory / INDEX, "rb", opener=_not_followed) as stream:
            if stream.read(_HEAD.size) != _HEAD.pack(_MAGIC, _sum(stream)):
                return known
            for path, stat, digest in _read_rows(stream):
                row = files.paths.find(path)
                if row is not None and files.stat(row) == stat:
                    known.learn(row, digest)
    except (OSError, struct.error, zstandard.ZstdError):
        return Known(files)
    return known


def _write_rows(stream: BinaryIO, indexed: Iterable[Indexed]) -> None:
    import zstandard

    with zstandard.ZstdCompressor(level=1).stream_writer(stream, closefd=False) as packed:
        for path, stat, digest in indexed:
            name = os.fsencode(path)
            packed.write(_ROW.pack(stat, digest, len(name)) + name)


def _read_rows(stream: BinaryIO) -> Iterator[Indexed]:
    """The rows of an index whose checksum holds. Raises struct.error and ZstdError."""
    import zstandard

    stream.seek(_HEAD.size)
    reader = zstandard.ZstdDecompressor().stream_reader(stream, closefd=False)
    rows = io.BufferedReader(reader, _PIECE_BYTES)
    while row := rows.read(_ROW.size):
        stat, digest, length = _ROW.unpack(row)
        yield Indexed(os.fsdecode(rows.read(length)), stat, digest)


def _sum(stream: BinaryIO) -> int:
    """xxh3-64 of all behind the head."""
    import xxhash

    stream.seek(_HEAD.size)
    hasher = xxhash.xxh3_64()
    while piece := stream.read(_PIECE_BYTES):
        hasher.update(piece)
    return hasher.intdigest()


def _is_same(path: Path, head: bytes, size: int) -> bool:
    """Whether an index has that head and size."""
    try:
        with open(path, "rb", opener=_not_followed) as stream:
            return stream.read(_HEAD.size) == head and os.fstat(stream.fileno()).st_size == size
    except OSError:
        return False


def _not_followed(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)
