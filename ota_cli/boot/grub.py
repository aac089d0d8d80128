"""The GRUB back-end (DESIGN section 6).

An update changes three things, never a script: the slot's own directory while nothing boots
it, its `ready` mark, and the head of the environment block. The head lies in one sector that
is overwritten in place: GRUB, which replays no journal, sees the old or the new choice. The
twin follows only when the main block was read back, so one of them is always whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional

from ..core import grubcfg, grubenv
from ..core.cmdline import grub_words
from ..core.grubenv import BootVariables
from ..errors import BootRefused
from ..host.mounts import mount_points
from ..host.ops import (
    CheckEnvironment,
    Flush,
    HardLink,
    Op,
    ReadBackStart,
    Remove,
    Rename,
    ReplaceInPlace,
    WriteFile,
)
from ..model import (
    SLOT_NAMES,
    Bootable,
    BootCopies,
    BootFile,
    BootFiles,
    BootState,
    Device,
    SlotBoot,
    SlotName,
)
from . import grub_files, layout
from .choice import armed, committed, disarmed, regained, withdrawn

#: Kinds of file systems in which GRUB overwrites the blocks of a file.
_WRITABLE_KINDS = ("ext2", "ext3", "ext4", "vfat")

needs_boot_files = True
boots_machines = True
marks_trials = False


def environment(device: Device) -> Path:
    """The block GRUB reads and clears the trial in."""
    return device.state_directory / "bootenv"


def twin(device: Device) -> Path:
    """Its copy, for the day the block is lost."""
    return device.state_directory / "bootenv.bak"


def custom_cfg(device: Device) -> Path:
    return device.boot / "grub" / "custom.cfg"


def detect(device: Device) -> bool:
    return _grub_cfg(device).is_file()


def read(device: Device) -> BootState:
    """What GRUB will do at the next boot.

    Raises BootRefused when the rule is not installed, GRUB does not read it, or the environment, or
    its twin, is not as `ota` writes it.
    """
    if grubcfg.rule_of(_custom_text(device)) is None:
        raise _not_set_up(f"{custom_cfg(device)} has no part of ota")
    if not _is_hidden(_grub_cfg(device)):
        _require_sourced(device)
    return stored(device)


def stored(device: Device) -> BootState:
    if not environment(device).exists() and not twin(device).exists():
        raise _not_set_up(f"{environment(device)} is missing")
    found = grubenv.boot_variables(_block(environment(device)))
    grubenv.boot_variables(_block(twin(device)))
    return _state(device, found)


def salvage(device: Device) -> Optional[BootState]:
    for path in (environment(device), twin(device)):
        with suppress(BootRefused):
            return _state(device, replace(grubenv.boot_variables(_block(path)), trial=None))
    return None


def integrate(device: Device) -> List[Op]:
    """Our part of `custom.cfg`, unless it is there.

    GRUB may see a renamed file empty until its content was flushed: so content first. It may still
    find the old file under the name, and that is empty once it is freed: so it is kept, by a second
    name, until the rename was flushed. Raises BootRefused when `grub.cfg` does not read
    `custom.cfg`, and when GRUB can not write to the boot partition.
    """
    _require_sourced(device)
    _require_writable(device)
    target = custom_cfg(device)
    old = _custom_text(device)
    new = grubcfg.with_part(old)
    if new == old:
        return complete(device)
    fresh = target.with_name("custom.cfg.ota-new")
    is_there = target.exists()
    mode = target.stat().st_mode & 0o777 if is_there else 0o644
    return [
        *complete(device),
        *([HardLink(_replaced_cfg(device), target)] if is_there else []),
        WriteFile(fresh, new.encode("utf-8", "surrogateescape"), mode),
        Flush((fresh, fresh.parent)),
        Rename(fresh, target),
        *_forget_replaced(device),
    ]


def _require_sourced(device: Device) -> None:
    """`update-grub` of a system without 41_custom writes a `grub.cfg` that knows nothing of us."""
    grub_cfg = _grub_cfg(device)
    if not grubcfg.sources_custom(grub_files.read(grub_cfg).decode("utf-8", "replace")):
        raise BootRefused(
            f"{grub_cfg} does not read custom.cfg",
            hint="install /etc/grub.d/41_custom of GRUB and run `update-grub`",
            slug="custom-cfg-not-read",
        )


def _require_writable(device: Device) -> None:
    """GRUB marks a trial as tried by writing to the blocks of its environment, and to nothing else
    (manual of GRUB, "Environment block"); and what a journal holds it must not need."""
    here = os.path.realpath(device.boot)
    mounted = [point for point in mount_points() if point.path == here]
    if not mounted or (mounted[-1].kind in _WRITABLE_KINDS and not mounted[-1].stacked):
        return
    raise BootRefused(
        f"{device.boot} is on {mounted[-1].stacked or mounted[-1].kind}: GRUB can not write to it",
        hint="a boot partition is an ext4 or FAT partition of its own; see ota-boot(7)",
        slug="boot-not-writable",
    )


def initialize(device: Device, state: BootState) -> List[Op]:
    """New blocks saying `state`, with the variables of others that can still be read.

    GRUB may find one empty while it is replaced: so a damaged one comes first, and the other when
    that is whole.
    """
    block = grubenv.compose(disarmed(state), _surviving_variables(device))
    written: List[Op] = []
    for path in sorted((twin(device), environment(device)), key=_is_whole):
        written += [WriteFile(path, block), Flush((path, path.parent)), ReadBackStart(path, block)]
    return written


def withdraw(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return [
        *_switch(device, withdrawn(state, slot)),
        *grub_files.empty(device, slot),
        Remove(layout.good_mark(device, slot)),
        Flush((layout.slot_directory(device, slot),)),
    ]


def install(
    device: Device, slot: SlotName, files: Optional[BootFiles], tree: Optional[Path] = None
) -> List[Op]:
    if files is None:
        raise BootRefused(f"slot {slot} holds no kernel", slug="no-kernel")
    words = grub_words(files.arguments)
    return [
        *grub_files.withdraw(device, slot),
        *grub_files.fill(grub_files.first_set(device, slot), files.kernel, files.initrd, words),
    ]


def refresh(
    device: Device, slot: SlotName, kernel: BootFile, initrd: Optional[BootFile]
) -> List[Op]:
    rule = grubcfg.rule_of(_custom_text(device)) or 0
    if rule < grubcfg.RULE_WITH_TWO_SETS:
        raise _not_set_up(f"the rule in {custom_cfg(device)} is too old for a second set")
    return grub_files.refresh(device, slot, kernel, initrd)


def arm(device: Device, state: BootState, bootable: Bootable) -> List[Op]:
    return _switch(device, armed(state, bootable))


def commit(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return _switch(device, committed(state, slot))


def mark_good(device: Device, slot: SlotName) -> List[Op]:
    """A mark that is there is left alone: GRUB might find it empty while it is replaced."""
    mark = layout.good_mark(device, slot)
    if layout.holds_something(mark):
        return []
    return [WriteFile(mark, layout.GOOD_TEXT), Flush((mark, mark.parent))]


def revert(device: Device, state: BootState) -> List[Op]:
    return _switch(device, disarmed(state))


def complete(device: Device) -> List[Op]:
    """A commit is one write; but a rule that it replaced may have been left."""
    return _forget_replaced(device) if _replaced_cfg(device).exists() else []


def lead_back(device: Device, state: BootState) -> List[Op]:
    """Nothing: a switch is one write, done or not."""
    return []


def regain(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return [*_switch(device, regained(state, slot)), *mark_good(device, slot)]


def is_intact(device: Device, slot: SlotName) -> bool:
    return grub_files.is_intact(device, slot)


def copies(device: Device, slot: SlotName) -> Optional[BootCopies]:
    booted = grub_files.booted_set(device, slot)
    if booted is None:
        return None
    return BootCopies(booted.digests(), booted.ready.stat().st_mtime_ns)


def occupied_bytes(device: Device, slot: SlotName) -> int:
    return grub_files.occupied_bytes(device, slot)


def shared(device: Device) -> Path:
    """GRUB reads `/boot` itself, whichever system runs."""
    return device.boot


def adapted(
    device: Device, slot: SlotName, text: Callable[[str], Optional[str]]
) -> Mapping[str, str]:
    """None: the arguments of the kernel name the slot."""
    return {}


def lacking(tree: Path) -> List[str]:
    """Nothing: GRUB itself ends a trial."""
    return []


def _grub_cfg(device: Device) -> Path:
    """The distribution's own, which reads ours."""
    return device.boot / "grub" / "grub.cfg"


def _is_hidden(path: Path) -> bool:
    """Whether only others may read it: grub-mkconfig makes `grub.cfg` root's alone (mode 0600), and
    who is not root arms nothing, but may ask what boots."""
    return path.exists() and not os.access(path, os.R_OK)


def _replaced_cfg(device: Device) -> Path:
    """What `custom.cfg` was, while GRUB may still find that under its name."""
    return custom_cfg(device).with_name("custom.cfg.ota-old")


def _forget_replaced(device: Device) -> List[Op]:
    """Takes it away, once GRUB finds what replaced it."""
    replaced = _replaced_cfg(device)
    return [Flush((replaced.parent,)), Remove(replaced)]


def _switch(device: Device, wanted: BootVariables) -> List[Op]:
    """The one write that changes what boots, checked, then the same for the twin."""
    head = grubenv.head(wanted)
    main, copy = environment(device), twin(device)
    return [
        ReplaceInPlace(main, head),
        ReadBackStart(main, head),
        CheckEnvironment(main, tuple(grubenv.listing(wanted))),
        ReplaceInPlace(copy, head),
        ReadBackStart(copy, head),
    ]


def _surviving_variables(device: Device) -> Dict[str, str]:
    """Variables of others in the first block that can be read."""
    for path in (environment(device), twin(device)):
        with suppress(BootRefused):
            return grubenv.foreign_variables(_block(path))
    return {}


def _state(device: Device, found: BootVariables) -> BootState:
    slots = {
        slot: SlotBoot(grub_files.booted_set(device, slot) is not None, slot in found.good)
        for slot in SLOT_NAMES
    }
    return BootState(found.default, found.trial, slots, found.txn)


def _custom_text(device: Device) -> str:
    path = custom_cfg(device)
    return grub_files.read(path).decode("utf-8", "surrogateescape") if path.exists() else ""


def _is_whole(path: Path) -> bool:
    """Whether GRUB can read the block at `path`."""
    with suppress(BootRefused):
        grubenv.boot_variables(_block(path))
        return True
    return False


def _block(path: Path) -> bytes:
    """The bytes of an environment block that should be there."""
    if not path.exists():
        raise BootRefused(f"{path} is missing", hint=grubenv.REPAIR_HINT, slug="env-damaged")
    return grub_files.read(path)


def _not_set_up(why: str) -> BootRefused:
    return BootRefused(why, hint="run `ota setup`", slug=layout.NOT_SET_UP)
