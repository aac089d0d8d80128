"""Reading a tree that others write to meanwhile: what is read is what was looked at.

All is held (O_PATH of open(2)) by its name in a directory that is held itself, symlinks not
followed, and then read of what is held, not of a path. So nobody is led to files of others by who
puts something in the place of a file, or a symlink in that of a directory above.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from .content import data_of
from .inside import reading
from .tree import xattrs_of

_HOLDING = os.O_PATH | os.O_CLOEXEC


class Gone(FileNotFoundError):
    """What was there is not there any more."""


@dataclass(frozen=True)
class Held:
    """Something in a tree: what it is, and `place` where it was found, for messages.

    What is read of it raises SlotUnusable where that is impossible.
    """

    descriptor: int
    place: str
    status: os.stat_result

    def names(self) -> List[str]:
        """What is in this directory. Raises Gone."""
        with _reading(self.place):
            return os.listdir(self._itself)

    def leads_to(self) -> str:
        """The target of this symlink."""
        with _reading(self.place):
            return os.readlink("", dir_fd=self.descriptor)

    def attributes(self) -> Dict[str, bytes]:
        """Its extended attributes."""
        with _reading(self.place):
            return xattrs_of(self._itself, follow=True) or {}

    def data(self) -> Iterator[Tuple[int, memoryview]]:
        """What this regular file has; see `data_of`."""
        with _reading(self.place):
            descriptor = os.open(self._itself, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield from data_of(descriptor)
            finally:
                os.close(descriptor)

    @property
    def _itself(self) -> str:
        """A path that leads to what is held, even if that is a symlink, and not on from there."""
        return f"/proc/self/fd/{self.descriptor}"


@contextmanager
def held(directory: int, name: str, place: str) -> Iterator[Held]:
    """What is called `name` in a held directory, for the time of the block; see `Held`.

    Raises Gone, and SlotUnusable where that can not be told.
    """
    with _reading(place):
        descriptor = os.open(name, _HOLDING | os.O_NOFOLLOW, dir_fd=directory)
    try:
        yield Held(descriptor, place, os.fstat(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def held_directory(root: Path, path: str) -> Iterator[Held]:
    """The directory at `path` inside `root`, which `inside.resolve` gave: it has no symlinks.

    Raises Gone, and SlotUnusable where it can not be reached, or not without a symlink any more.
    """
    place = f"{root}{path}"
    flags = _HOLDING | os.O_DIRECTORY
    descriptor = os.open(root, flags)
    try:
        for part in path.split("/")[1:]:
            with _reading(place):
                inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield Held(descriptor, place, os.fstat(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def _reading(place: str) -> Iterator[None]:
    try:
        with reading(place):
            yield
    except FileNotFoundError as error:
        raise Gone(error.errno, error.strerror, place) from None
