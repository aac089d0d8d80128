"""A kernel that packages bring to a device that `ota` boots."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from ota_cli.boot import grub, grub_files, layout
from ota_cli.boot.simulate import next_boot
from ota_cli.core import grubcfg
from ota_cli.core.hooks import hooks
from ota_cli.events import silent
from ota_cli.host.ops import apply
from ota_cli.image.prepare import prepare
from ota_cli.model import Checked, Device
from tests.support.bench import ota
from tests.support.boot import (
    KERNEL,
    boot_file,
    boot_files,
    boot_with_grub,
    needs_grub_emu,
    ready_device,
)

NEWER = "6.1.0-20-amd64"


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = ready_device(tmp_path / "device")
    for version in (NEWER, KERNEL[len("vmlinuz-") :]):
        (device.root / "slots/a/lib/modules" / version).mkdir(parents=True)
        (device.root / "lib/modules" / version).mkdir(parents=True)
    return device


def bring_kernel(device: Device, version: str = NEWER, initrd: bool = True) -> Path:
    """What a kernel package leaves on the boot partition."""
    kernel = device.boot / f"vmlinuz-{version}"
    kernel.write_bytes(b"newer kernel " * 1000)
    if initrd:
        (device.boot / f"initrd.img-{version}").write_bytes(b"newer initrd " * 1000)
    return kernel


def booted_kernel(device: Device) -> bytes:
    booted = grub_files.booted_set(device, "a")
    assert booted is not None
    return booted.kernel.read_bytes()


def refresh(device: Device) -> str:
    ran = ota("setup", "--refresh", "--root", device.root)
    assert ran.code == 0, ran.err
    return ran.out


def test_the_newest_kernel_of_the_packages_is_booted(device: Device) -> None:
    before = next_boot(device).cmdline.split(" ", 1)[1]
    kernel = bring_kernel(device)
    assert f"slot a boots a copy of vmlinuz-{NEWER}" in refresh(device)
    assert booted_kernel(device) == kernel.read_bytes()
    assert next_boot(device).cmdline.split(" ", 1)[1] == before
    assert grub.is_intact(device, "a")
    assert "All was in order." in refresh(device)


def test_every_refresh_uses_the_set_that_does_not_boot(device: Device) -> None:
    used = []
    for number in range(3):
        kernel = bring_kernel(device)
        kernel.write_bytes(b"build %d " % number * 500)
        refresh(device)
        assert booted_kernel(device) == kernel.read_bytes()
        booted = grub_files.booted_set(device, "a")
        assert booted is not None
        used.append(booted.directory.name)
    assert used == ["refreshed", "slot-a", "refreshed"]
    assert sorted(path.name for path in layout.slot_directory(device, "a").iterdir()) == [
        "good", "refreshed",
    ]  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_cut_off_anywhere_the_old_or_the_new_kernel_boots(device: Device, first: bool) -> None:
    if not first:
        bring_kernel(device)
        refresh(device)
    old = booted_kernel(device)
    kernel = bring_kernel(device)
    kernel.write_bytes(b"last build " * 700)
    ops = grub.refresh(
        device, "a", boot_file(kernel), boot_file(device.boot / f"initrd.img-{NEWER}")
    )
    seen = []
    for op in ops:
        apply([op])
        assert next_boot(device).slot == "a"
        assert grub.is_intact(device, "a")
        seen.append(booted_kernel(device))
    assert [each for each, _ in itertools.groupby(seen)] == [old, kernel.read_bytes()]


def test_an_initrd_that_was_made_anew_is_booted(device: Device) -> None:
    bring_kernel(device)
    refresh(device)
    (device.boot / f"initrd.img-{NEWER}").write_bytes(b"made anew " * 900)
    refresh(device)
    booted = grub_files.booted_set(device, "a")
    assert booted is not None
    assert booted.initrd.read_bytes() == b"made anew " * 900


@pytest.mark.parametrize("version", ["6.1.0-99-amd64", NEWER])
def test_a_kernel_without_modules_or_initrd_is_left_alone(device: Device, version: str) -> None:
    old = booted_kernel(device)
    bring_kernel(device, version, initrd=version != NEWER)
    assert "All was in order." in refresh(device)
    assert booted_kernel(device) == old


def warnings(device: Device) -> int:
    return len(ota("status", "--root", device.root, "--json").result["warnings"])


def made_long_ago(device: Device) -> None:
    """What is on the boot partition now came after the copies that boot."""
    booted = grub_files.booted_set(device, "a")
    assert booted is not None
    os.utime(booted.ready, (1, 1))


def test_status_warns_until_the_new_kernel_boots(device: Device) -> None:
    assert warnings(device) == 0
    made_long_ago(device)
    bring_kernel(device)
    assert warnings(device) == 1
    refresh(device)
    assert warnings(device) == 0


def test_an_initrd_that_the_other_slot_made_for_the_same_kernel_is_not_taken(
    device: Device,
) -> None:
    kernel = bring_kernel(device)
    refresh(device)
    shared = device.boot / f"initrd.img-{NEWER}"
    own = shared.read_bytes()
    apply(grub.install(device, "b", boot_files(device, "b")))
    shared.write_bytes(b"made in slot b " * 800)
    apply(grub.refresh(device, "b", boot_file(kernel), boot_file(shared)))
    made_long_ago(device)
    assert warnings(device) == 0
    assert "All was in order." in refresh(device)
    booted = grub_files.booted_set(device, "a")
    assert booted is not None
    assert booted.initrd.read_bytes() == own
    shared.write_bytes(b"made in slot a " * 800)
    assert warnings(device) == 1
    assert "slot a boots a copy" in refresh(device)


def test_an_update_takes_both_sets_away_and_fills_the_first(device: Device) -> None:
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.refresh(device, "b", boot_file(bring_kernel(device)), None))
    apply(grub.withdraw(device, grub.read(device), "b"))
    assert grub_files.booted_set(device, "b") is None
    apply(grub.install(device, "b", boot_files(device, "b")))
    booted = grub_files.booted_set(device, "b")
    assert booted == grub_files.first_set(device, "b")
    assert not any((layout.slot_directory(device, "b") / "refreshed").iterdir())


@needs_grub_emu
def test_grub_itself_boots_the_refreshed_set(device: Device, tmp_path: Path) -> None:
    bring_kernel(device)
    refresh(device)
    said, _ = boot_with_grub(device.boot, tmp_path)
    assert "/ota/slot-a/refreshed/kernel" in said
    assert "ota.slot=a" in said


def test_a_rule_that_knows_no_second_set_is_not_relied_on(device: Device) -> None:
    custom = grub.custom_cfg(device)
    custom.write_text(custom.read_text().replace(f"rule {grubcfg.RULE}", "rule 1"))
    kernel = bring_kernel(device)
    refresh(device)
    assert grubcfg.rule_of(custom.read_text()) == grubcfg.RULE
    assert booted_kernel(device) == kernel.read_bytes()


def test_only_a_confirmed_system_replaces_an_older_rule(device: Device) -> None:
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    custom = grub.custom_cfg(device)
    custom.write_text(custom.read_text().replace(f"rule {grubcfg.RULE}", "rule 1"))
    next_boot(device)
    assert ota("setup", "--repair", "--root", device.root).code == 0
    assert grubcfg.rule_of(custom.read_text()) == 1
    ran = ota("commit", "--root", device.root)
    assert ran.code == 0, ran.err
    assert grubcfg.rule_of(custom.read_text()) == grubcfg.RULE


def test_the_hooks_do_nothing_where_ota_boots_nothing(tmp_path: Path) -> None:
    for hook in hooks():
        script = tmp_path / "hook"
        script.write_text(hook.text.replace("/boot/", f"{tmp_path}/"))
        assert subprocess.run(["/bin/sh", script], check=True, capture_output=True).stderr == b""


def test_a_hook_that_can_not_refresh_says_so_and_lets_the_package_be(tmp_path: Path) -> None:
    (tmp_path / "ota").mkdir()
    (tmp_path / "ota/setup.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ota").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nexit 13\n')
    (tmp_path / "bin/ota").chmod(0o755)
    script = tmp_path / "hook"
    script.write_text(hooks()[0].text.replace("/boot/", f"{tmp_path}/"))
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", script], env=environment, check=True, capture_output=True)
    assert (tmp_path / "called").read_text() == "setup --refresh --quiet\n"
    assert b"run 'ota setup --refresh'" in done.stderr


def test_prepare_puts_the_hooks_where_packages_look_for_them(tmp_path: Path) -> None:
    (tmp_path / "etc/kernel").mkdir(parents=True)
    assert "/etc/kernel/postinst.d/zz-ota" in prepare(tmp_path, [], silent).written
    hook = tmp_path / "etc/kernel/postinst.d/zz-ota"
    assert os.access(hook, os.X_OK)
    assert not (tmp_path / "etc/initramfs").exists()
    assert prepare(tmp_path, [], silent).written == ()
