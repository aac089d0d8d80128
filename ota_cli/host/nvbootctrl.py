"""Asking CBoot, and telling it, by NVIDIA's `nvbootctrl` (FORMATS section 5).

Every call has a time limit; a call that fails, hangs or prints something else than it should is
a BootRefused, never a guess. It works on this machine whatever `--root` says: below a root that
has no device tree of its own it is not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple

from ..core import jetson
from ..core.jetson import Facts, Loader
from ..errors import BootRefused, ImageDamaged
from ..model import SLOT_NAMES, SlotName
from .files import read_limited
from .run import CommandFailed, is_installed, run

#: It reads and writes one sector; what takes longer hangs.
TIMEOUT_S = 10.0
_MAX_FACT_BYTES = 64 * 1024
#: How `is-slot-bootable` says no (sysexits.h, EX_SOFTWARE; other builds say 1).
_NO = (1, 70)
_UNIFIED, _ROOTFS_ONLY, _NEITHER = 0, 70, 69


def facts(root: Path) -> Facts:
    """What the system at `root` and its device tree say. Unreadable counts as absent."""
    release = _fact(root / "etc" / "nv_tegra_release")
    compatible = _fact(root / "proc" / "device-tree" / "compatible")
    return Facts(
        release=None if release is None else release.decode("utf-8", "replace"),
        compatible=jetson.parse_compatible(compatible or b""),
        has_nvbootctrl=is_installed("nvbootctrl"),
    )


def look(known: Facts) -> Loader:
    """The loader's state on a Jetson that CBoot boots. Raises BootRefused."""
    refused = jetson.why_not(known)
    if refused is not None or known.bsp is None:
        why, hint = refused or ("the BSP is not known", "")
        raise BootRefused(f"CBoot can not be used: {why}", hint=hint, slug="cboot")
    unified = jetson.may_be_unified(known.bsp) and _is_unified()
    target = () if unified else ("-t", "rootfs")
    count = _printed(*target, "get-number-slots")
    if count != "2":
        raise _nonsense("get-number-slots", count, "2")
    said = _printed(*target, "get-current-slot")
    current = jetson.slot_of(said)
    if current is None:
        raise _nonsense("get-current-slot", said, "0 or 1")
    bootable: Dict[SlotName, bool] = {slot: is_bootable(target, slot) for slot in SLOT_NAMES}
    return Loader(unified, current, active(target), bootable)


def active(target: Tuple[str, ...]) -> SlotName:
    """The slot that the loader tries next. Raises BootRefused."""
    dump = _printed(*target, "dump-slots-info")
    found = jetson.active_slot(dump)
    if found is None:
        raise _nonsense("dump-slots-info", dump, "which slot is active")
    return found


def is_bootable(target: Tuple[str, ...], slot: SlotName) -> bool:
    """Whether the loader would boot `slot`. Raises BootRefused."""
    return call(*target, "is-slot-bootable", jetson.number_of(slot), ok=(0, *_NO))[0] == 0


def activate(target: Tuple[str, ...], slot: SlotName) -> None:
    """`slot` is what boots next, and bootable; one that is already is left as it is.

    Raises BootRefused, also when the loader says afterwards that it is not.
    """
    if active(target) == slot and is_bootable(target, slot):
        return
    call(*target, "set-active-boot-slot", jetson.number_of(slot))
    if active(target) != slot or not is_bootable(target, slot):
        raise BootRefused(
            f"nvbootctrl accepted slot {slot} as the active one, but would not boot it",
            hint="`nvbootctrl dump-slots-info` shows the loader's slots",
            slug="nvbootctrl",
        )


def withhold(target: Tuple[str, ...], slot: SlotName) -> None:
    """The loader comes to `slot` no more, whatever happens to the other one.

    Raises BootRefused, also when the loader says afterwards that it would.
    """
    call(*target, "set-slot-as-unbootable", jetson.number_of(slot))
    if is_bootable(target, slot):
        raise BootRefused(
            f"nvbootctrl accepted slot {slot} as unbootable, but would still boot it",
            hint="`nvbootctrl dump-slots-info` shows the loader's slots",
            slug="nvbootctrl",
        )


def call(*words: str, ok: Sequence[int] = (0,)) -> Tuple[int, str]:
    """Status and output of `nvbootctrl` with `words`. Raises BootRefused when it fails."""
    try:
        done = run(["nvbootctrl", *words], ok=ok, timeout_s=TIMEOUT_S)
    except CommandFailed as error:
        raise BootRefused(
            error.message,
            hint="see what it prints when run by hand, and `dmesg`",
            slug="nvbootctrl",
        ) from None
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def _is_unified() -> bool:
    status, _ = call("is-unified-enabled", ok=(_UNIFIED, _ROOTFS_ONLY, _NEITHER))
    if status == _NEITHER:
        raise BootRefused(
            "the boot loader knows only one root file system",
            hint="flash the device with ROOTFS_AB=1, which makes two",
            slug="cboot",
        )
    return status == _UNIFIED


def _printed(*words: str) -> str:
    return call(*words)[1]


def _nonsense(command: str, printed: str, expected: str) -> BootRefused:
    shown = printed[:60] + ("..." if len(printed) > 60 else "")
    return BootRefused(
        f"`nvbootctrl {command}` printed {shown!r}, not {expected}",
        hint="see what it prints when run by hand",
        slug="nvbootctrl",
    )


def _fact(path: Path) -> bytes | None:
    try:
        return read_limited(path, _MAX_FACT_BYTES)
    except (OSError, ImageDamaged):
        return None
