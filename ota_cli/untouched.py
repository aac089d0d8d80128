"""A standby slot that holds the wanted image already, as `ota` left it: it need not be filled.

Only with `verify_local: stat`, and only where the seal of a file system proves that nobody
mounted it for writing since (see `seal`): then there is nothing to scan for changes either. What
boots is read all the same, and the device must have nothing else to carry over than it had then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from .core.trust import SignedClaims
from .errors import ImageDamaged, SlotUnusable
from .events import Emit, Note, Phase, PhaseStarted
from .host.content import digest_of
from .host.mounts import enter_private_namespace
from .model import Device, DirectorySlot, Image, VerifyLocal, other_slot
from .newsystem import is_adapted
from .persist import sources
from .slots import needs_mounts, readable, running_root
from .trial import Session
from .verify import completed


def untouched(
    session: Session, signed: SignedClaims, level: VerifyLocal, emit: Emit
) -> Optional[Image]:
    """The image of `signed`, from the standby slot's own `/.ota`, if that slot is untouched.

    `level`: that usable now. None where the slot has to be looked through.
    """
    device, slot = session.device, other_slot(session.running)
    location, known = device.slots[slot], session.record.slots[slot]
    is_sealed = level == "stat" and not isinstance(location, DirectorySlot)
    if not is_sealed or not known.carried or known.image_id != signed.image_id:
        return None
    emit(PhaseStarted(Phase.COMPARE, f"looking whether slot {slot} is as it was left"))
    if needs_mounts(device):
        enter_private_namespace()
    try:
        with running_root(device) as running, readable(location) as root:
            image = completed(root, signed)
            is_same = known.carried == sources_of(device, image, running)
            if not (is_same and is_adapted(device, slot, running, root) and _boots(root, image)):
                return None
    except (ImageDamaged, SlotUnusable, OSError):
        return None  # a fill tells what is wrong, or mends it
    emit(Note(f"slot {slot} holds this image, untouched: only what boots of it was read"))
    return image


def sources_of(device: Device, image: Image, running: Optional[Path]) -> str:
    """What is carried over to `image` from the running slot, in short; see `persist.sources`.

    Empty where nobody will ask.
    """
    if running is None or device.settings.verify_local == "full":
        return ""
    return sources(image.tables.persistents, device.settings.persist, running)


def _boots(root: Path, image: Image) -> bool:
    """Whether what a boot loader may read of the slot is the image's. Raises OSError."""
    files = image.tables.regulars
    below = files.paths.below("/boot")
    return all(digest_of(f"{root}{files.paths[row]}") == files.digest(row) for row in below)
