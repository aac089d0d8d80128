"""The story of `ota verify --repair`: the standby slot equals its own signed image again.

    compare    with the image in its `/.ota`, verified anew; equal: all is done     nothing
    plan       survey, space; is what the device lacks to be had, and where         nothing
    withdraw   record `staging`, and what the slot was before                       standby
    fill       as an update does: content, persistent files, fstab                  standby
    check      sync, read back                                                      standby
    install    kernel and initrd to the boot partition, `ready` last                standby
    regain     a slot that was good is what an ordinary boot falls back to          boot order
    record     the slot is what it was                                              boot order

The right column says what has been touched when a step fails. Nothing is armed, and the running
slot stays the default. What a slot was is proven by its image: that was committed here, or checked
when it was staged, and the slot equals it byte for byte.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Generator, NamedTuple, Optional, Sequence

from .core import record as phases
from .core.plan import FileStep, ManySteps, Plan
from .core.record import SlotRecord, Transaction
from .errors import Footprint, ImageDamaged, SlotUnusable, TrialFailed, leaving
from .events import Emit
from .fill import Fetch
from .fit import require_fit
from .host import ops, store
from .host.net import Fetcher, NetSettings
from .model import Device, SlotName, other_slot
from .policy import trust
from .probe import require_running
from .recheck import REPAIRABLE, Rechecked, compared, known_version, opened
from .remember import remember
from .seal import seal_of
from .slots import require_sound
from .source import fetching, require_offered
from .staging import Staged, Staging, Wire
from .trial import Session, open_session, view_session
from .verify import stored_image


class Published(NamedTuple):
    """Where an image's content is to be had, and how it is fetched."""

    url: str
    net: NetSettings


@dataclass(frozen=True)
class Repaired:
    """What a repair did. `found`: how the slot was before; nothing differs there where an earlier
    repair was cut off. `plan` None: it was as it should be. `state`: what the slot is now."""

    found: Rechecked
    state: str
    plan: Optional[Plan] = None
    carried: Sequence[str] = ()
    downloaded_bytes: int = 0
    seconds: float = 0.0


def repair(
    device: Device, slot: Optional[SlotName], published: Optional[Published], emit: Emit
) -> Repaired:
    """Makes the standby slot equal to the image it was filled from, where it differs; `slot` may
    name it. What neither slot has comes from where the image is `published`.

    Raises OtaError with the footprint of the step that failed.
    """
    started = time.monotonic()
    target = _standby(device, slot)
    with store.exclusive(device), ExitStack() as stack:
        fetcher = stack.enter_context(Fetcher(*published)) if published else None
        session = view_session(device)
        session.require_confirmed()
        begun = _cut_off(session, target)
        require_sound(device.slots[target])  # after a power cut its journal has to be replayed
        found = _taken_up(session, target) if begun else compared(
            device, session.record, target, emit
        )  # fmt: skip
        if begun is None and not found.differences and _boots(session, target):
            return Repaired(found, session.record.slots[target].state)
        _require_repairable(session, found, begun)
        wire = Wire()
        staging = _staging(open_session(device, emit), found, begun, fetcher)
        staged = staging.stage(_source(staging, fetcher, wire, emit), emit)
        is_good = SlotRecord(staging.transaction.was).is_good
        with leaving(Footprint.BOOT if is_good else Footprint.STANDBY):
            _restore(staging, staged, is_good, emit)
    return Repaired(
        found, staging.transaction.was, staged.plan, staged.carried, wire.bytes,
        round(time.monotonic() - started, 3),
    )  # fmt: skip


def _standby(device: Device, slot: Optional[SlotName]) -> SlotName:
    running = require_running(device)
    if slot == running:
        raise SlotUnusable(
            f"slot {slot} runs: only the standby slot is repaired",
            hint="`ota switch-slot` boots the other slot; once that is confirmed, repair it there",
            slug="running-slot",
        )
    return other_slot(running)


def _cut_off(session: Session, slot: SlotName) -> Optional[Transaction]:
    """The repair of `slot` that was begun and has not ended, if there is one."""
    last = session.record.transaction
    if last is None or session.record.slots[slot].state != "staging":
        return None
    return last if (last.kind, last.to_slot) == (phases.REPAIR, slot) else None


def _taken_up(session: Session, slot: SlotName) -> Rechecked:
    """What is known of a slot whose repair was cut off; it need not be compared."""
    device, record = session.device, session.record
    with opened(device, slot) as root:
        image = stored_image(root, *trust(device, record))
    files = len(image.tables.regulars)
    return Rechecked(slot, known_version(record, slot, image), image, [], files, "")


def _boots(session: Session, slot: SlotName) -> bool:
    """Whether `slot` has the boot files that it should have."""
    should = session.record.slots[slot].state in REPAIRABLE
    return not should or session.backend.is_intact(session.device, slot)


def _staging(
    session: Session, found: Rechecked, begun: Optional[Transaction], fetcher: Optional[Fetcher]
) -> Staging:
    """What is to be done, and what is on record of it."""
    slot, image, record = found.slot, found.image, session.record
    known = record.slots[slot]
    transaction = begun or Transaction(
        uuid.uuid4().hex[:12], phases.REPAIR, phases.STAGING, session.running, slot,
        image.image_id, found.version, store.now(),
        attempts=record.attempts_of(slot, image.image_id), was=_provable(session, slot),
    )  # fmt: skip
    intended = replace(known, state="staging", since=None, seal="", sources="")
    return Staging(
        session, image, transaction, intended, "full",
        may_format=False, self_confirm=False, admit=_admission(session, found, fetcher),
    )  # fmt: skip


def _provable(session: Session, slot: SlotName) -> str:
    """What `slot` is once it equals its image: known to work only where the boot loader says so,
    too."""
    known = session.record.slots[slot]
    return "staged" if known.is_good and not session.boot.slots[slot].good else known.state


def _require_repairable(session: Session, found: Rechecked, begun: Optional[Transaction]) -> None:
    """Raises TrialFailed, SlotUnusable and DoesNotFit where the slot may not be filled again."""
    slot, image, record = found.slot, found.image, session.record
    known = record.slots[slot]
    if image.image_id in record.failed or known.state == "bad":
        raise TrialFailed(
            f"the image in slot {slot} fell back on this device: repaired, it would do so again",
            hint="update to another image; `ota update --retry-failed` brings this one once more",
            slug="failed-before",
        )
    if session.boot.trial == slot:
        raise SlotUnusable(
            f"slot {slot} is armed: the next boot would try it",
            hint="`ota rollback` takes it back; then run this again",
            slug="slot-armed",
        )
    if known.image_id != image.image_id or (begun is None and known.state not in REPAIRABLE):
        raise SlotUnusable(
            f"slot {slot} ({known.state}) does not hold the image that ota brought there",
            hint="`ota update` fills it anew",
            slug="unknown-image",
        )
    require_fit(session.device, record, image.claims, allow_downgrade=True, retry_failed=True)


def _admission(
    session: Session, found: Rechecked, fetcher: Optional[Fetcher]
) -> Callable[[Plan], None]:
    """Refuses, before anything is touched, what could not be brought to its end."""

    def admit(plan: Plan) -> None:
        missing = plan.downloads
        if missing and fetcher is None:
            raise _nowhere(found.slot, missing)
        if missing and fetcher is not None:
            require_offered(fetcher, found.image)

    return admit


def _nowhere(slot: SlotName, missing: ManySteps) -> ImageDamaged:
    count, size = len(missing), sum(step.entry.size or 0 for step in missing)
    files = "1 file" if count == 1 else f"{count} files"
    return ImageDamaged(
        f"the content of {files} ({size} bytes) is neither in slot {slot} nor in slot "
        f"{other_slot(slot)}",
        hint="`ota verify --repair --version URL` fetches it from where the image is published",
        slug="content-missing",
    )


def _source(staging: Staging, fetcher: Optional[Fetcher], wire: Wire, emit: Emit) -> Fetch:
    """How content is fetched; without a server, what was copied changed while that was done."""
    if fetcher is not None:
        return fetching(fetcher, staging.image, wire.add, emit)

    def refuse(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        raise _nowhere(staging.slot, steps)

    return refuse


def _restore(staging: Staging, staged: Staged, is_good: bool, emit: Emit) -> None:
    """The slot is again what it was. The boot loader is told first: a record that says less only
    has the repair done once more."""
    session, slot, device = staging.session, staging.slot, staging.device
    if is_good:
        state = session.backend.read(device)
        ops.apply(session.backend.regain(device, state, slot))
    record = store.load_record(device)
    restored = record.with_slot(
        slot, state=staging.transaction.was, since=store.now(), verify_local=staging.level,
        seal=seal_of(device.slots[slot]), sources=staged.sources,
    )  # fmt: skip
    ended = replace(staging.transaction, phase=phases.REPAIRED, ended=store.now())
    remember(device, record, replace(restored, transaction=ended), emit)
