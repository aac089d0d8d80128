"""The directories and symlinks of an image, packed like its regular files (see `packed`)."""

from __future__ import annotations

import struct
from typing import Iterable, Iterator, Optional

from .entries import DirEntry, LinkEntry
from .packed import Dated, known_time, packed_time
from .paths import Texts

#: modification time, uid, gid; and a directory's mode
_LINK, _DIRECTORY = struct.Struct("<qII"), struct.Struct("<qIIH")


class PackedDirectories(Dated):
    """A sequence of `DirEntry`, made one at a time when asked for."""

    __slots__ = ()
    _ROW, _MTIME_AT = _DIRECTORY, 0

    def __init__(self, entries: Iterable[DirEntry] = ()) -> None:
        super().__init__()
        for path, mode, uid, gid, mtime_ns in entries:
            self.paths.append(path)
            self._rows += _DIRECTORY.pack(packed_time(mtime_ns), uid, gid, mode)
        self.paths.sort()

    def __iter__(self) -> Iterator[DirEntry]:
        return map(self._entry, range(len(self)))

    def __reversed__(self) -> Iterator[DirEntry]:
        return map(self._entry, reversed(range(len(self))))

    def _entry(self, row: int) -> DirEntry:
        mtime, uid, gid, mode = _DIRECTORY.unpack_from(self._rows, row * _DIRECTORY.size)
        return DirEntry(self.paths[row], mode, uid, gid, known_time(mtime))


class PackedLinks(Dated):
    """A sequence of `LinkEntry`, made one at a time when asked for."""

    __slots__ = ("_targets",)
    _ROW, _MTIME_AT = _LINK, 0

    def __init__(self, entries: Iterable[LinkEntry] = ()) -> None:
        super().__init__()
        self._targets = Texts()
        for path, target, uid, gid, mtime_ns in entries:
            self.paths.append(path)
            self._targets.append(target)
            self._rows += _LINK.pack(packed_time(mtime_ns), uid, gid)
        self.paths.sort()

    def __iter__(self) -> Iterator[LinkEntry]:
        rows = _LINK.iter_unpack(self._rows)
        for path, target, (mtime, uid, gid) in zip(self.paths, self._targets, rows):
            yield LinkEntry(path, target, uid, gid, known_time(mtime))

    def target(self, path: str) -> Optional[str]:
        """Where the symlink at `path` leads; None where there is none."""
        row = self.paths.find(path)
        return None if row is None else self._targets[row]
