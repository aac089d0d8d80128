"""The GRUB back-end (DESIGN section 6).

An update changes three things, never a script: the slot's own directory while nothing boots
it, its `ready` mark, and the head of the environment block. The head lies in one sector that
is overwritten in place: GRUB, which replays no journal, sees the old or the new choice. The
twin follows only when the main block was read back, so one of them is always whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

from ..core import grubcfg, grubenv
from ..core.cmdline import grub_words
from ..core.grubenv import BootVariables
from ..errors import BootRefused
from ..host.ops import (
    CheckEnvironment,
    CopyVerified,
    Flush,
    MakeDirectory,
    Op,
    ReadBack,
    ReadBackStart,
    Remove,
    ReplaceInPlace,
    WriteFile,
)
from ..model import (
    SLOT_NAMES,
    Bootable,
    BootFiles,
    BootState,
    Device,
    SlotBoot,
    SlotName,
)
from . import layout
from .choice import armed, committed, disarmed, withdrawn

needs_boot_files = True


def environment(device: Device) -> Path:
    """The block GRUB reads and clears the trial in."""
    return device.state_directory / "bootenv"


def twin(device: Device) -> Path:
    """Its copy, for the day the block is lost."""
    return device.state_directory / "bootenv.bak"


def custom_cfg(device: Device) -> Path:
    return device.boot / "grub" / "custom.cfg"


def detect(device: Device) -> bool:
    return (device.boot / "grub" / "grub.cfg").is_file()


def read(device: Device) -> BootState:
    """What GRUB will do at the next boot.

    Raises BootRefused when the rule is not installed or the environment, or its twin, is not
    as `ota` writes it.
    """
    if grubcfg.rule_of(_read(custom_cfg(device)).decode("utf-8", "replace")) is None:
        raise BootRefused(
            f"{custom_cfg(device)} has no part of ota",
            hint="run `ota setup`",
            slug="boot-not-set-up",
        )
    found = grubenv.boot_variables(_read(environment(device)))
    grubenv.boot_variables(_read(twin(device)))
    slots = {slot: SlotBoot(_is_ready(device, slot), slot in found.good) for slot in SLOT_NAMES}
    return BootState(found.default, found.trial, slots)


def initialize(device: Device, state: BootState) -> List[Op]:
    """New blocks saying `state`, with the variables of others that can still be read."""
    block = grubenv.compose(disarmed(state), surviving_variables(device))
    written: List[Op] = []
    for path in (twin(device), environment(device)):
        written += [WriteFile(path, block), Flush((path, path.parent)), ReadBackStart(path, block)]
    return written


def withdraw(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return [
        *_switch(device, withdrawn(state, slot)),
        MakeDirectory(layout.slot_directory(device, slot)),
        Remove(layout.ready_mark(device, slot)),
        Remove(layout.good_mark(device, slot)),
        Flush((layout.slot_directory(device, slot),)),
    ]


def install(device: Device, slot: SlotName, files: Optional[BootFiles]) -> List[Op]:
    if files is None:
        raise BootRefused(f"slot {slot} holds no kernel", slug="no-kernel")
    directory = layout.slot_directory(device, slot)
    arguments = layout.arguments(device, slot)
    text = grubcfg.arguments_file(grub_words(files.arguments), files.initrd is not None).encode()
    copies = _copies(device, slot, files)
    ready = layout.ready_mark(device, slot)
    ready_text = "".join(f"{op.digest.hex()}  {op.target.name}\n" for op in copies).encode()
    withdrawn: List[Op] = [MakeDirectory(directory), Remove(ready), Flush((directory,))]
    if files.initrd is None:
        withdrawn.append(Remove(layout.initrd(device, slot)))
    return [
        *withdrawn,
        *copies,
        WriteFile(arguments, text),
        Flush((directory, *(op.target for op in copies), arguments)),
        *(ReadBack(op.target, op.digest) for op in copies),
        ReadBackStart(arguments, text),
        WriteFile(ready, ready_text),
        Flush((ready, directory)),
        ReadBackStart(ready, ready_text),
    ]


def arm(device: Device, state: BootState, bootable: Bootable) -> List[Op]:
    return _switch(device, armed(state, bootable))


def commit(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    mark = layout.good_mark(device, slot)
    return [
        *_switch(device, committed(state, slot)),
        WriteFile(mark, layout.GOOD_TEXT),
        Flush((mark, mark.parent)),
    ]


def revert(device: Device, state: BootState) -> List[Op]:
    return _switch(device, disarmed(state))


def surviving_variables(device: Device) -> Dict[str, str]:
    """Variables of others in the first block that can be read."""
    for path in (environment(device), twin(device)):
        try:
            return grubenv.foreign_variables(_read(path))
        except BootRefused:
            continue
    return {}


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


def _copies(device: Device, slot: SlotName, files: BootFiles) -> List[CopyVerified]:
    found = [CopyVerified(files.kernel.path, layout.kernel(device, slot), files.kernel.digest)]
    if files.initrd is not None:
        target = layout.initrd(device, slot)
        found.append(CopyVerified(files.initrd.path, target, files.initrd.digest))
    return found


def _is_ready(device: Device, slot: SlotName) -> bool:
    """What the script asks before it takes a slot."""
    return all(
        layout.holds_something(path)
        for path in (
            layout.ready_mark(device, slot),
            layout.arguments(device, slot),
            layout.kernel(device, slot),
        )
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BootRefused(
            f"{path} is missing", hint="run `ota setup`", slug="boot-not-set-up"
        ) from None
    except OSError as error:
        raise BootRefused(f"{path} can not be read: {error.strerror}") from None
