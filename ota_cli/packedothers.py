"""The directories and symlinks of an image, packed like its regular files (see `packed`)."""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, Optional

from .entries import DirEntry, LinkEntry
from .paths import Paths, Texts

#: modification time, uid, gid; and a directory's mode
_LINK, _DIRECTORY = struct.Struct("<qII"), struct.Struct("<qIIH")
_TIME = struct.Struct("<q")
_NO_TIME = -(2**63)


def _time(mtime_ns: Optional[int]) -> int:
    return _NO_TIME if mtime_ns is None else mtime_ns


def _known(mtime: int) -> Optional[int]:
    return None if mtime == _NO_TIME else mtime


class PackedDirectories:
    """A sequence of `DirEntry`, made one at a time when asked for."""

    __slots__ = ("_rows", "paths")

    def __init__(self, entries: Iterable[DirEntry] = ()) -> None:
        self.paths = Paths()
        self._rows = bytearray()
        for path, mode, uid, gid, mtime_ns in entries:
            self.paths.append(path)
            self._rows += _DIRECTORY.pack(_time(mtime_ns), uid, gid, mode)
        self.paths.sort()

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[DirEntry]:
        return map(self._entry, range(len(self)))

    def __reversed__(self) -> Iterator[DirEntry]:
        return map(self._entry, reversed(range(len(self))))

    def _entry(self, row: int) -> DirEntry:
        mtime, uid, gid, mode = _DIRECTORY.unpack_from(self._rows, row * _DIRECTORY.size)
        return DirEntry(self.paths[row], mode, uid, gid, _known(mtime))

    def date(self, path: str, mtime_ns: int) -> bool:
        """See `PackedFiles.date`."""
        row = self.paths.find(path)
        if row is None:
            return False
        _TIME.pack_into(self._rows, row * _DIRECTORY.size, mtime_ns)
        return True


class PackedLinks:
    """A sequence of `LinkEntry`, made one at a time when asked for."""

    __slots__ = ("_rows", "_targets", "paths")

    def __init__(self, entries: Iterable[LinkEntry] = ()) -> None:
        self.paths, self._targets = Paths(), Texts()
        self._rows = bytearray()
        for path, target, uid, gid, mtime_ns in entries:
            self.paths.append(path)
            self._targets.append(target)
            self._rows += _LINK.pack(_time(mtime_ns), uid, gid)
        self.paths.sort()

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[LinkEntry]:
        rows = _LINK.iter_unpack(self._rows)
        for path, target, (mtime, uid, gid) in zip(self.paths, self._targets, rows):
            yield LinkEntry(path, target, uid, gid, _known(mtime))

    def target(self, path: str) -> Optional[str]:
        """Where the symlink at `path` leads; None where there is none."""
        row = self.paths.find(path)
        return None if row is None else self._targets[row]

    def date(self, path: str, mtime_ns: int) -> bool:
        """See `PackedFiles.date`."""
        row = self.paths.find(path)
        if row is None:
            return False
        _TIME.pack_into(self._rows, row * _LINK.size, mtime_ns)
        return True
