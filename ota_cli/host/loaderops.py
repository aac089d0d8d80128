"""Ops of boot loaders that keep their state elsewhere than in files of the boot partition.

As `host.ops` has them: values, done in order by its executor, durable when done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from ..model import SlotName
from . import nvbootctrl
from .files import make_directory_durably, remove_durably, write_durably
from .mounts import opened


class LoaderOp(ABC):
    """An op that knows how it is done. `concerns`: what a failure of it is about; `hint`: what to
    do about it, and `room_hint` where there is no room."""

    hint = "see what `nvbootctrl dump-slots-info` prints, and `dmesg`"
    room_hint = hint

    @property
    def concerns(self) -> Path:
        return Path("nvbootctrl")

    @abstractmethod
    def do(self) -> None:
        """Raises OSError, BootRefused, SlotUnusable and NeedsRoot."""


@dataclass(frozen=True)
class Nvbootctrl(LoaderOp):
    """Tells CBoot `words`."""

    words: Tuple[str, ...]

    def do(self) -> None:
        nvbootctrl.call(*self.words)


@dataclass(frozen=True)
class ActivateSlot(LoaderOp):
    """CBoot boots `slot` next, and says so; `target`: the words that address its slots."""

    target: Tuple[str, ...]
    slot: SlotName

    def do(self) -> None:
        nvbootctrl.activate(self.target, self.slot)


@dataclass(frozen=True)
class WithholdSlot(LoaderOp):
    """CBoot comes to `slot` no more, and says so."""

    target: Tuple[str, ...]
    slot: SlotName

    def do(self) -> None:
        nvbootctrl.withhold(self.target, self.slot)


@dataclass(frozen=True)
class PutInSlot(LoaderOp):
    """Writes the file `name` of the `/.ota` of a slot, or with `data` None removes it.

    `place`: the root directory of its system, else the device or disk-image file to mount.
    """

    place: Path
    name: str
    data: Optional[bytes]

    hint = "is the slot's file system read-only, or damaged? See `dmesg`"
    room_hint = "the slot's file system is full: remove what is not needed there"

    @property
    def concerns(self) -> Path:
        return self.place

    def do(self) -> None:
        with opened(self.place) as root:
            path = root / ".ota" / self.name
            if self.data is None:
                remove_durably(path)
                return
            make_directory_durably(path.parent, 0o700)
            write_durably(path, self.data, 0o600)


@dataclass(frozen=True)
class MirrorBoot(LoaderOp):
    """Makes `/boot` of the file system at `place`, as above, the same as directory `source`."""

    source: Path
    place: Path

    hint = "is the partition from which CBoot boots read-only, or damaged? See `dmesg`"
    room_hint = "/boot of the system is larger than the partition from which CBoot boots it"

    @property
    def concerns(self) -> Path:
        return self.place

    def do(self) -> None:
        from .mirror import mirror  # few devices copy

        with opened(self.place) as root:
            mirror(self.source, root / "boot")
