"""Half a million files in little memory: rows of packed numbers beside names by directory.

A Python object for each field of each file takes more than a kilobyte a file. Here a file takes
what its numbers and its name take, about 100 bytes; objects are made one at a time, on demand.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from sys import intern
from typing import Dict, Iterator, List, Optional, Tuple


class Paths:
    """Absolute paths by number, each kept as its directory's number and a name of its own.

    Names that are not UTF-8 are kept (surrogate escapes).
    """

    __slots__ = (
        "_directory_of", "_ends", "_matched", "_names", "_next", "_number_of", "_order", "_starts",
        "_texts",
    )  # fmt: skip

    def __init__(self) -> None:
        self._texts: List[str] = []
        self._number_of: Dict[str, int] = {}
        self._directory_of = array("I")
        self._names = bytearray()
        self._ends = array("I", [0])
        #: All rows, those of one directory after those of another, and where each begins.
        self._order, self._starts = array("I"), array("I", [0])
        #: Where a search begins: most ask for one path of a directory after the other.
        self._next: Tuple[int, int] = (-1, 0)
        #: The last answer of `matched`: all steps of an update ask about the same two.
        self._matched: Optional[Tuple[Paths, array[int]]] = None

    def append(self, path: str) -> None:
        """Adds `path`, which gets the next number."""
        directory, _, name = path.rpartition("/")
        number = self._number_of.get(directory)
        if number is None:
            directory = intern(directory)  # an image and the slots mostly have the same
            number = self._number_of[directory] = len(self._texts)
            self._texts.append(directory)
        self._directory_of.append(number)
        self._names += _encoded(name)
        self._ends.append(len(self._names))

    def sort(self) -> None:
        """Makes `find` possible; nothing is added afterwards."""
        self._group()
        for number in range(len(self._texts)):
            rows = self._rows_of(number)
            names = list(map(self._name, rows))
            if names != sorted(names):
                begin, end = self._starts[number], self._starts[number + 1]
                self._order[begin:end] = array("I", sorted(rows, key=self._name))

    def _group(self) -> None:
        """Lists the rows by directory, those of each as they came."""
        counts = array("I", bytes(4 * len(self._texts)))
        for number in self._directory_of:
            counts[number] += 1
        self._starts = array("I", accumulate(counts, initial=0))
        following, self._order = self._starts[:-1], array("I", bytes(4 * len(self)))
        for row, number in enumerate(self._directory_of):
            self._order[following[number]] = row
            following[number] += 1

    def _rows_of(self, number: int) -> array[int]:
        return self._order[self._starts[number] : self._starts[number + 1]]

    def _groups(self) -> Iterator[array[int]]:
        """The rows of each directory, by name."""
        return map(self._rows_of, range(len(self._texts)))

    def __len__(self) -> int:
        return len(self._directory_of)

    def __getitem__(self, row: int) -> str:
        directory = self._texts[self._directory_of[row]]
        return f"{directory}/{self._name(row).decode('utf-8', 'surrogateescape')}"

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def find(self, path: str) -> Optional[int]:
        """The number of `path`; None where it is not here."""
        directory, _, text = path.rpartition("/")
        number = self._number_of.get(directory)
        if number is None:
            return None
        name, end = _encoded(text), self._starts[number + 1]
        where, at = self._next
        if where != number or at >= end or self._name(self._order[at]) != name:
            at = self._place(self._starts[number], end, name)
            if at >= end or self._name(self._order[at]) != name:
                return None
        self._next = (number, at + 1)
        return self._order[at]

    def matched(self, other: Paths) -> array[int]:
        """For each path here, its number in `other`, -1 where it is not there; only to be read."""
        if self._matched is None or self._matched[0] is not other:
            self._matched = (other, self._match(other))
        return self._matched[1]

    def _match(self, other: Paths) -> array[int]:
        found = array("i", bytes(4 * len(self)))
        for directory, rows in zip(self._texts, self._groups()):
            number = other._number_of.get(directory)
            there = other._rows_of(number) if number is not None else ()
            row_of = {bytes(other._name(row)): row for row in there}
            for row in rows:
                found[row] = row_of.get(bytes(self._name(row)), -1)
        return found

    def below(self, directory: str) -> List[int]:
        """The numbers of all paths that lie in `directory`, at any depth."""
        inside = (directory, f"{directory}/")
        return [
            row
            for text, rows in zip(self._texts, self._groups())
            if text == inside[0] or text.startswith(inside[1])
            for row in rows
        ]

    def samples(self) -> Iterator[str]:
        """A path for each directory that any lie in."""
        return (self[rows[0]] for rows in self._groups())

    def doubled(self) -> Optional[int]:
        """The number of a path that is here under a lower number, too; None where all differ."""
        for rows in self._groups():
            for before, row in zip(rows, rows[1:]):
                if self._name(before) == self._name(row):
                    return row
        return None

    def _place(self, low: int, high: int, name: bytes) -> int:
        """Where `name` is, or would be, among the rows of its directory: those from `low` on."""
        while low < high:
            middle = (low + high) // 2
            if self._name(self._order[middle]) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def _name(self, row: int) -> bytearray:
        return self._names[self._ends[row] : self._ends[row + 1]]


class Texts:
    """A sequence of texts, packed: 4 bytes and what they say. Surrogate escapes are kept."""

    __slots__ = ("_ends", "_held")

    def __init__(self) -> None:
        self._held = bytearray()
        self._ends = array("I", [0])

    def append(self, text: str) -> None:
        """Adds `text`."""
        self._held += _encoded(text)
        self._ends.append(len(self._held))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        held = self._held[self._ends[number] : self._ends[number + 1]]
        return held.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
