"""Throw-away Jetsons: facts of a layout, directories for partitions, and a loader that boots.

The loader reads the disk with a reader of its own, as CBoot does: what it finds there, not what
`ota` meant, decides which system runs.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Dict, Optional, Sequence

import pytest

from ota_cli.boot.simulate import SimulatedBoot
from ota_cli.core.systemd import DEADLINE_UNIT, ONCE_UNIT, units
from ota_cli.model import SlotName
from tests.support.jetson_loader import Loader, Recovery
from tests.support.units import run_script, script_of

LAYOUTS = ("xavier-emmc", "xavier-nvme", "agx-unified")
DATA = Path(__file__).parents[1] / "data" / "jetson"
_MAX_BOOTS = 30


def fact(layout: str, name: str) -> bytes:
    return (DATA / layout / name).read_bytes()


class Jetson:
    """A device below `root`; its `nvbootctrl` is beside it, and first on PATH when it is `used`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs = root.with_name(f"{root.name}-programs")

    @property
    def layout(self) -> str:
        return (self.programs / "layout").read_text()

    @property
    def is_external(self) -> bool:
        return self.layout == "xavier-nvme"

    def make(self, layout: str, running: SlotName = "a", info: str = "ecu_id: bench\n") -> Jetson:
        """The device as NVIDIA's tools left it: facts, partitions, nothing of ota's."""
        self.programs.mkdir(parents=True)
        (self.programs / "layout").write_text(layout)
        program = self.programs / "nvbootctrl"
        shutil.copy(Path(__file__).with_name("fake_nvbootctrl"), program)
        facts = fact(layout, "loader").decode()
        Loader.create(self.programs / "loader", facts, "ab".index(running))
        for name in ("boot/ota", "etc/ota/certs", "proc/device-tree", "run", "dev"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "etc/nv_tegra_release").write_bytes(fact(layout, "nv_tegra_release"))
        (self.root / "proc/device-tree/compatible").write_bytes(fact(layout, "compatible"))
        places = {slot: f"/{self.slot(slot).relative_to(self.root)}" for slot in ("a", "b")}
        slots = "".join(f"  {slot}: {{directory: {at}}}\n" for slot, at in places.items())
        (self.root / "boot/ota/ecu_info.yml").write_text(f"{info}slots:\n{slots}")
        for slot in ("a", "b"):
            self.slot(slot).mkdir()
            if self.is_external:
                self.booted_from(slot).mkdir()
        self._start(running)
        return self

    def slot(self, slot: str) -> Path:
        """Where the system of a slot is."""
        disk = "nvme0n1" if self.layout == "xavier-nvme" else "mmcblk0"
        return self.root / "dev" / f"{disk}p{'ab'.index(slot) + 1}"

    def booted_from(self, slot: str) -> Path:
        """The partition CBoot reads for a slot: always one of eMMC."""
        return self.root / "dev" / f"mmcblk0p{'ab'.index(slot) + 1}"

    def use(self, patch: pytest.MonkeyPatch) -> Jetson:
        patch.setenv("PATH", self.path)
        return self

    @property
    def path(self) -> str:
        before = os.environ["PATH"].split(":")
        others = [each for each in before if not each.endswith("-programs")]
        return ":".join([str(self.programs), *others])

    def copied(self, target: Path) -> Jetson:
        """The same device once more."""
        shutil.copytree(self.root, target, symlinks=True)
        other = Jetson(target)
        if self.programs.exists():
            shutil.copytree(self.programs, other.programs)
        return other

    @property
    def loader(self) -> Loader:
        return Loader(self.programs / "loader")

    def fault(
        self, commands: str, what: str, *, text: str = "", status: int = 0, at: int = 0
    ) -> None:
        """From now on these commands of nvbootctrl print, hang, or kill who calls them."""
        lines = {"commands": commands, "what": what, "text": text, "status_code": status, "at": at}
        fault = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in lines.items())
        (self.programs / "fault").write_text(fault)

    def mend(self) -> None:
        """All is well with nvbootctrl again."""
        (self.programs / "fault").unlink()

    def changes(self) -> list[str]:
        """What nvbootctrl was told so far, without what it was only asked."""
        calls = (self.programs / "calls").read_text().splitlines()
        return [call for call in calls if re.search(r" (set|mark)-", call)]

    def boot(self, *, panics: Sequence[str] = (), once_fails: bool = False) -> SimulatedBoot:
        """Reboots until some system reaches user space. `panics`: slots whose kernel never does.

        Raises Recovery when the loader has no slot left.
        """
        for _ in range(_MAX_BOOTS):
            tried: SlotName = "ab"[self.loader.boot()]  # type: ignore[assignment]
            running = self._loaded(tried)
            if running is not None and running not in panics:
                self._start(running)
                return self._user_space(running, once_fails)
        raise AssertionError("it reboots for ever")

    def _loaded(self, tried: str) -> Optional[SlotName]:
        """The slot whose system is started; None where the kernel is missing."""
        boot = self.booted_from(tried)
        try:
            conf = (boot / "boot/extlinux/extlinux.conf").read_text()
        except FileNotFoundError:
            return None
        default = re.search(r"(?m)^DEFAULT (\S+)", conf)
        entries = re.split(r"(?m)^LABEL ", conf)[1:]
        entry = next(e for e in entries if default is None or e.split()[0] == default.group(1))
        files = re.findall(r"(?m)^\s+(?:LINUX|INITRD|FDT) (\S+)", entry)
        if not all((boot / path.lstrip("/")).is_file() for path in files):
            return None
        root = re.findall(r"\broot=(\S+)", entry)[-1]
        by_place = {f"/{self.slot(s).relative_to(self.root)}": s for s in ("a", "b")}
        found: Optional[SlotName] = by_place.get(root)  # type: ignore[assignment]
        return found

    def _start(self, running: str) -> None:
        """A machine without udev names its root by the directory; `--root` goes by ota.slot=."""
        for name in ("ota-trial", "ota-healthy"):
            (self.root / "run" / name).unlink(missing_ok=True)
        place = f"/{self.slot(running).relative_to(self.root)}"
        line = f"console=ttyTCU0,115200n8 root={place} rw rootwait ota.slot={running}\n"
        (self.root / "proc/cmdline").write_text(line)

    def _user_space(self, running: SlotName, once_fails: bool) -> SimulatedBoot:
        mark = self.slot(running) / ".ota" / "trial"
        trial = os.path.lexists(mark)
        if trial and not once_fails:
            assert self.once(running) == 0
        if not trial:  # NVIDIA's verifier, which our drop-in keeps from trials
            self.loader.mark_successful()
        cmdline = (self.root / "proc/cmdline").read_text().strip()
        return SimulatedBoot(running, trial, cmdline)

    def run_unit(self, script: str, running: str, before: Sequence[str] = ()) -> int:
        """Status of a unit's shell script, its paths taken in this device; see `run_script`."""
        return run_script(script, self._moved(running), self.path, before)

    def deadline_passes(self, running: str, programs: Path) -> int:
        """What the deadline unit does when its time is over, with `programs` first on PATH."""
        script = script_of(DEADLINE_UNIT, units(0))
        return run_script(script, self._moved(running), f"{programs}:{self.path}")

    def once(self, running: str, before: Sequence[str] = ()) -> int:
        """What the unit does that prepares the way back of a trial."""
        return self.run_unit(script_of(ONCE_UNIT, units()), running, before)

    def _moved(self, running: str) -> Dict[str, str]:
        own = {f"/{name}/": f"{self.root}/{name}/" for name in ("run", "proc", "boot/ota")}
        return {**own, "/.ota/": f"{self.slot(running)}/.ota/"}


__all__ = ["DATA", "LAYOUTS", "Jetson", "Recovery", "fact"]
