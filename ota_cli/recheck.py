"""`ota verify`: is a slot still what its signed image says? Reads what may be; writes nothing."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional

from .core.cmdline import parse as parse_cmdline
from .core.record import REPAIR, Record
from .errors import ImageDamaged, SlotUnusable
from .events import Emit, Note, Warned
from .host import store
from .host.mounts import enter_private_namespace
from .model import Device, Image, SlotName, other_slot
from .policy import trust
from .probe import require_running
from .slots import needs_mounts, readable, require_left_whole, running_root
from .trial import view_session
from .verify import (
    NO_IMAGE,
    REPAIR_IT,
    UPDATE_AGAIN,
    Difference,
    compare,
    not_equal,
    stored_image,
)

#: States of a slot that has what `ota` brought there, and is none that failed.
REPAIRABLE = ("good", "adopted", "staged")


@dataclass(frozen=True)
class Rechecked:
    """What came of reading `slot`. `files`: how many files of its image were read.
    `mend`: what to do where it differs."""

    slot: SlotName
    version: Optional[str]
    image: Image
    differences: List[Difference]
    files: int
    mend: str

    @property
    def failure(self) -> Optional[ImageDamaged]:
        """What is wrong, if the slot differs."""
        return not_equal(self.slot, self.differences, self.mend) if self.differences else None


def recheck(device: Device, slot: Optional[SlotName], emit: Emit) -> Rechecked:
    """Compares `slot` (default: the standby one) with the image it was filled from.

    Raises SlotUnusable when it holds no complete image or was not unmounted, NotTrusted when that
    is not trusted any more, Busy while another `ota` changes the device or a trial is not
    confirmed, NeedsRoot.
    """
    with store.exclusive(device):
        if parse_cmdline(device.cmdline).trial:  # its commit, which has a deadline, wants the lock
            view_session(device).require_confirmed()
        target = slot or other_slot(require_running(device))
        return compared(device, store.load_record(device), target, emit)


def compared(device: Device, record: Record, slot: SlotName, emit: Emit) -> Rechecked:
    """The same under the lock, of a device that remembers `record`."""
    _require_filled(record, slot)
    if slot == device.running:
        emit(Note(f"slot {slot} runs: what its system changed since is told as well"))
    with opened(device, slot) as root:
        image = stored_image(root, *trust(device, record))
        _warn_of_another(record, slot, image.image_id, emit)
        differences, files = compare(root, image, emit, unlock=False)
    version = known_version(record, slot, image)
    return Rechecked(slot, version, image, differences, files, _mend(device, record, slot, image))


def known_version(record: Record, slot: SlotName, image: Image) -> Optional[str]:
    """What to call `image`, found in `slot`: its version, else the name it was brought under."""
    known = record.slots[slot]
    return image.version or (known.version if known.image_id == image.image_id else None)


def _mend(device: Device, record: Record, slot: SlotName, image: Image) -> str:
    if slot == device.running:
        return "a running system changes files: look whether these are of that kind"
    known = record.slots[slot]
    if known.image_id == image.image_id and known.state == "armed":
        return f"`ota rollback` takes it back; then {REPAIR_IT}"
    if known.image_id == image.image_id and known.state in REPAIRABLE:
        return REPAIR_IT
    if record.slots[other_slot(slot)].image_id == image.image_id:
        return "it holds the image that runs as well: an update to another one fills it anew"
    return UPDATE_AGAIN


def _require_filled(record: Record, slot: SlotName) -> None:
    """A fill that was cut off leaves the metadata of what was in the slot before."""
    known, last = record.slots[slot], record.transaction
    if known.state != "staging":
        return
    if last is not None and (last.kind, last.to_slot) == (REPAIR, slot):
        what, again = f"its repair from {known.version}", "run `ota verify --repair` again"
    else:
        what, again = f"the update to {known.version}", "run the same `ota update` again"
    raise SlotUnusable(
        f"slot {slot} holds no complete image: {what} was interrupted",
        hint=f"{again}; finished work is kept",
        slug=NO_IMAGE,
    )


@contextmanager
def opened(device: Device, slot: SlotName) -> Iterator[Path]:
    """The tree of a slot, for reading only. Raises SlotUnusable, NeedsRoot."""
    if slot not in device.slots:
        raise SlotUnusable(f"it is not known where slot {slot} is")
    if needs_mounts(device):
        enter_private_namespace()
    require_left_whole(device.slots[slot])
    if slot != device.running:
        with readable(device.slots[slot]) as root:
            yield root
        return
    with running_root(device) as running:
        assert running is not None, "the device knows its running slot"
        yield running


def _warn_of_another(record: Record, slot: SlotName, image_id: str, emit: Emit) -> None:
    """A slot that somebody else filled with a signed image equals that one, not what was meant."""
    known = record.slots[slot].image_id
    if known is not None and known != image_id:
        emit(Warned(f"slot {slot} holds another image than the one ota brought there"))
