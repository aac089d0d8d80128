"""What the boot loader of a device below --root would do at a reboot. A simulation.

For `ota demo` and tests, never for a decision: it follows the rule of `custom.cfg` with a
reader of its own, so that it finds what another program finds on the disk. Where the rule
cannot tell that a boot fails (a damaged kernel resets the machine), the digests in `ready` do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ..core.grubcfg import read_arguments_file
from ..errors import BootRefused, UsageProblem
from ..host.files import replace_in_place, write_durably
from ..model import SLOT_NAMES, Device, SlotName, other_slot

#: The ordinary boot after a failed trial is the last that can end differently.
_ATTEMPTS = 3
_GRUB_BLANK = re.compile(r"\s")


@dataclass(frozen=True)
class SimulatedBoot:
    """The system that came up. `cmdline`: what its `/proc/cmdline` says."""

    slot: SlotName
    trial: bool
    cmdline: str


def next_boot(device: Device) -> SimulatedBoot:
    """Reboots the device on paper and writes its `proc/cmdline`.

    Like the real one it uses up a trial. Raises UsageProblem for this machine, BootRefused
    when nothing would come up.
    """
    if device.is_this_machine:
        raise UsageProblem("a reboot is only simulated below --root")
    boot = _directory_boot(device) if device.loader == "directory" else _grub_boot(device)
    cmdline = device.root / "proc" / "cmdline"
    cmdline.parent.mkdir(parents=True, exist_ok=True)
    cmdline.write_text(f"{boot.cmdline}\n", encoding="utf-8")
    return boot


def _grub_boot(device: Device) -> SimulatedBoot:
    home = device.state_directory
    if "### BEGIN ota" not in (device.boot / "grub" / "custom.cfg").read_text("utf-8", "replace"):
        raise BootRefused("GRUB would boot its own first entry: there is no rule of ota")
    for _ in range(_ATTEMPTS):
        slot, mode = grub_choice(home)
        for each in (slot, *([] if mode else _spare(home, slot))):
            line = _command_line(home, each, mode)
            if line is not None:
                return SimulatedBoot(each, bool(mode), line)
    raise BootRefused(f"GRUB would reboot for ever: slot {slot} does not load")


def grub_choice(home: Path) -> Tuple[SlotName, List[str]]:
    """The slot that the rule of `custom.cfg` picks from the settings in `home`, `/boot/ota`, and
    what a trial adds to its command line; the trial is used up.

    Raises BootRefused when it picks none.
    """
    environment = _environment(home)
    trial = _slot(environment.get("ota_trial", ""))
    if trial and _is_ready(home, trial) and _use_up(home / "bootenv"):
        return trial, ["ota.trial=1", f"ota.txn={environment.get('ota_txn', '')}"]
    picked = _ordinary(home, _slot(environment.get("ota_default", "")), _good(environment))
    if picked is None:
        raise BootRefused("GRUB would boot its own first entry: no slot is ready")
    return picked, []


def _environment(home: Path) -> Dict[str, str]:
    """What the rule goes by: the twin, for an ordinary boot, where the block has no default."""
    main = _variables(home / "bootenv")
    if _slot(main.get("ota_default", "")):
        return main
    return {**main, **_variables(home / "bootenv.bak"), "ota_trial": "0"}


def _good(environment: Dict[str, str]) -> List[SlotName]:
    return [slot for slot in SLOT_NAMES if environment.get(f"ota_good_{slot}") == "1"]


def _spare(home: Path, slot: SlotName) -> List[SlotName]:
    """What the entry of `slot` goes on with where that does not load."""
    other = other_slot(slot)
    return [other] if other in _good(_environment(home)) and _is_ready(home, other) else []


def _ordinary(home: Path, default: Optional[SlotName], good: List[SlotName]) -> Optional[SlotName]:
    ready = [slot for slot in SLOT_NAMES if _is_ready(home, slot)]
    if default is None:
        marked = [slot for slot in ready if _size(home / f"slot-{slot}" / "good")]
        return next(iter([*marked, *ready]), None)
    if default in ready:
        return default
    other = other_slot(default)
    return other if other in ready and other in good else None


def _command_line(home: Path, slot: SlotName, mode: List[str]) -> Optional[str]:
    """What the system in `slot` is started with; None where it does not load."""
    files = chosen_files(home, slot)
    words = _loaded(files) if files else None
    if files is None or words is None:
        return None
    kernel = f"BOOT_IMAGE=(hd0,gpt1)/grub/../ota/{files.relative_to(home)}/kernel"
    return " ".join([kernel, *(_as_grub_writes(word) for word in words), *mode])


def _loaded(directory: Path) -> Optional[List[str]]:
    """The kernel arguments when kernel and initrd load, else None: the machine resets."""
    try:
        words, has_initrd = read_arguments_file((directory / "arguments.cfg").read_bytes())
    except BootRefused:
        return None
    recorded = (directory / "ready").read_text("ascii", "replace").split()
    digests = dict(zip(recorded[1::2], recorded[::2]))
    for name in ("kernel", "initrd") if has_initrd else ("kernel",):
        path = directory / name
        if not path.is_file() or _sha256(path) != digests.get(name):
            return None
    return words


def _variables(path: Path) -> Dict[str, str]:
    """The variables of a block as GRUB takes them; none from what it can not read."""
    try:
        header, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return {}
    if header != b"# GRUB Environment Block":
        return {}
    lines = body.decode("utf-8", "replace").split("\n")
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _use_up(environment: Path) -> bool:
    """Clears the trial as GRUB's `save_env` does; False where the disk refuses."""
    block = re.sub(rb"(?m)^ota_trial=.$", b"ota_trial=0", environment.read_bytes())
    try:
        replace_in_place(environment, block)
    except OSError:
        return False
    return True


def _directory_boot(device: Device) -> SimulatedBoot:
    home = device.state_directory
    marker = home / "directory-boot"
    says = json.loads(marker.read_bytes())
    trial, default = says["trial"], _slot(says["default"])
    if trial and _size(home / f"slot-{trial}" / "ready"):
        write_durably(marker, json.dumps({**says, "trial": None}).encode() + b"\n")
        return SimulatedBoot(trial, True, f"ota.slot={trial} ota.trial=1 ota.txn={says['txn']}")
    ready = [slot for slot in SLOT_NAMES if _size(home / f"slot-{slot}" / "ready")]
    for slot in ready:
        if slot == default or (default not in ready and slot in says["good"]):
            return SimulatedBoot(slot, False, f"ota.slot={slot}")
    raise BootRefused("nothing would come up: no slot is ready")


def _is_ready(home: Path, slot: SlotName) -> bool:
    return chosen_files(home, slot) is not None


def chosen_files(home: Path, slot: SlotName) -> Optional[Path]:
    """Where the rule finds the slot's boot files; None where no set is ready."""
    first = home / f"slot-{slot}"
    for directory in (first / "refreshed", first):
        if all(_size(directory / name) for name in ("ready", "arguments.cfg", "kernel")):
            return directory
    return None


def _size(path: Path) -> int:
    return os.stat(path).st_size if path.is_file() else 0


def _slot(text: str) -> Optional[SlotName]:
    return "a" if text == "a" else "b" if text == "b" else None


def _as_grub_writes(word: str) -> str:
    return f'"{word}"' if _GRUB_BLANK.search(word) else word


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
