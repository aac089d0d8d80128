"""What every boot back-end promises, and the table of them. A back-end is a module.

Invariant of all back-ends: after any prefix of any returned list of ops, some slot that was
bootable before still boots without a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Protocol

from ..errors import BootRefused
from ..host.ops import Op
from ..model import Bootable, BootCopies, BootFile, BootFiles, BootState, Device, SlotName
from . import cboot, directory, grub


class Backend(Protocol):
    """The contract. None of these changes the device: what changes it is returned as ops.

    All are idempotent: doing their ops twice is doing them once. From `stored` on they are for
    `ota setup` only.
    """

    #: Whether `install` wants a kernel, which it copies to the boot partition.
    needs_boot_files: bool
    #: Whether it boots machines, whose systems have to confirm themselves.
    boots_machines: bool
    #: Whether the mark in its slot tells a trial (`core.trialmark`), not the kernel command line.
    marks_trials: bool

    def detect(self, device: Device) -> bool:
        """Whether this boot loader boots the device."""

    def read(self, device: Device) -> BootState:
        """What the boot loader will do. Raises BootRefused when that can not be read."""

    def withdraw(self, device: Device, state: BootState, slot: SlotName) -> List[Op]:
        """Takes `slot` out of every choice, durably: before its first byte changes.

        Raises BootRefused when nothing else is ready; whether that is intact is asked before.
        """

    def install(
        self,
        device: Device,
        slot: SlotName,
        files: Optional[BootFiles],
        tree: Optional[Path] = None,
    ) -> List[Op]:
        """Makes `slot` bootable: its boot files, read back and flushed, then `ready`.

        `tree`: where the filled slot is mounted, or a view of the system that runs; None where
        there is none to read.
        """

    def arm(self, device: Device, state: BootState, bootable: Bootable) -> List[Op]:
        """The next boot, and only that, tries `bootable`. Raises BootRefused if not `ready`."""

    def commit(self, device: Device, state: BootState, slot: SlotName) -> List[Op]:
        """`slot`, which runs, is known to work and is what boots from now on. `mark_good` is
        to follow."""

    def mark_good(self, device: Device, slot: SlotName) -> List[Op]:
        """`slot`, which the settings call good, is known as such on the day they are lost;
        nothing where it is. What boots, and what is armed, stays."""

    def revert(self, device: Device, state: BootState) -> List[Op]:
        """No trial: the next boot is an ordinary one."""

    def lead_back(self, device: Device, state: BootState) -> List[Op]:
        """The next boot is of the default, whatever an `arm` or a `commit` that failed half-way
        has told the boot loader; the settings stay. Nothing where they alone decide."""

    def regain(self, device: Device, state: BootState, slot: SlotName) -> List[Op]:
        """`slot`, which was known to work before it was withdrawn and is complete again, is good
        again: no default, not tried, what an ordinary boot falls back to; where the boot loader
        itself chooses, as CBoot does, only once it was armed.

        What boots next, and what is armed, stays. Raises BootRefused if it is not `ready`.
        """

    def complete(self, device: Device) -> List[Op]:
        """What a commit that was cut off has left to be written, though `read` reckons it done
        already; nothing where a commit is one write. Raises BootRefused like `read`."""

    def is_intact(self, device: Device, slot: SlotName) -> bool:
        """Whether the boot files of `slot` are there and are what was installed."""

    def copies(self, device: Device, slot: SlotName) -> Optional[BootCopies]:
        """What boots `slot` in place of its own files; None where it is not ready, or where they
        boot themselves. Raises OSError and BootRefused where that can not be read."""

    def occupied_bytes(self, device: Device, slot: SlotName) -> int:
        """What `withdraw` and `install` of `slot` give back on the boot partition."""

    def shared(self, device: Device) -> Path:
        """Where both slots mount the partition they share: the boot partition."""

    def adapted(
        self, device: Device, slot: SlotName, text: Callable[[str], Optional[str]]
    ) -> Mapping[str, str]:
        """Files of the system in `slot` that have to name that very slot, by path in it, and what
        they have to say; none that say so already. `text`: what a file says, None without it.

        Raises BootRefused where it is not clear what would boot, SlotUnusable where no kernel
        could find the slot.
        """

    def lacking(self, tree: Path) -> List[str]:
        """What the system in `tree` lacks for a trial of it to end as this boot loader needs,
        besides what all systems need: sentences."""

    def stored(self, device: Device) -> BootState:
        """What the settings say, whether or not the boot loader already obeys them.

        Raises BootRefused, with slug `boot-not-set-up` when there are none.
        """

    def salvage(self, device: Device) -> Optional[BootState]:
        """What can be saved of damaged settings, without a trial."""

    def initialize(self, device: Device, state: BootState) -> List[Op]:
        """New settings that say `state`, without a trial, in place of all there is."""

    def refresh(
        self, device: Device, slot: SlotName, kernel: BootFile, initrd: Optional[BootFile]
    ) -> List[Op]:
        """`slot`, which stays bootable at every instant, boots this kernel; nothing where it
        does already."""

    def integrate(self, device: Device) -> List[Op]:
        """Makes the boot loader obey the settings; nothing where it does."""


_BACKENDS: Dict[str, Backend] = {"grub": grub, "cboot": cboot, "directory": directory}


def detect_loader(device: Device) -> Optional[str]:
    """The name of the device's back-end: the configured one, else the first that fits."""
    wanted = device.ecu.bootloader
    if wanted != "auto":
        return wanted if wanted in _BACKENDS else None
    return next((name for name, each in _BACKENDS.items() if each.detect(device)), None)


def backend_for(device: Device) -> Backend:
    """The back-end of `device`. Raises BootRefused when it has none."""
    found = _BACKENDS.get(device.loader or "")
    if found is None:
        raise BootRefused(
            f"no supported boot loader was found on {device.boot} "
            f"(`bootloader: {device.ecu.bootloader}`)",
            hint=f"set `bootloader:` in {device.state_directory / 'ecu_info.yml'} to one of "
            f"{', '.join(_BACKENDS)}",
            slug="no-boot-loader",
        )
    return found
