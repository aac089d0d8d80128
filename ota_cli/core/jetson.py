"""What a Jetson tells about itself and its boot loader, read from captured text. Pure.

CBoot boots Xavier (tegra194) with a BSP older than R34; from R34 on UEFI does, which keeps its
slots elsewhere. `nvbootctrl` prints slots as 0 and 1, in some lines as A and B.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..model import SLOT_NAMES, SlotName

XAVIER = "nvidia,tegra194"
#: The first release that boots by UEFI.
FIRST_WITH_UEFI = 34
#: `nvbootctrl is-unified-enabled` is there from R32.6.1 on.
_FIRST_WITH_UNIFIED = (32, 6, 1)

_RELEASE = re.compile(r"# R([0-9]{1,4}) \(release\), REVISION: ([0-9]{1,4})\.([0-9]{1,4})")
_ACTIVE = re.compile(r"^Active (?:rootfs|bootloader) slot:[ \t]*([AB])[ \t\r]*$", re.MULTILINE)
_PRIORITY = re.compile(r"^slot:[ \t]*([01]),[ \t]*priority:[ \t]*([0-9]{1,3}),", re.MULTILINE)


class Bsp(NamedTuple):
    """A release of NVIDIA's board support package: R32.6.1 is (32, 6, 1)."""

    release: int
    major: int
    minor: int

    def __str__(self) -> str:
        return f"R{self.release}.{self.major}.{self.minor}"


class Facts(NamedTuple):
    """What tells a Jetson: `release`, the text of `/etc/nv_tegra_release`, None without that file;
    `compatible` of the device tree; whether `nvbootctrl` is there."""

    release: Optional[str]
    compatible: Tuple[str, ...]
    has_nvbootctrl: bool

    @property
    def is_jetson(self) -> bool:
        """Whether CBoot or its successor boots this machine."""
        return self.release is not None and XAVIER in self.compatible

    @property
    def bsp(self) -> Optional[Bsp]:
        """The release; None where the text names none."""
        match = _RELEASE.search(self.release or "")
        return Bsp(*map(int, match.groups())) if match else None


class Refusal(NamedTuple):
    """Why a device can not be served, and what to do."""

    why: str
    hint: str


def why_not(facts: Facts) -> Optional[Refusal]:
    """Why CBoot can not be worked with here; None where it can."""
    if XAVIER not in facts.compatible:
        return Refusal(
            "the device tree names no Jetson Xavier",
            f"CBoot boots machines whose /proc/device-tree/compatible has {XAVIER}",
        )
    if facts.bsp is None:
        return Refusal(
            "/etc/nv_tegra_release names no BSP release",
            "it comes with NVIDIA's BSP, in its package nvidia-l4t-core",
        )
    if facts.bsp.release >= FIRST_WITH_UEFI:
        return Refusal(
            f"BSP {facts.bsp} boots by UEFI, not by CBoot",
            f"ota knows Jetsons with a BSP older than R{FIRST_WITH_UEFI}",
        )
    if not facts.has_nvbootctrl:
        return Refusal(
            "nvbootctrl is not installed", "it comes with NVIDIA's BSP, as /usr/sbin/nvbootctrl"
        )
    return None


def may_be_unified(bsp: Bsp) -> bool:
    """Whether `nvbootctrl is-unified-enabled` can be asked."""
    return bsp >= _FIRST_WITH_UNIFIED


def parse_compatible(data: bytes) -> Tuple[str, ...]:
    """The strings of a device tree's `compatible`, each ended by NUL."""
    return tuple(each for each in data.decode("ascii", "replace").split("\0") if each)


def slot_of(number: str) -> Optional[SlotName]:
    """The slot nvbootctrl prints as `0` or `1`."""
    return {"0": SLOT_NAMES[0], "1": SLOT_NAMES[1]}.get(number)


def number_of(slot: SlotName) -> str:
    """How nvbootctrl names a slot."""
    return str(SLOT_NAMES.index(slot))


def active_slot(dump: str) -> Optional[SlotName]:
    """The slot that boots next as `nvbootctrl dump-slots-info` tells it; None where it does not.

    Newer releases say so; in older ones it is the slot of the higher priority.
    """
    named = _ACTIVE.findall(dump)
    if named:
        return slot_of(str("AB".index(named[-1])))
    priorities: List[Tuple[int, str]] = [(int(p), n) for n, p in _PRIORITY.findall(dump)]
    if len(priorities) != 2 or priorities[0][0] == priorities[1][0]:
        return None
    return slot_of(max(priorities)[1])


class Loader(NamedTuple):
    """The loader's own state. `unified`: boot loader and root file system move together.

    `current`: the slot that was booted. `active`: what boots next, if it is bootable.
    """

    unified: bool
    current: SlotName
    active: SlotName
    bootable: Mapping[SlotName, bool]

    @property
    def target(self) -> Tuple[str, ...]:
        """The words that address the slots of root file systems."""
        return () if self.unified else ("-t", "rootfs")

    @property
    def next(self) -> Optional[SlotName]:
        """The slot of the next boot; None where the loader has none left but recovery."""
        order: Dict[SlotName, None] = {self.active: None, **dict.fromkeys(SLOT_NAMES)}
        return next((slot for slot in order if self.bootable[slot]), None)
