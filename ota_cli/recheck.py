"""`ota verify`: is a slot still what its signed image says? Reads every byte, writes none."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional

from .core.cmdline import parse as parse_cmdline
from .core.record import Record
from .errors import ImageDamaged, SlotUnusable
from .events import Emit, Note, Warned
from .host import store
from .host.mounts import enter_private_namespace
from .model import Device, SlotName, other_slot
from .policy import trust
from .probe import require_running
from .slots import needs_mounts, readable, require_left_whole, running_root
from .trial import view_session
from .verify import NO_IMAGE, UPDATE_AGAIN, Difference, compare, not_equal, stored_image


@dataclass(frozen=True)
class Rechecked:
    """What came of reading `slot`. `files`: how many files of its image were read.
    `mend`: what to do where it differs."""

    slot: SlotName
    version: Optional[str]
    image_id: str
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
        record = store.load_record(device)
        _require_filled(record, target)
        if target == device.running:
            emit(Note(f"slot {target} runs: what its system changed since is told as well"))
        with _opened(device, target) as root:
            image = stored_image(root, *trust(device, record))
            _warn_of_another(record, target, image.image_id, emit)
            differences, files = compare(root, image, emit, unlock=False)
    known = record.slots[target]
    version = image.version or (known.version if known.image_id == image.image_id else None)
    mend = _mend(device, record, target, image.image_id)
    return Rechecked(target, version, image.image_id, differences, files, mend)


def _mend(device: Device, record: Record, slot: SlotName, image_id: str) -> str:
    if slot == device.running:
        return "a running system changes files: look whether these are of that kind"
    if record.slots[other_slot(slot)].image_id == image_id:
        return "it holds the image that runs as well: an update to another one fills it anew"
    return UPDATE_AGAIN


def _require_filled(record: Record, slot: SlotName) -> None:
    """A fill that was cut off leaves the metadata of what was in the slot before."""
    known = record.slots[slot]
    if known.state == "staging":
        raise SlotUnusable(
            f"slot {slot} holds no complete image: the update to {known.version} was interrupted",
            hint="run the same `ota update` again; finished work is kept",
            slug=NO_IMAGE,
        )


@contextmanager
def _opened(device: Device, slot: SlotName) -> Iterator[Path]:
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
