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
from typing import Iterable, Iterator, NamedTuple, Optional

from ..core.local import STAT, Known, LocalFiles
from ..entries import Digest
from ..errors import ImageDamaged
from .files import read_limited

INDEX = "index"
MAX_INDEX_BYTES = 512 * 1024 * 1024
_MAGIC = b"ota-ix\0\1"
_ROW = struct.Struct(f"<{STAT.size}s32sH")
_SUM = struct.Struct("<Q")
_PIECE_BYTES = 256 * 1024


class Indexed(NamedTuple):
    """One regular file: its `LocalFiles.stat`, and the sha256 of what it holds."""

    path: str
    stat: bytes
    digest: Digest


def write_index(directory: Path, indexed: Iterable[Indexed]) -> None:
    """Keeps `indexed` below `directory`; one that is there and equal is not written again.

    Raises OSError. Not flushed: whatever is torn fails the checksum.
    """
    import xxhash

    packed = _packed(indexed)
    data = _MAGIC + _SUM.pack(xxhash.xxh3_64_intdigest(packed)) + packed
    path = directory / INDEX
    if _read(path) == data:
        return
    fresh = directory / f"{INDEX}.new"
    with open(fresh, "wb", opener=_private) as stream:
        stream.write(data)
    os.rename(fresh, path)


def remembered(directory: Path, files: LocalFiles) -> Known:
    """What the index below `directory` says of those of `files` that are as they were.

    Nothing where there is no index or it is damaged.
    """
    import xxhash
    import zstandard

    known = Known(files)
    data = _read(directory / INDEX)
    head = len(_MAGIC) + _SUM.size
    if data is None or len(data) < head or not data.startswith(_MAGIC):
        return known
    packed = memoryview(data)[head:]
    if _SUM.unpack_from(data, len(_MAGIC))[0] != xxhash.xxh3_64_intdigest(packed):
        return known
    try:
        for path, stat, digest in _rows(packed):
            row = files.paths.find(path)
            if row is not None and files.stat(row) == stat:
                known.learn(row, digest)
    except (struct.error, zstandard.ZstdError):
        return Known(files)
    return known


def _packed(indexed: Iterable[Indexed]) -> bytes:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    packed = bytearray()
    for path, stat, digest in indexed:
        name = os.fsencode(path)
        packed += compressor.compress(_ROW.pack(stat, digest, len(name)) + name)
    packed += compressor.flush()
    return bytes(packed)


def _rows(packed: memoryview) -> Iterator[Indexed]:
    import zstandard

    stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(packed), _PIECE_BYTES)
    while row := stream.read(_ROW.size):
        stat, digest, length = _ROW.unpack(row)
        yield Indexed(os.fsdecode(stream.read(length)), stat, digest)


def _read(path: Path) -> Optional[bytes]:
    try:
        return read_limited(path, MAX_INDEX_BYTES)
    except (OSError, ImageDamaged):
        return None


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)
