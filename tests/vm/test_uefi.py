"""A machine with UEFI firmware: GRUB comes from an EFI system partition, all else is the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.disk import GRUB, UEFI, make_disk
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import adopt, confirmed, status, update
from tests.vm.conftest import Bench

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS.fd")
needs_uefi = pytest.mark.skipif(
    not (FIRMWARE.exists() and (GRUB / UEFI).is_dir() and shutil.which("mkfs.vfat")),
    reason="ovmf, grub-efi-amd64-bin, dosfstools or mtools is not installed here",
)
pytestmark = [
    needs_root, needs_nginx, needs_qemu, needs_uefi,
    pytest.mark.soak, pytest.mark.xdist_group("machines 1"),
]  # fmt: skip


def firmware(scratch: Path) -> List[str]:
    variables = scratch / "variables.fd"
    shutil.copy(VARIABLES, variables)
    flash = "if=pflash,format=raw"
    return [
        "-drive", f"{flash},readonly=on,file={FIRMWARE}", "-drive", f"{flash},file={variables}"
    ]  # fmt: skip


def test_a_uefi_machine_updates_goes_back_and_falls_back(bench: Bench, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", bench.trees.old, tmp_path, UEFI)
    with Machine(disk, tmp_path / "machine", firmware(tmp_path)) as machine:
        machine.boot()
        assert machine.must("ls /sys/firmware/efi")
        adopt(machine, bench.server)
        update(machine, bench.server, "v2")
        machine.reboot()
        found = confirmed(machine)
        assert (found["running"], found["verdict"]["code"]) == ("b", "confirmed")

        machine.must("ota rollback")
        machine.switch_on()
        machine.wait_for_console("Run /init as init process")
        machine.cut()
        machine.boot()
        found = status(machine)
        assert (found["running"], found["verdict"]["code"]) == ("b", "fell_back")
        machine.must("ota rollback")
        machine.reboot()
        assert confirmed(machine)["running"] == "a"
