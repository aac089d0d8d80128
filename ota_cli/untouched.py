"""A standby slot that holds the wanted image already, as `ota` left it: it need not be filled.

Only with `verify_local: stat`, and only where the seal of a file system proves that nobody
mounted it for writing since (see `seal`): then there is nothing to scan for changes either. What
boots is read all the same, and what is carried over must be the same as then. Wherever anything
is not as it should be, the slot is filled: that mends it, or tells what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import FrozenSet, NamedTuple, Optional

from .confirmable import require_confirmable
from .core.trust import SignedClaims
from .errors import DoesNotFit, ImageDamaged, SlotUnusable
from .events import Emit, Note, Phase, PhaseStarted
from .host.content import digest_of
from .host.mounts import enter_private_namespace
from .model import Device, DirectorySlot, Image, SlotName, VerifyLocal, other_slot
from .newsystem import is_adapted
from .persistent import sources
from .policy import signer_policy
from .slots import needs_mounts, running_root, sole_view
from .trial import Session
from .verify import carried_paths, completed, holds, is_in


class Untouched(NamedTuple):
    """What a standby slot holds. `carried`: the paths that differ from the image."""

    image: Image
    carried: FrozenSet[str]


def untouched(
    session: Session, signed: SignedClaims, level: VerifyLocal, emit: Emit, *, self_confirm: bool
) -> Optional[Untouched]:
    """The image of `signed` in the standby slot, from its own `/.ota`, if that slot is untouched.

    `level`: that usable now. `self_confirm`: it must be able to confirm itself. None where the
    slot has to be filled. Raises NeedsRoot.
    """
    device, slot = session.device, other_slot(session.running)
    known = session.record.slots[slot]
    if level == "full" or not known.sources or known.image_id != signed.image_id:
        return None
    emit(PhaseStarted(Phase.COMPARE, f"looking whether slot {slot} is as it was left"))
    if needs_mounts(device):
        enter_private_namespace()
    try:
        with running_root(device) as running, sole_view(device.slots[slot]) as root:
            found = Untouched(completed(root, signed), carried_paths(root))
            is_same = known.sources == sources_of(device, slot, found.image, running)
            if not is_same or not is_adapted(device, slot, running, root):
                return None
            if not _keeps(root, signed) or not _boots(root, found):
                return None
            if self_confirm and session.backend.boots_machines:
                policy = signer_policy(device, session.record)
                require_confirmable(device, root, found.image, policy)
    except (DoesNotFit, ImageDamaged, SlotUnusable, OSError):
        return None
    emit(Note(f"slot {slot} holds this image, untouched: only what boots of it was read"))
    return found


def sources_of(device: Device, slot: SlotName, image: Image, running: Optional[Path]) -> str:
    """What is carried over to `image` in `slot`, in short; see `persistent.sources`.

    Empty where nobody will ask: of slots that have no file system to be sealed.
    """
    if running is None or isinstance(device.slots[slot], DirectorySlot):
        return ""
    return sources(image.tables.persistents, device.settings.persist, running)


def _keeps(root: Path, signed: SignedClaims) -> bool:
    """Whether the slot has the very claims and certificate: they may have been signed again."""
    return all(holds(root, name, [data]) for name, data in signed.metadata.items())


def _boots(root: Path, found: Untouched) -> bool:
    """Whether what a boot loader may read of the slot is the image's. Raises OSError."""
    files = found.image.tables.regulars
    return all(
        digest_of(f"{root}{files.paths[row]}") == files.digest(row)
        for row in files.paths.below("/boot")
        if not is_in(files.paths[row], found.carried)
    )
