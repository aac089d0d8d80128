"""The CBoot back-end: NVIDIA Jetson Xavier with a BSP older than R34 (FORMATS section 5).

CBoot keeps which slot boots, and how often it may still fail, in a place of its own that only
`nvbootctrl` changes; it reads `/boot/extlinux/extlinux.conf` of that slot. Files of ours lie on
a partition that both slots mount on `/boot/ota`:

    /boot/ota/cboot         which slot is known to work, and what was armed (`boot.settings`)
    /boot/ota/slot-X/ready  the system in slot X is complete

What boots next is what nvbootctrl says. Whether the running system is on trial nvbootctrl can not
say: a unit of NVIDIA's marks every boot that got far enough as successful, whatever our health
checks find. So the slot itself says it: `/.ota/trial` is put there before CBoot is told to try
it, and its removal, by a commit only, is the instant at which a trial is confirmed. It holds the
words that GRUB would put on the kernel command line. While it is there, `ota-once.service` makes
the old slot active again as soon as user space is reached, so that one trial is all there is;
below that, CBoot's own counter of retries runs out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from ..core import extlinux
from ..core.grubenv import BootVariables
from ..core.jetson import Loader, number_of
from ..core.systemd import ONCE_UNIT, VERIFIER_PATH, VERIFIER_TEXT, VERIFIER_UNIT
from ..core.trialmark import RUN_MARK, TRIAL, trial_words
from ..errors import BootRefused
from ..host import nvbootctrl, store
from ..host.inside import text_inside
from ..host.loaderops import ActivateSlot, MirrorBoot, Nvbootctrl, PutInSlot, WithholdSlot
from ..host.ops import Op, Remove
from ..host.units import holds_unit, is_enabled
from ..model import (
    SLOT_NAMES,
    Bootable,
    BootCopies,
    BootFile,
    BootFiles,
    BootState,
    Device,
    DirectorySlot,
    SlotBoot,
    SlotName,
    other_slot,
)
from ..slots import node_of
from . import cboot_files, layout, settings
from .choice import (
    armed,
    committed,
    disarmed,
    regained,
    withdrawn,
)
from .rootspec import extlinux_root

needs_boot_files = False
boots_machines = True
marks_trials = True

_READY_TEXT = b"the system in the slot is complete\n"


def settings_file(device: Device) -> Path:
    """What `ota` knows and CBoot does not."""
    return device.state_directory / "cboot"


def detect(device: Device) -> bool:
    """Also for a Jetson that can not be served: `read` then says why."""
    return nvbootctrl.facts(device.root).is_jetson


def read(device: Device) -> BootState:
    """What CBoot will do. Raises BootRefused when nvbootctrl can not be relied on, when no slot
    would boot, and when another slot runs than it says."""
    return stored(device)


def stored(device: Device) -> BootState:
    """A commit that was cut off when the mark was gone is done, but for its settings."""
    loader = _look(device)
    found = _completed(device, loader, settings.load(settings_file(device)))
    trial = loader.next if loader.next != found.default else None
    slots = {slot: SlotBoot(_is_ready(device, slot), slot in found.good) for slot in SLOT_NAMES}
    return BootState(found.default, trial, slots, found.txn, loader.next)


def complete(device: Device) -> List[Op]:
    written = settings.load(settings_file(device))
    wanted = _completed(device, _look(device), written)
    return settings.save(settings_file(device), wanted) if wanted != written else []


def _completed(device: Device, loader: Loader, found: BootVariables) -> BootVariables:
    """The settings once a commit is done of which only they are left to be written."""
    running = device.running
    cut_off = running is not None and found.trial == running == loader.next
    if running is None or not cut_off or not store.is_unmarked(device):
        return found
    good = tuple(slot for slot in SLOT_NAMES if slot == running or slot in found.good)
    return replace(found, default=running, trial=None, good=good)


def salvage(device: Device) -> Optional[BootState]:
    """The settings, where they are whole and it is CBoot that could not be asked."""
    with suppress(BootRefused):
        found = settings.load(settings_file(device))
        slots = {slot: SlotBoot(_is_ready(device, slot), slot in found.good) for slot in SLOT_NAMES}
        return BootState(found.default, None, slots)
    return None


def integrate(device: Device) -> List[Op]:
    """Nothing: CBoot obeys nvbootctrl alone."""
    return []


def mark_good(device: Device, slot: SlotName) -> List[Op]:
    """Nothing: there is no second place for what the settings say."""
    return []


def refresh(
    device: Device, slot: SlotName, kernel: BootFile, initrd: Optional[BootFile]
) -> List[Op]:
    """Nothing: a kernel package writes into the slot itself."""
    return []


def is_intact(device: Device, slot: SlotName) -> bool:
    """Whether the slot was completed; and whether the copy of its `/boot` that CBoot reads, where
    there is one, is what was installed."""
    if not _is_ready(device, slot):
        return False
    copy = boot_copy(device, slot)
    if copy is None:
        return True
    with cboot_files.seen(copy) as tree:
        return cboot_files.holds(tree, _listed(device, slot))


def _is_ready(device: Device, slot: SlotName) -> bool:
    """Whether the slot was completed; and, where its files can be read without mounting it,
    whether the entry that boots is there with the files it names."""
    if not layout.holds_something(layout.ready_mark(device, slot)):
        return False
    tree = _tree(device, slot)
    return tree is None or cboot_files.entry_problem(tree) is None


def _listed(device: Device, slot: SlotName) -> Dict[str, str]:
    ready = layout.ready_mark(device, slot)
    return cboot_files.listed(ready.read_bytes()) if ready.exists() else {}


def initialize(device: Device, state: BootState) -> List[Op]:
    return settings.create(settings_file(device), disarmed(state))


def withdraw(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    """In unified mode CBoot can be told only what to prefer: its slots are the boot loader's."""
    loader = _look(device)
    wanted = withdrawn(state, slot)
    return [
        *settings.save(settings_file(device), wanted),
        ActivateSlot(loader.target, wanted.default),
        *([] if loader.unified else [WithholdSlot(loader.target, slot)]),
        *layout.unmake_ready(device, slot),
    ]


def install(
    device: Device, slot: SlotName, files: Optional[BootFiles], tree: Optional[Path] = None
) -> List[Op]:
    """With the root on NVMe, CBoot reads the `/boot` of the partition of eMMC with the number of
    the slot's: the one of `tree` is copied there."""
    found = tree if tree is not None else _tree(device, slot)
    problem = cboot_files.entry_problem(found) if found is not None else None
    if found is not None and problem is not None:
        raise BootRefused(
            f"CBoot would not find what it boots in slot {slot}: {problem}",
            hint="correct it in the image, or in the running system",
            slug="extlinux",
        )
    copied, text = _mirrored(device, slot, tree)
    return [*copied, *layout.make_ready(device, slot, text)]


def _mirrored(device: Device, slot: SlotName, tree: Optional[Path]) -> Tuple[List[Op], bytes]:
    """What brings the `/boot` of `tree` to where CBoot reads it, and what is then noted of it.

    What boots the running system is adopted as it is, unless it is known to be damaged.
    """
    copy = boot_copy(device, slot)
    if copy is None or tree is None:
        return [], _READY_TEXT
    if slot == device.running and not _listed(device, slot):
        with cboot_files.seen(copy) as boots:
            if cboot_files.entry_problem(boots) is None:
                return [], cboot_files.listing(boots)
    return [MirrorBoot(tree / "boot", copy)], cboot_files.listing(tree)


def arm(device: Device, state: BootState, bootable: Bootable) -> List[Op]:
    """The mark, what is meant, then CBoot's one write; that it was done is noted last, so that
    a trial which CBoot was never told of does not count as one."""
    loader = _look(device)
    slot = bootable.slot
    home = other_slot(slot)  # also where CBoot has left its default, to which this returns
    wanted = replace(armed(state, bootable), default=home)
    words = trial_words(slot, bootable.txn, device.settings.commit_deadline_s, loader, home)
    told_before = state.txn if state.trial is not None else ""
    return [
        PutInSlot(_place(device, slot), TRIAL, f"{words}\n".encode()),
        *settings.save(settings_file(device), replace(wanted, txn=told_before)),
        ActivateSlot(loader.target, slot),
        *settings.save(settings_file(device), wanted),
    ]


def commit(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    """Raises BootRefused for another slot than the one that runs: CBoot marks only that one."""
    wanted = committed(state, slot)
    if slot != device.running:
        raise BootRefused(f"slot {slot} does not run: CBoot can not be told that it works")
    loader = _look(device)
    return [
        ActivateSlot(loader.target, slot),
        *_marked_successful(loader),
        PutInSlot(_place(device, slot), TRIAL, None),
        *settings.save(settings_file(device), wanted),
        Remove(device.root / RUN_MARK),  # a copy for others to read, which decides nothing
    ]


def revert(device: Device, state: BootState) -> List[Op]:
    """The mark goes with the trial: CBoot may come to that slot when the other one fails."""
    loader = _look(device)
    wanted = disarmed(replace(state, default=_home(state)))
    tried = state.trial if state.trial != device.running else None
    is_home = loader.next != wanted.default and wanted.default == device.running
    return [
        *settings.save(settings_file(device), wanted),
        ActivateSlot(loader.target, wanted.default),
        *(_marked_successful(loader) if is_home else []),
        *([PutInSlot(_place(device, tried), TRIAL, None)] if tried is not None else []),
    ]


def lead_back(device: Device, state: BootState) -> List[Op]:
    """CBoot's part of a `revert`, which needs no room on any disk."""
    home = _home(state)
    return [] if home is None else [ActivateSlot(_look(device).target, home)]


def _home(state: BootState) -> Optional[SlotName]:
    """What a trial returns to: not to itself, where CBoot has left its own default."""
    tried = state.trial
    return state.default if tried is None or tried != state.default else other_slot(tried)


def regain(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    """CBoot itself comes to the slot again once it is armed: only that makes it bootable there."""
    return settings.save(settings_file(device), regained(state, slot))


def copies(device: Device, slot: SlotName) -> Optional[BootCopies]:
    """None: what packages bring boots itself; with the root on NVMe they are not followed."""
    return None


def occupied_bytes(device: Device, slot: SlotName) -> int:
    """Nothing: no kernel lies on the partition that both slots mount."""
    return 0


def shared(device: Device) -> Path:
    """Not `/boot`: CBoot reads that in the slot itself."""
    return device.state_directory


def adapted(
    device: Device, slot: SlotName, text: Callable[[str], Optional[str]]
) -> Mapping[str, str]:
    """The entry that boots mounts its own slot on `/`."""
    path = f"/{cboot_files.EXTLINUX}"
    written = text(path)
    if written is None:
        raise BootRefused(
            f"the image holds no {path}, by which CBoot boots",
            hint="put the one of NVIDIA's BSP into the image's root file system",
            slug="extlinux",
        )
    wanted = extlinux.with_root(written, extlinux_root(device, slot))
    return {} if wanted == written else {path: wanted}


def lacking(tree: Path) -> List[str]:
    """The way back from a trial, and that NVIDIA's unit leaves it alone."""
    missing = [] if is_enabled(tree, ONCE_UNIT) else [f"{ONCE_UNIT} is not enabled"]
    if holds_unit(tree, VERIFIER_UNIT) and text_inside(tree, VERIFIER_PATH) != VERIFIER_TEXT:
        missing.append(
            f"{VERIFIER_PATH} is missing, without which NVIDIA's unit calls each boot successful"
        )
    return missing


def boot_copy(device: Device, slot: SlotName) -> Optional[Path]:
    """The partition of eMMC from which CBoot boots a slot on NVMe; None for slots on eMMC.

    Below `--root` directories may stand for partitions, by the same names.
    """
    location = device.slots[slot]
    if isinstance(location, DirectorySlot):
        place = location.path
    else:
        place = Path(os.path.realpath(node_of(location)))
    if not place.name.startswith("nvme"):
        return None
    number = SLOT_NAMES.index(slot) + 1
    return place.with_name(f"mmcblk0p{number}")


def _marked_successful(loader: Loader) -> List[Op]:
    """It concerns the slot that runs; in unified mode the root file system needs none."""
    return [] if loader.unified else [Nvbootctrl((*loader.target, "mark-boot-successful"))]


def _look(device: Device) -> Loader:
    loader = nvbootctrl.look(nvbootctrl.facts(device.root))
    running = device.running
    if running is not None and loader.current != running:
        raise BootRefused(
            f"slot {running} is mounted on /, but nvbootctrl says that slot {loader.current} "
            "was booted",
            hint=f"root= in /{cboot_files.EXTLINUX} of slot {loader.current} may name the wrong "
            "partition",
            slug="slots-disagree",
        )
    if loader.next is None:
        words = " ".join((*loader.target, "set-active-boot-slot", number_of(loader.current)))
        raise BootRefused(
            "no slot is bootable: CBoot would enter recovery",
            hint=f"`nvbootctrl {words}` makes the running one bootable again",
            slug="nothing-boots",
        )
    return loader


def _place(device: Device, slot: SlotName) -> Path:
    """The root directory of a slot's system, else what has to be mounted."""
    location = device.slots[slot]
    if isinstance(location, DirectorySlot):
        return location.path
    if slot == device.running and device.is_this_machine:
        return Path("/")
    return Path(node_of(location))


def _tree(device: Device, slot: SlotName) -> Optional[Path]:
    location = device.slots.get(slot)
    if isinstance(location, DirectorySlot):
        return location.path
    return Path("/") if slot == device.running and device.is_this_machine else None
