"""The plan of a fill: where the content of each file comes from, and what else is to be done."""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass
from typing import (
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Tuple,
)

from ..entries import Digest, FileEntry, NodeEntry
from ..packed import PackedFiles
from ..packedothers import PackedDirectories, PackedLinks
from .local import LocalFile, LocalFiles


class Source(enum.Enum):
    """Where the content of one file of the image comes from."""

    KEPT = "kept"
    STAGED = "staged"
    MOVED = "moved"
    DUPLICATED = "duplicated"
    COPIED = "copied"
    DOWNLOADED = "downloaded"
    EMPTY = "empty"


_CODE_OF = {source: code for code, source in enumerate(Source)}
_SOURCES = tuple(Source)


class FileStep(NamedTuple):
    """One file: `entry` is its first name, `links` are the others that have to be made.

    `origin`: the path in the standby slot to copy from once that file is made (DUPLICATED), or
    the path in the running slot (COPIED).
    """

    source: Source
    entry: FileEntry
    links: Tuple[FileEntry, ...]
    origin: str = ""


class ManySteps(Protocol):
    """A sequence of steps, of which perhaps not all are there at once."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> FileStep: ...
    def __iter__(self) -> Iterator[FileStep]: ...


class Steps:
    """A step for each file of an image, packed: made one at a time when asked for."""

    __slots__ = ("_codes", "_files", "_links", "_origins", "_rows")

    def __init__(self, files: PackedFiles) -> None:
        self._files = files
        self._codes = bytearray()
        self._rows = array("I")
        self._origins: Dict[int, str] = {}
        self._links: Dict[int, Tuple[int, ...]] = {}

    def add(self, source: Source, row: int, origin: str = "", links: Tuple[int, ...] = ()) -> None:
        """The next step: the file of `row`, with the rows of the names to be linked to it."""
        number = len(self._codes)
        self._codes.append(_CODE_OF[source])
        self._rows.append(row)
        if origin and origin != self._files.paths[row]:
            self._origins[number] = origin
        if links:
            self._links[number] = links

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, number: int) -> FileStep:
        source = _SOURCES[self._codes[number]]
        entry = self._files[self._rows[number]]
        links = tuple(self._files[row] for row in self._links.get(number, ()))
        origin = entry.path if source is Source.COPIED else ""
        return FileStep(source, entry, links, self._origins.get(number, origin))

    def __iter__(self) -> Iterator[FileStep]:
        return map(self.__getitem__, range(len(self)))

    def of(self, *sources: Source) -> Iterator[FileStep]:
        """The steps whose content comes from one of `sources`."""
        return map(self.__getitem__, self._numbers(*sources))

    def chosen(self, *sources: Source) -> SomeSteps:
        """The same as a sequence."""
        return SomeSteps(self, array("I", self._numbers(*sources)))

    def find(self, row: int) -> Optional[FileStep]:
        """The step that is about `row` of the image; None for a further name of a file."""
        try:
            return self[self._rows.index(row)]
        except ValueError:
            return None

    def linked(self) -> Iterator[FileStep]:
        """The steps that have names to be linked."""
        return map(self.__getitem__, self._links)

    def kept(self, local: LocalFiles) -> Iterator[Tuple[FileEntry, LocalFile]]:
        """The entry of each kept file, and that file of the slot."""
        places = self._files.paths.matched(local.paths)
        for row in self.rows(Source.KEPT):
            yield self._files[row], local[places[row]]

    def rows(self, *sources: Source) -> Iterator[int]:
        """The rows of the image that the steps from `sources` are about."""
        return (self._rows[number] for number in self._numbers(*sources))

    def unclaimed(self, paths: Iterable[str], *sources: Source) -> Iterator[str]:
        """Those of `paths` that no step from `sources` makes."""
        is_made = bytearray(len(self._files))
        for row in self.rows(*sources):
            is_made[row] = 1
        for path in paths:
            place = self._files.paths.find(path)
            if place is None or not is_made[place]:
                yield path

    def count(self, *sources: Source) -> int:
        """How many steps have one of `sources`."""
        return sum(self._codes.count(_CODE_OF[source]) for source in sources)

    def sizes(self, *sources: Source) -> Iterator[int]:
        """Content bytes of each step from `sources`; an unknown size counts as 0."""
        return (self._files.size(self._rows[n]) or 0 for n in self._numbers(*sources))

    def _numbers(self, *sources: Source) -> Iterator[int]:
        codes = bytes(_CODE_OF[source] for source in sources)
        return (number for number, code in enumerate(self._codes) if code in codes)


class SomeSteps:
    """Some of many steps, by their numbers: made one at a time when asked for."""

    __slots__ = ("_numbers", "_steps")

    def __init__(self, steps: Steps, numbers: array[int]) -> None:
        self._steps, self._numbers = steps, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> FileStep:
        return self._steps[self._numbers[number]]

    def __iter__(self) -> Iterator[FileStep]:
        return map(self._steps.__getitem__, self._numbers)


@dataclass(frozen=True)
class Plan:
    """How a standby slot becomes an image. `stash`: digest to the displaced standby path."""

    steps: Steps
    stash: Mapping[Digest, str]
    removals: List[str]
    directories: PackedDirectories
    symlinks: PackedLinks
    nodes: List[NodeEntry]

    def files(self, *sources: Source) -> int:
        """How many files come from `sources`."""
        return self.steps.count(*sources)

    def size_bytes(self, *sources: Source) -> int:
        """Content bytes of all files that come from `sources`; unknown sizes count as 0."""
        return sum(self.steps.sizes(*sources))

    def digests(self, *sources: Source) -> FrozenSet[str]:
        """Of all files that come from `sources`, in hex."""
        return frozenset(step.entry.digest.hex() for step in self.steps.of(*sources))

    @property
    def downloads(self) -> SomeSteps:
        """One step for each digest that must be fetched."""
        return self.steps.chosen(Source.DOWNLOADED)
