"""What lies in a slot, and which content of it is known: facts for the plan. Pure."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import (
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
)

from ..entries import Digest
from ..paths import Paths, Texts

#: size, mtime, ctime, inode, uid, gid, links, mode
_ROW = struct.Struct("<qqqQIIIH")
#: device number, uid, gid, mode, kind
_OTHER = struct.Struct("<QIIHc")
#: What tells a file that was changed: the first four of them.
STAT = struct.Struct("<qqqQ")
_SIZES, _LINKS = struct.Struct("<q38x"), struct.Struct("<40xI2x")


#: How the content of a file is known.
_READ, _TRUSTED = 1, 2


class LocalFile(NamedTuple):
    """A regular file found in a slot. Several names of one inode are several of these."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    uid: int
    gid: int
    links: int
    mode: int


class LocalOther(NamedTuple):
    """A directory, symlink, node, fifo or socket found in a slot.

    `kind`: `d`, `l`, `b`, `c`, `p` or `s`. `target` of symlinks; `device` number of nodes.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    target: str = ""
    device: int = 0


class LocalOthers(Mapping[str, LocalOther]):
    """All but the regular files of a slot by path, packed like those."""

    __slots__ = ("_paths", "_rows", "_targets")

    def __init__(self, others: Iterable[LocalOther] = ()) -> None:
        self._paths, self._targets = Paths(), Texts()
        self._rows = bytearray()
        for other in others:
            self.append(other)
        self.sort()

    def append(self, other: LocalOther) -> None:
        """Adds one."""
        self._paths.append(other.path)
        self._targets.append(other.target)
        self._rows += _OTHER.pack(
            other.device, other.uid, other.gid, other.mode, other.kind.encode()
        )

    def sort(self) -> None:
        """Makes finding possible; nothing is added afterwards."""
        self._paths.sort()

    def directories(self) -> int:
        """How many of them are directories."""
        return sum(kind == b"d" for *_, kind in _OTHER.iter_unpack(self._rows))

    def __getitem__(self, path: str) -> LocalOther:
        row = self._paths.find(path)
        if row is None:
            raise KeyError(path)
        device, uid, gid, mode, kind = _OTHER.unpack_from(self._rows, row * _OTHER.size)
        return LocalOther(path, kind.decode(), mode, uid, gid, self._targets[row], device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class LocalFiles:
    """The regular files of a slot, packed: 50 bytes and a name each; found by path or by row."""

    __slots__ = ("_rows", "paths")

    def __init__(self, files: Iterable[LocalFile] = ()) -> None:
        self.paths = Paths()
        self._rows = bytearray()
        for file in files:
            self.paths.append(file.path)
            self._rows += _ROW.pack(*file[1:])
        self.paths.sort()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> LocalFile:
        if not 0 <= row < len(self.paths):
            raise IndexError(row)
        return LocalFile(self.paths[row], *_ROW.unpack_from(self._rows, row * _ROW.size))

    def find(self, path: str) -> Optional[LocalFile]:
        """The file at `path`, if there is one."""
        row = self.paths.find(path)
        return None if row is None else self[row]

    def size(self, row: int) -> int:
        """The bytes of a file."""
        return int(_ROW.unpack_from(self._rows, row * _ROW.size)[0])

    def sizes(self) -> array[int]:
        """The bytes of each file."""
        return array("q", (size for (size,) in _SIZES.iter_unpack(self._rows)))

    def linked(self) -> List[int]:
        """The rows of files with several names."""
        links = _LINKS.iter_unpack(self._rows)
        return [row for row, (count,) in enumerate(links) if count > 1]

    def half_hidden(self) -> Set[int]:
        """Inodes with names that are not among these: who writes to one changes another place."""
        files = [self[row] for row in self.linked()]
        names = Counter(file.inode for file in files)
        return {file.inode for file in files if file.links != names[file.inode]}

    def stat(self, row: int) -> bytes:
        """Size, times and inode of a file, as `STAT` packs them."""
        return bytes(self._rows[row * _ROW.size : row * _ROW.size + STAT.size])


@dataclass(frozen=True)
class LocalTree:
    """All that lies in one slot; `/.ota` and an ext4's `/lost+found` left out."""

    files: LocalFiles = field(default_factory=LocalFiles)
    others: LocalOthers = field(default_factory=LocalOthers)


class Known:
    """The sha256 of those files of a slot whose content was looked at, by row."""

    __slots__ = ("_digests", "_known", "_unreadable", "files")

    def __init__(self, files: LocalFiles) -> None:
        self.files = files
        self._digests = bytearray(32 * len(files))
        self._known = bytearray(len(files))
        self._unreadable: Set[int] = set()

    def learn(self, row: int, digest: Digest) -> None:
        """Notes what a file holds."""
        self._digests[32 * row : 32 * row + 32] = digest
        self._known[row] = _READ

    def trust(self, row: int, digest: Digest) -> None:
        """Notes what a file held when it was read last, which is good enough to leave it there."""
        self.learn(row, digest)
        self._known[row] = _TRUSTED

    def give_up(self, row: int) -> None:
        """Notes that a file can not be read: a disk that fails takes its time for each try."""
        self._unreadable.add(row)

    def give_up_all(self, paths: Iterable[str]) -> None:
        """The same for those of `paths` that are here."""
        rows = (self.files.paths.find(path) for path in paths)
        self._unreadable.update(row for row in rows if row is not None)

    def unreadable(self) -> List[str]:
        """The paths of the files that can not be read."""
        return [self.files.paths[row] for row in self._unreadable]

    def is_unread(self, row: int) -> bool:
        """Whether reading a file would tell what is not known."""
        return not self._known[row] and row not in self._unreadable

    def was_read(self, row: int) -> bool:
        """Whether a file was read in this run."""
        return self._known[row] == _READ

    def digest(self, row: int) -> Optional[Digest]:
        """What a file holds, if that is known."""
        if not self._known[row]:
            return None
        return Digest(bytes(self._digests[32 * row : 32 * row + 32]))

    def rows(self) -> Iterator[int]:
        """All rows whose content is known."""
        return (row for row, known in enumerate(self._known) if known)


class Origins:
    """Where in the running slot the content of an image's files is, by row of the image.

    Nearly all lie under their own name: those take one byte.
    """

    __slots__ = ("_elsewhere", "_same")

    def __init__(self, files: int = 0) -> None:
        self._same = bytearray(files)
        self._elsewhere: Dict[int, str] = {}

    def here(self, row: int) -> None:
        """The content of `row` is under the very same path."""
        self._same[row] = 1

    def elsewhere(self, row: int, path: str) -> None:
        """The content of `row` is at `path`."""
        self._elsewhere[row] = path

    def __contains__(self, row: int) -> bool:
        return bool(self._same[row]) or row in self._elsewhere

    def of(self, row: int, own_path: str) -> Optional[str]:
        """The path in the running slot of what `row`, at `own_path`, shall hold."""
        if row < len(self._same) and self._same[row]:
            return own_path
        return self._elsewhere.get(row)


@dataclass(frozen=True)
class Content:
    """Which verified content is at hand, from cheap to dear.

    `standby`: by file of the standby slot. `staged`: digests in the staging directory.
    `running`: by file of the image, where in the running slot.
    """

    standby: Known = field(default_factory=lambda: Known(LocalFiles()))
    staged: FrozenSet[Digest] = frozenset()
    running: Origins = field(default_factory=Origins)
