"""A new system that does not come up, in every way we know: the old one boots by itself.

Each machine starts with v2 armed; what is broken is broken on its disk before the power comes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.disk import Surgery, layout
from tests.support.vm.grubview import needs_grub_fstest
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.refusing import RefusingMachine
from tests.support.vm.verbs import status, update_line
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [needs_root, needs_nginx, needs_qemu, pytest.mark.xdist_group("machines 1")]

BOOT, SLOT_A, SLOT_B = layout()
Break = Callable[[Surgery], None]
LONG: Dict[str, Break] = {}
SHORT: Dict[str, Break] = {}


def short(spoil: Break) -> Break:
    """Part of every run of the tests."""
    SHORT[spoil.__name__] = spoil
    return spoil


def long(spoil: Break) -> Break:
    """Part of the long run."""
    LONG[spoil.__name__] = spoil
    return spoil


@short
def truncated_initrd(disk: Surgery) -> None:
    disk.truncate(BOOT, "/ota/slot-b/initrd", 100_000)


@long
def missing_initrd(disk: Surgery) -> None:
    disk.remove(BOOT, "/ota/slot-b/initrd")


@long
def truncated_kernel(disk: Surgery) -> None:
    disk.truncate(BOOT, "/ota/slot-b/kernel", 100_000)


@long
def missing_kernel(disk: Surgery) -> None:
    disk.remove(BOOT, "/ota/slot-b/kernel")


@short
def unmountable_root(disk: Surgery) -> None:
    disk.erase(SLOT_B, 64 * 1024)


@long
def missing_init(disk: Surgery) -> None:
    disk.remove(SLOT_B, "/usr/lib/systemd/systemd")


@short
def failing_health_check(disk: Surgery) -> None:
    disk.write(SLOT_B, "/etc/ota/health.d/10-camera", "#!/bin/sh\necho no camera\nexit 1\n", 0o755)


@long
def hanging_ota(disk: Surgery) -> None:
    disk.write(SLOT_B, "/usr/bin/ota", "#!/bin/sh\nexec sleep 100000\n", 0o755)


@long
def broken_interpreter(disk: Surgery) -> None:
    disk.remove(SLOT_B, "/usr/bin/python3")


@long
def bad_fstab_line(disk: Surgery) -> None:
    line = "LABEL=nowhere /mnt ext4 x-systemd.device-timeout=5s 0 2\n"
    disk.write(SLOT_B, "/etc/fstab", disk.read(SLOT_B, "/etc/fstab") + line, 0o644)


@long
def crash_of_pid_1(disk: Surgery) -> None:
    disk.write(SLOT_B, "/etc/ota/health.d/10-crash", "#!/bin/sh\nkill -SEGV 1\nsleep 1000\n", 0o755)


@long
def kernel_panic(disk: Surgery) -> None:
    script = "#!/bin/sh\necho c > /proc/sysrq-trigger\n"
    disk.write(SLOT_B, "/etc/ota/health.d/10-panic", script, 0o755)


CASES = [
    *(pytest.param(spoil, id=name) for name, spoil in SHORT.items()),
    *(pytest.param(spoil, id=name, marks=pytest.mark.soak) for name, spoil in LONG.items()),
]


@pytest.mark.parametrize("spoil", CASES)
def test_the_old_system_boots_by_itself(
    spoil: Break, bench: Bench, armed_disk: PreparedDisk, tmp_path: Path
) -> None:
    disk = armed_disk.copy(tmp_path / "disk.img")
    spoil(Surgery(disk, tmp_path))
    with Machine(disk, tmp_path / "machine") as machine:
        machine.switch_on()
        if spoil is not missing_kernel:  # GRUB sees that one and boots the old system at once
            machine.wait_until_off()
            assert "Booting `ota: slot b" in machine.console(), machine.console()[-2000:]
            machine.switch_on()
        machine.wait_until_up()
        found = status(machine)
        assert (found["running"], found["next"]) == ("a", "a")
        code = "disagree" if spoil is missing_kernel else "fell_back"
        assert found["verdict"]["code"] == code, found["verdict"]
        if spoil is failing_health_check:
            assert "10-camera" in found["verdict"]["text"]
            assert "no camera" in found["verdict"]["text"], "what the check said"
            again = machine.run(update_line(bench.server, "v2"))
            assert again.code == 18, "cron does not bring it again"
            assert "--retry-failed" in again.err


def test_a_power_cut_during_the_trial_boots_the_old_system_and_costs_no_download(
    armed_disk: PreparedDisk, tmp_path: Path
) -> None:
    with Machine(armed_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.switch_on()
        machine.wait_for_console("Run /init as init process")
        machine.cut()
        machine.boot()
        found = status(machine)
        assert (found["running"], found["verdict"]["code"]) == ("a", "fell_back")
        machine.must("ota activate")
        machine.reboot()
        assert "ota.slot=b" in machine.must("cat /proc/cmdline")
        machine.must("systemctl start ota-commit.service")
        assert status(machine)["verdict"]["code"] == "confirmed"


@pytest.mark.soak
@pytest.mark.parametrize("damage", ["rm {}/initrd", "echo broken > {}/kernel"])
def test_a_default_that_does_not_load_is_passed_over_in_the_same_start(
    damage: str, armed_disk: PreparedDisk, tmp_path: Path
) -> None:
    with Machine(armed_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.boot()
        machine.must("systemctl start ota-commit.service")
        assert status(machine)["verdict"]["code"] == "confirmed"
        machine.must(damage.format("/boot/ota/slot-b"))
        machine.reboot()
        assert "ota.slot=a" in machine.must("cat /proc/cmdline")
        found = status(machine)
        assert (found["running"], found["verdict"]["code"]) == ("a", "disagree")
        machine.must("ota commit")
        machine.must("ota verify --repair")
        machine.must("ota rollback")
        machine.reboot()
        assert "ota.slot=b" in machine.must("cat /proc/cmdline")


@needs_grub_fstest
def test_a_disk_that_refuses_the_writes_of_grub_boots_the_old_system(
    armed_disk: PreparedDisk, tmp_path: Path
) -> None:
    """A trial that could not be used up would be tried for ever."""
    disk = armed_disk.copy(tmp_path / "disk.img")
    with RefusingMachine(disk, tmp_path / "machine", BOOT, "ota/bootenv") as machine:
        machine.boot()
        assert "ota.slot=a" in machine.must("cat /proc/cmdline")
        found = status(machine)
        assert (found["running"], found["verdict"]["code"]) == ("a", "disagree")
        assert "this boot did not try it" in found["verdict"]["text"]
