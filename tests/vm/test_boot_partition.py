"""A boot partition that is full, read-only, damaged or robbed: a clear error or a repair, never a
machine that does not come up."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import status, update_line
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [
    needs_root, needs_nginx, needs_qemu, pytest.mark.soak, pytest.mark.xdist_group("machines 1"),
]  # fmt: skip


@pytest.fixture
def adopted(adopted_disk: PreparedDisk, tmp_path: Path) -> Iterator[Machine]:
    """v1 runs and was adopted."""
    with Machine(adopted_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.boot()
        yield machine


def boots_a(machine: Machine) -> None:
    machine.reboot()
    assert status(machine)["running"] == "a"


def test_a_full_boot_partition_stops_an_update_before_it_begins(
    adopted: Machine, bench: Bench
) -> None:
    adopted.run("cat /dev/zero > /boot/filler")
    ran = adopted.run(update_line(bench.server, "v2"))
    assert ran.code == 13, ran.err
    assert "boot partition" in ran.err
    assert "hint: remove old kernels" in ran.err
    boots_a(adopted)
    adopted.must("rm /boot/filler")
    adopted.must(update_line(bench.server, "v2"))
    assert status(adopted)["next"] == "b"


def test_a_boot_partition_that_is_read_only_stops_an_update(adopted: Machine, bench: Bench) -> None:
    adopted.must("mount -o remount,ro /boot")
    ran = adopted.run(update_line(bench.server, "v2"))
    assert ran.code in (15, 78), ran.err
    assert "read-only" in ran.err.lower()
    found = status(adopted)
    assert (found["running"], found["next"]) == ("a", "a")
    boots_a(adopted)


@pytest.mark.parametrize(
    ("damage", "says_more"),
    [
        ("printf garbage > /boot/ota/bootenv", "setup --repair"),
        (": > /boot/ota/bootenv; : > /boot/ota/bootenv.bak", "setup --repair"),
        ("rm /boot/ota/bootenv /boot/ota/bootenv.bak", "ota setup"),
        ("rm /boot/grub/custom.cfg", "ota setup"),
        (": > /boot/grub/grubenv", ""),
    ],
)
def test_what_is_damaged_is_told_boots_and_is_mended(
    adopted: Machine, damage: str, says_more: str
) -> None:
    adopted.must(damage)
    said = adopted.must("ota status")
    assert says_more in said
    boots_a(adopted)
    adopted.must("ota setup --repair")
    found = status(adopted)
    assert (found["running"], found["next"], found["verdict"]["code"]) == (
        "a",
        "a",
        "never_updated",
    )
    adopted.reboot()
    assert "ota.slot=a" in adopted.must("cat /proc/cmdline")
