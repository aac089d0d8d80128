"""Replays the record of a disk: for every state that a cut can leave, what GRUB would start.

A state is sound when each of the next two starts loads a slot that is whole: the kernel and
initrd of its own system, a root file system that nobody wrote to since it was known to work, or
else one that is clean once its journal is replayed and equal to the image. The same is asked of
the boot partition as a system leaves it that has come up: checked, like systemd-fsck does it.
Not where writes are torn: an ext4 superblock that tears when Linux mounts has no valid checksum,
whoever wrote to the file system; GRUB, which looks at none, must start a whole system there too.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple, Union

from ota_cli.errors import BootRefused
from ota_cli.model import SlotName
from tests.support.vm.cuts import Cut, cuts
from tests.support.vm.disk import Partition, cut_out
from tests.support.vm.grubview import GrubView, Loaded
from tests.support.vm.recorder import Flush, Write

_STARTS = 2
Pieces = Tuple[Write, ...]


class BootFilesOf(NamedTuple):
    """What must be loaded to start one slot's system, and a kernel argument it must get."""

    kernel: bytes
    initrd: bytes
    root: str


class Slot(NamedTuple):
    """`systems`: the boot files it may start with. `verify` fails for an image of its file system
    that is not what it must be; it is asked only when somebody wrote to the slot."""

    partition: Partition
    systems: Sequence[BootFilesOf]
    verify: Callable[[Path], str]


class Broken(NamedTuple):
    """A state that does not start as it should."""

    epoch: int
    kind: str
    pieces: Pieces
    why: str


def mend(image: Path, copy: Path) -> str:
    """Makes `copy` what `e2fsck -p` makes of the ext4 in `image`; what it leaves to a person."""
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    done = subprocess.run(["e2fsck", "-fp", copy], check=False, capture_output=True, text=True)
    return "" if done.returncode in (0, 1) else done.stdout[-1000:]


def replay_journal(image: Path, copy: Path) -> str:
    """Makes `copy` what mounting makes of the ext4 in `image`; what e2fsck dislikes there."""
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    subprocess.run(["e2fsck", "-p", "-E", "journal_only", copy], check=False, capture_output=True)
    checked = subprocess.run(["e2fsck", "-fn", copy], check=False, capture_output=True, text=True)
    return checked.stdout[-1000:] if checked.returncode else ""


class PartitionImage:
    """The durable content of one partition, in a file of its own."""

    def __init__(self, disk: Path, part: Partition, image: Path) -> None:
        self.image = cut_out(disk, part, image)
        self._part = part
        self.version = 0

    def mine(self, writes: Iterable[Write]) -> Pieces:
        """Those of `writes` that go to this partition."""
        start, end = self._part.start, self._part.start + self._part.size
        return tuple(write for write in writes if start <= write.offset < end)

    def write(self, pieces: Sequence[Write]) -> None:
        """Makes `pieces` durable."""
        if pieces:
            self.version += 1
            self._put(pieces)

    def with_pieces(self, pieces: Sequence[Write], look: Callable[[Path], str]) -> str:
        """What `look` says of the image with `pieces` on it, which are then taken off again."""
        before: List[Write] = []
        with open(self.image, "rb") as file:
            for piece in pieces:
                file.seek(piece.offset - self._part.start)
                before.append(Write(piece.offset, file.read(len(piece.data))))
        try:
            self._put(pieces)
            return look(self.image)
        finally:
            self._put(before)

    def _put(self, pieces: Sequence[Write]) -> None:
        with open(self.image, "r+b") as file:
            for piece in pieces:
                file.seek(piece.offset - self._part.start)
                file.write(piece.data)


class Replay:
    """All states of one record, judged; `outcomes` counts them, `broken` lists what is wrong."""

    def __init__(
        self, disk: Path, boot: Partition, slots: Mapping[SlotName, Slot], work: Path, seed: str
    ) -> None:
        self._boot = PartitionImage(disk, boot, work / "boot.img")
        self._roots = {
            name: PartitionImage(disk, slot.partition, work / f"slot-{name}.img")
            for name, slot in slots.items()
        }
        self._slots = slots
        self._work = work
        self._seed = seed
        self._starts: Dict[Tuple[int, Pieces, bool], Union[str, List[Loaded]]] = {}
        self._verified: Dict[Tuple[SlotName, int, Pieces], str] = {}
        self.outcomes: Counter[str] = Counter()
        self.boot_states = 0
        self.broken: List[Broken] = []

    def run(self, record: Iterable[Union[Write, Flush]], *, to_first_broken: bool = False) -> None:
        """Judges the disk at each write and flush of `record`."""
        epoch: List[Write] = []
        number = 0
        for entry in record:
            if to_first_broken and self.broken:
                return
            if isinstance(entry, Write):
                epoch.append(entry)
                continue
            self._judge_all(number, epoch)
            for image in (self._boot, *self._roots.values()):
                image.write(image.mine(epoch))
            self._starts.clear()
            epoch, number = [], number + 1
            self._judge(number, Cut("flushed", ()))
        self._judge_all(number, epoch)

    def _judge_all(self, number: int, epoch: Sequence[Write]) -> None:
        for cut in cuts(epoch, f"{self._seed}/{number}"):
            self._judge(number, cut)

    def _judge(self, number: int, cut: Cut) -> None:
        starts = self._loaded(self._boot.mine(cut.pieces), cut.torn)
        if isinstance(starts, str):
            self._fail(number, cut, starts)
            return
        problems = [self._problem(loaded, cut.pieces) for loaded in starts]
        if any(problems):
            self._fail(number, cut, "; then ".join(filter(None, problems)))
        first = starts[0]
        self.outcomes[f"slot {first.slot}{' on trial' if first.mode else ''}"] += 1

    def _fail(self, number: int, cut: Cut, why: str) -> None:
        self.broken.append(Broken(number, cut.kind, cut.pieces, why))
        self.outcomes["broken"] += 1

    def _loaded(self, pieces: Pieces, torn: bool) -> Union[str, List[Loaded]]:
        """The next starts; a state of the boot partition that was seen is not looked at again."""
        key = (self._boot.version, pieces, torn)
        if key not in self._starts:
            self.boot_states += 1
            found: List[Loaded] = []

            def look(image: Path) -> str:
                mounted = self._work / "boot-mounted.img"
                problem = "" if torn else mend(image, mounted)
                try:
                    for each in (image, *([] if torn else [mounted])):
                        found.extend(islice(GrubView(each).boots(self._work / "view"), _STARTS))
                except (BootRefused, AssertionError) as error:
                    return str(error)
                return problem

            self._starts[key] = self._boot.with_pieces(pieces, look) or found
        return self._starts[key]

    def _problem(self, loaded: Loaded, pieces: Pieces) -> str:
        slot = self._slots[loaded.slot]
        wanted = [
            each
            for each in slot.systems
            if (each.kernel, each.initrd) == (loaded.kernel, loaded.initrd)
        ]
        if not wanted:
            return f"slot {loaded.slot}: GRUB loads a kernel or initrd that is not whole"
        for argument in (wanted[0].root, f"ota.slot={loaded.slot}"):
            if argument not in loaded.arguments:
                return f"slot {loaded.slot}: {argument} is missing: {loaded.arguments}"
        return self._verify(loaded.slot, self._roots[loaded.slot].mine(pieces))

    def _verify(self, name: SlotName, pieces: Pieces) -> str:
        """What is wrong with the file system of a slot, each distinct content looked at once."""
        root = self._roots[name]
        if not root.version and not pieces:
            return ""
        key = (name, root.version, pieces)
        if key not in self._verified:
            self._verified[key] = root.with_pieces(pieces, self._slots[name].verify)
        return self._verified[key]
