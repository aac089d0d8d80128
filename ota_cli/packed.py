"""The regular files of an image, in rows of numbers beside packed paths: about 100 bytes a file."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections import Counter
from typing import ClassVar, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from .entries import Digest, FileEntry
from .paths import Paths

#: digest, size, modification time, blob's bytes, uid, gid, hard-link group, mode, compressed
_ROW = struct.Struct("<32sqqqIIIH?")
_SIZE_AT, _BLOB_AT, _GROUP_AT = 32, 48, 64
_NUMBER, _GROUP = struct.Struct("<q"), struct.Struct("<I")
_PREFIX = struct.Struct(f"<Q{_ROW.size - 8}x")
#: Numbers in the order of the digests that they begin.
_ORDERED = struct.Struct(">Q")
#: Stands for None among numbers that are never negative, and among times.
_UNKNOWN, _NO_TIME = -1, -(2**63)


def packed_time(mtime_ns: Optional[int]) -> int:
    """A modification time as a row has it."""
    return _NO_TIME if mtime_ns is None else mtime_ns


def known_time(packed: int) -> Optional[int]:
    """What `packed_time` was made of."""
    return None if packed == _NO_TIME else packed


class Dated:
    """Entries of an image in rows of numbers beside packed paths, whose times come afterwards,
    from a table of their own. `_ROW`: of what a row is made, its time from byte `_MTIME_AT` on."""

    __slots__ = ("_rows", "paths")
    _ROW: ClassVar[struct.Struct]
    _MTIME_AT: ClassVar[int]

    def __init__(self) -> None:
        self.paths = Paths()
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self.paths)

    def date(self, path: str, mtime_ns: int) -> bool:
        """Sets when what lies at `path` was changed; False where there is nothing.

        For whoever reads an image, before anybody else has it. Raises ValueError where that is
        known already.
        """
        row = self.paths.find(path)
        if row is None:
            return False
        at = row * self._ROW.size + self._MTIME_AT
        if _NUMBER.unpack_from(self._rows, at)[0] != _NO_TIME:
            raise ValueError("it has a time already")
        _NUMBER.pack_into(self._rows, at, mtime_ns)
        return True


class PackedSizes(Mapping[Digest, int]):
    """A size for each of many digests, packed: 48 bytes each, found by bisection."""

    __slots__ = ("_digests", "_prefixes", "_sizes")

    def __init__(self) -> None:
        self._digests = bytearray()
        self._prefixes, self._sizes = array("Q"), array("q")

    def append(self, digest: Digest, size: int) -> None:
        """Adds a digest that is not less than all before it, or has `sort` called afterwards."""
        self._digests += digest
        self._prefixes.append(_ORDERED.unpack_from(digest)[0])
        self._sizes.append(size)

    def sort(self) -> None:
        """Makes finding possible; nothing is added afterwards."""
        prefixes = self._prefixes
        if all(here <= there for here, there in zip(prefixes, prefixes[1:])):
            return
        order = sorted(range(len(prefixes)), key=prefixes.__getitem__)
        self._digests = bytearray().join(map(self._digest, order))
        self._prefixes = array("Q", map(prefixes.__getitem__, order))
        self._sizes = array("q", map(self._sizes.__getitem__, order))

    def are_doubled(self) -> bool:
        """Whether two digests begin alike, once sorted: by chance one in a million images of five
        million files has such."""
        return any(here == there for here, there in zip(self._prefixes, self._prefixes[1:]))

    def __getitem__(self, digest: Digest) -> int:
        (prefix,) = _ORDERED.unpack_from(digest)
        at = bisect_right(self._prefixes, prefix)
        while at and self._prefixes[at - 1] == prefix:
            at -= 1
            if self._digest(at) == digest:
                return self._sizes[at]
        raise KeyError(digest)

    def __iter__(self) -> Iterator[Digest]:
        return iter(dict.fromkeys(map(self._digest, range(len(self._sizes)))))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _digest(self, at: int) -> Digest:
        return Digest(bytes(self._digests[32 * at : 32 * at + 32]))


class PackedFiles(Dated):
    """A sequence of `FileEntry`, made one at a time when asked for.

    Its parts are got at by row, the number of an entry, without making one.
    """

    __slots__ = ("_group_of", "_inodes", "_repeated")
    _ROW, _MTIME_AT = _ROW, 40

    def __init__(self, entries: Iterable[FileEntry] = ()) -> None:
        super().__init__()
        self._repeated: Optional[Set[Digest]] = None
        self._inodes: List[Optional[str]] = [None]
        self._group_of: Dict[Optional[str], int] = {None: 0}
        for entry in entries:
            self._append(entry)
        self.paths.sort()

    def _append(self, entry: FileEntry) -> None:
        group = self._group_of.get(entry.inode)
        if group is None:
            group = self._group_of[entry.inode] = len(self._inodes)
            self._inodes.append(entry.inode)
        self.paths.append(entry.path)
        self._rows += _ROW.pack(
            entry.digest, _UNKNOWN if entry.size is None else entry.size,
            packed_time(entry.mtime_ns),
            _UNKNOWN if entry.blob_bytes is None else entry.blob_bytes,
            entry.uid, entry.gid, group, entry.mode, entry.compressed,
        )  # fmt: skip

    def __getitem__(self, row: int) -> FileEntry:
        if not 0 <= row < len(self.paths):
            raise IndexError(row)
        return self._entry(self.paths[row], _ROW.unpack_from(self._rows, row * _ROW.size))

    def __iter__(self) -> Iterator[FileEntry]:
        return map(self._entry, self.paths, _ROW.iter_unpack(self._rows))

    def _entry(
        self, path: str, row: Tuple[Digest, int, int, int, int, int, int, int, bool]
    ) -> FileEntry:
        digest, size, mtime, blob, uid, gid, group, mode, compressed = row
        return FileEntry(
            path, mode, uid, gid, digest, None if size < 0 else size, self._inodes[group],
            compressed, known_time(mtime), None if blob < 0 else blob,
        )  # fmt: skip

    def digest(self, row: int) -> Digest:
        """The sha256 of a file's content."""
        return Digest(bytes(self._rows[row * _ROW.size : row * _ROW.size + 32]))

    def size(self, row: int) -> Optional[int]:
        """A file's bytes; None where the image does not say."""
        size: int = _NUMBER.unpack_from(self._rows, row * _ROW.size + _SIZE_AT)[0]
        return None if size < 0 else size

    def linked(self) -> Dict[int, Tuple[int, ...]]:
        """The rows of each hard-link group, by each of its rows; files with one name left out."""
        found: Dict[int, List[int]] = {}
        for row, (group,) in enumerate(self._column(_GROUP_AT, _GROUP)):
            if group:
                found.setdefault(group, []).append(row)
        return {row: tuple(rows) for rows in found.values() if len(rows) > 1 for row in rows}

    def repeated(self) -> Set[Digest]:
        """Digests that several rows have."""
        if self._repeated is None:
            self._repeated = self._find_repeated()
        return self._repeated

    def _find_repeated(self) -> Set[Digest]:
        """Counts only what falls together in a table with much more room than digests."""
        room = 1 << (8 * len(self)).bit_length()
        seen, shared = bytearray(room), set()
        for (prefix,) in _PREFIX.iter_unpack(self._rows):
            place = prefix % room
            if seen[place]:
                shared.add(place)
            seen[place] = 1
        prefixes = enumerate(_PREFIX.iter_unpack(self._rows))
        counts = Counter(self.digest(row) for row, (prefix,) in prefixes if prefix % room in shared)
        return {digest for digest, count in counts.items() if count > 1}

    def sizes(self) -> array[int]:
        """The bytes of each file; negative where the image does not say."""
        return array("q", (size for (size,) in self._column(_SIZE_AT, _NUMBER)))

    def measure_blobs(self, sizes: Mapping[Digest, int]) -> None:
        """Sets the bytes of the compressed blobs, by digest of content; see `date`."""
        for row in range(len(self)):
            size = sizes.get(self.digest(row))
            if size is not None:
                _NUMBER.pack_into(self._rows, row * _ROW.size + _BLOB_AT, size)

    def _column(self, offset: int, kind: struct.Struct) -> Iterator[Tuple[int]]:
        behind = _ROW.size - offset - kind.size
        return struct.Struct(f"<{offset}x{kind.format[1:]}{behind}x").iter_unpack(self._rows)
