"""`ota setup`, from a device that never saw it to one that is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator

import pytest

from ota_cli.boot import grub, layout, partition
from ota_cli.boot.base import backend_for
from ota_cli.boot.simulate import next_boot
from ota_cli.core import grubcfg
from ota_cli.core.grubenv import BootVariables, compose, foreign_variables
from ota_cli.core.record import ARMED, Transaction
from ota_cli.errors import BootRefused, Busy, ConfigError, OtaError, SlotUnusable
from ota_cli.events import silent
from ota_cli.host import store
from ota_cli.host.ops import apply
from ota_cli.model import Checked, Device
from ota_cli.ownkernel import KernelPaths, kernel_of_release
from ota_cli.probe import probe
from ota_cli.setup import check_boot_partition, setup
from tests.support.blocks import mounted, needs_root
from tests.support.boot import (
    GRUB_CFG,
    KERNEL,
    bare_device,
    boot_files,
    files_below,
    grub_lists,
    needs_grub_editenv,
    ready_device,
    run_setup,
)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return ready_device(tmp_path / "device")


@pytest.fixture
def on_trial(device: Device) -> Device:
    """A device that runs an unconfirmed trial in slot b."""
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    next_boot(device)
    return probe(device.root)


@pytest.mark.parametrize("loader", ["grub", "directory"])
def test_a_fresh_device_boots_its_running_system_through_ota(tmp_path: Path, loader: str) -> None:
    device = bare_device(tmp_path / "device", loader)
    report = run_setup(device)
    assert (report.loader, report.running, report.default) == (loader, "a", "a")
    assert report.boot_partition == "directory"
    assert report.changes
    assert next_boot(device).slot == "a"
    assert store.load_record(device).slots["a"].state == "adopted"
    check_boot_partition(device)


@pytest.mark.parametrize("name", ["bootenv", "bootenv.bak"])
def test_settings_of_a_setup_that_was_broken_off_are_completed(device: Device, name: str) -> None:
    """GRUB has not been told of them yet, so there is nothing to lose."""
    grub.custom_cfg(device).unlink()
    (device.state_directory / name).unlink()
    run_setup(device)
    assert next_boot(device).slot == "a"


def test_a_mark_that_a_broken_off_setup_did_not_write_is_written(device: Device) -> None:
    """It says which slot is known to work on the day the settings are lost."""
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    mark = layout.good_mark(device, "a")
    mark.unlink()
    assert run_setup(device).changes
    assert layout.holds_something(mark)
    assert grub.read(device).trial == "b", "what is armed stays so"
    assert not run_setup(device).changes


def test_settings_of_a_device_that_was_updated_are_not_those_of_a_broken_off_setup(
    device: Device,
) -> None:
    """Something may be armed in them."""
    record = store.load_record(device)
    begun = Transaction(
        txn="t1", kind="update", phase=ARMED, from_slot="a", to_slot="b", image_id="i",
        version="v2", started=store.now(),
    )  # fmt: skip
    store.save_record(device, replace(record, transaction=begun))
    grub.custom_cfg(device).unlink()
    grub.twin(device).unlink()
    with pytest.raises(BootRefused, match="missing"):
        run_setup(device)


@pytest.mark.parametrize("name", ["bootenv", "bootenv.bak"])
def test_settings_that_grub_obeys_are_replaced_by_a_repair_only(device: Device, name: str) -> None:
    (device.state_directory / name).unlink()
    with pytest.raises(BootRefused, match="missing"):
        run_setup(device)
    run_setup(device, repair=True)
    assert next_boot(device).slot == "a"


@needs_grub_editenv
def test_grub_reads_the_new_environment(device: Device) -> None:
    for path in (grub.environment(device), grub.twin(device)):
        assert grub_lists(path)["ota_default"] == "a"
        assert grub_lists(path)["ota_good_a"] == "1"


def test_the_running_kernel_becomes_the_boot_file_of_its_slot(device: Device) -> None:
    source = device.root / "slots" / "a" / "boot" / KERNEL
    assert layout.kernel(device, "a").read_bytes() == source.read_bytes()
    assert "ota.slot=a" in next_boot(device).cmdline
    assert "panic=10" in next_boot(device).cmdline


def test_a_kernel_without_a_version_is_the_running_one_where_no_other_is(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    for name in ("own/vmlinuz", "own/initrd.img", "own/vmlinuz-6.2", "shared/vmlinuz-6.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    plain = KernelPaths(own / "vmlinuz", own / "initrd.img")
    assert kernel_of_release((own, shared), "6.1") == KernelPaths(shared / "vmlinuz-6.1", None)
    assert kernel_of_release((own, shared), "6.0") == plain
    assert kernel_of_release((shared,), "6.0") is None


def test_the_arguments_of_an_adopted_system_name_its_deadline(tmp_path: Path) -> None:
    root = bare_device(tmp_path / "device").root
    (root / "etc/ota").mkdir(parents=True)
    (root / "etc/ota/ota.yml").write_text("commit_deadline: 1800\n")
    device = probe(root)
    run_setup(device)
    assert "ota.deadline=1800" in next_boot(device).cmdline


def test_a_kernel_that_lies_only_on_the_boot_partition_is_found(tmp_path: Path) -> None:
    device = bare_device(tmp_path / "device")
    shutil.move(str(device.root / "slots" / "a" / "boot" / KERNEL), str(device.boot / KERNEL))
    run_setup(device)
    assert layout.kernel(device, "a").read_bytes() == (device.boot / KERNEL).read_bytes()
    assert not layout.initrd(device, "a").exists()


@pytest.mark.parametrize("loader", ["grub", "directory"])
@pytest.mark.parametrize("repair", [False, True])
def test_running_it_again_changes_nothing(tmp_path: Path, loader: str, repair: bool) -> None:
    device = ready_device(tmp_path / "device", loader)
    before = files_below(device.boot)
    assert run_setup(device, repair).changes == ()
    assert files_below(device.boot) == before


def test_an_armed_update_stays_armed(device: Device) -> None:
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    before = files_below(device.boot)
    run_setup(device)
    run_setup(device, repair=True)
    assert files_below(device.boot) == before


def test_the_files_of_the_distribution_and_ecu_info_are_left_alone(tmp_path: Path) -> None:
    device = bare_device(tmp_path / "device")
    (device.boot / "grub" / "grubenv").write_bytes(b"theirs")
    (device.boot / "grub" / "custom.cfg").write_bytes(b"# theirs \xff\n")
    before = files_below(device.root)
    run_setup(device)
    after = files_below(device.root)
    custom = after.pop("boot/grub/custom.cfg")
    assert custom == b"# theirs \xff\n" + grubcfg.part().encode()
    assert {name: after[name] for name in before if name != "boot/grub/custom.cfg"} == {
        name: data for name, data in before.items() if name != "boot/grub/custom.cfg"
    }


def test_the_mode_of_custom_cfg_is_kept(tmp_path: Path) -> None:
    device = bare_device(tmp_path / "device")
    grub.custom_cfg(device).write_text("password x\n")
    grub.custom_cfg(device).chmod(0o600)
    run_setup(device)
    assert grub.custom_cfg(device).stat().st_mode & 0o777 == 0o600


def test_an_interrupted_setup_is_completed_by_the_next(tmp_path: Path) -> None:
    device = bare_device(tmp_path / "device")
    (device.boot / "grub" / "grub.cfg").write_text("menuentry x { true }\n")
    with pytest.raises(BootRefused):
        run_setup(device)
    (device.boot / "grub" / "grub.cfg").write_text(GRUB_CFG)
    (device.state_directory / "slot-a").mkdir()
    (device.state_directory / "slot-a" / "kernel").write_bytes(b"half")
    run_setup(device)
    assert next_boot(device).slot == "a"


# --- refusals: nothing is changed -------------------------------------------------------------


def without_source(device: Device) -> Device:
    (device.boot / "grub" / "grub.cfg").write_text("menuentry x { true }\n")
    return device


def without_kernel(device: Device) -> Device:
    (device.root / "slots" / "a" / "boot" / KERNEL).unlink()
    return device


@pytest.mark.parametrize(
    ("spoil", "error", "slug"),
    [
        (without_source, BootRefused, "custom-cfg-not-read"),
        (lambda d: replace(d, loader=None), BootRefused, "no-boot-loader"),
        (lambda d: replace(d, running=None), SlotUnusable, "unknown-slot"),
        (lambda d: replace(d, cmdline="ota.slot=a ota.trial=1"), Busy, "trial-unconfirmed"),
    ],
)
def test_refuses_a_device_it_can_not_set_up_and_changes_nothing(
    tmp_path: Path, spoil: Callable[[Device], Device], error: type, slug: str
) -> None:
    device = spoil(bare_device(tmp_path / "device"))
    before = files_below(device.boot)
    with pytest.raises(OtaError) as caught:
        setup(device, repair=False, emit=silent)
    assert isinstance(caught.value, error)
    assert caught.value.slug == slug
    assert caught.value.hint
    assert files_below(device.boot) == before


def test_without_a_kernel_the_device_boots_as_before(tmp_path: Path) -> None:
    device = without_kernel(bare_device(tmp_path / "device"))
    with pytest.raises(BootRefused) as caught:
        run_setup(device)
    assert caught.value.slug == "no-kernel"
    assert not grub.custom_cfg(device).exists()


def test_refuses_while_another_ota_works(device: Device) -> None:
    with store.exclusive(device), pytest.raises(Busy):
        run_setup(device)


# --- repair -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bootenv", "bootenv.bak"])
@pytest.mark.parametrize("content", [None, b"", b"x" * 1024])
def test_a_damaged_block_is_made_anew_from_the_other(
    on_trial: Device, name: str, content: bytes
) -> None:
    apply(grub.commit(on_trial, grub.read(on_trial), "b"))
    whole = compose(BootVariables("b", None, ("a", "b")), {"theirs": "1"})
    for each in ("bootenv", "bootenv.bak"):
        (on_trial.state_directory / each).write_bytes(whole)
    path = on_trial.state_directory / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BootRefused):
        run_setup(on_trial)
    assert run_setup(on_trial, repair=True).default == "b"
    assert path.read_bytes() == whole


def test_when_both_blocks_are_lost_the_running_system_boots(device: Device) -> None:
    for path in (grub.environment(device), grub.twin(device)):
        path.write_bytes(b"")
    assert run_setup(device, repair=True).default == "a"
    assert grub.read(device).slots["a"].good
    assert foreign_variables(grub.environment(device).read_bytes()) == {}


def test_when_both_blocks_are_lost_during_a_trial_the_old_system_boots(on_trial: Device) -> None:
    for path in (grub.environment(on_trial), grub.twin(on_trial)):
        path.write_bytes(b"")
    assert run_setup(on_trial, repair=True).default == "a"
    state = grub.read(on_trial)
    assert state.slots["a"].good
    assert not state.slots["b"].good


def test_an_unconfirmed_trial_is_not_adopted(on_trial: Device) -> None:
    with pytest.raises(Busy):
        run_setup(on_trial)
    before = files_below(on_trial.boot)
    run_setup(on_trial, repair=True)
    assert files_below(on_trial.boot) == before


def test_after_a_commit_the_trial_on_the_command_line_is_over(on_trial: Device) -> None:
    apply(grub.commit(on_trial, grub.read(on_trial), "b"))
    assert run_setup(on_trial).default == "b"


@pytest.mark.parametrize("name", ["kernel", "initrd", "ready", "arguments.cfg"])
def test_damaged_boot_files_of_the_running_slot_are_copied_again(device: Device, name: str) -> None:
    path = layout.slot_directory(device, "a") / name
    whole = path.read_bytes()
    path.unlink()
    run_setup(device)
    assert path.read_bytes() == whole


def test_a_changed_script_is_written_again(device: Device) -> None:
    custom = grub.custom_cfg(device)
    custom.write_text("# theirs\n" + custom.read_text().replace("save_env", "true"))
    assert len(run_setup(device).changes) == 1
    assert custom.read_text() == "# theirs\n" + grubcfg.part()


def test_a_damaged_record_is_replaced_only_by_a_repair(device: Device) -> None:
    path = device.state_directory / "state.json"
    path.write_bytes(b"{torn")
    with pytest.raises(ConfigError):
        run_setup(device)
    run_setup(device, repair=True)
    assert store.load_record(device).slots["a"].state == "adopted"


def test_a_damaged_marker_is_repaired(tmp_path: Path) -> None:
    device = ready_device(tmp_path / "device", "directory")
    (device.state_directory / "directory-boot").write_text('{"default": "c"}')
    with pytest.raises(BootRefused):
        run_setup(device)
    assert run_setup(device, repair=True).default == "a"
    assert backend_for(device).read(device).slots["a"].good


# --- the boot partition -----------------------------------------------------------------------


def test_without_a_record_nothing_may_be_written_to_boot(tmp_path: Path) -> None:
    with pytest.raises(SlotUnusable) as caught:
        check_boot_partition(bare_device(tmp_path / "device"))
    assert caught.value.exit_code == 14


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"boot_partition": 7}'])
def test_a_damaged_record_of_the_partition_counts_as_none(device: Device, content: str) -> None:
    partition.record_path(device).write_text(content)
    with pytest.raises(SlotUnusable):
        check_boot_partition(device)
    run_setup(device)
    check_boot_partition(device)


def test_another_partition_is_refused_until_a_repair_accepts_it(device: Device) -> None:
    record = partition.record_path(device)
    record.write_text(json.dumps({"schema": 1, "boot_partition": "UUID=1234"}))
    for refused in (check_boot_partition, run_setup):
        with pytest.raises(SlotUnusable) as caught:
            refused(device)
        assert caught.value.slug == "wrong-boot-partition"
        assert "UUID=1234" in caught.value.message
    run_setup(device, repair=True)
    check_boot_partition(device)


def test_a_machine_whose_slots_share_no_boot_partition_is_refused(device: Device) -> None:
    with pytest.raises(SlotUnusable) as caught:
        check_boot_partition(replace(device, root=Path("/")))
    assert caught.value.slug == "no-boot-partition"
    assert f"{device.boot} is not a mount point" in caught.value.message
    assert "/etc/fstab" in caught.value.hint


@pytest.fixture
def mounted_boot(tmp_path: Path) -> Iterator[Device]:
    """A device whose boot partition is a mounted file system."""
    if os.geteuid() != 0:
        pytest.skip("mounting a boot partition needs root")
    device = bare_device(tmp_path / "device")
    image = tmp_path / "boot.img"
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", device.boot, image, "16M"],
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    mounted = subprocess.run(["mount", "-o", "loop", image, device.boot], check=False)
    if mounted.returncode:
        pytest.skip("loop mounts do not work here")
    try:
        yield device
    finally:
        subprocess.run(["umount", "-l", device.boot], check=False)


@needs_root
def test_a_boot_partition_that_grub_can_not_write_to_is_refused(tmp_path: Path) -> None:
    device = bare_device(tmp_path / "device")
    kept = shutil.copytree(device.boot, tmp_path / "kept")
    with mounted("none", device.boot, "size=8M", "tmpfs"):
        shutil.copytree(kept, device.boot, dirs_exist_ok=True)
        with pytest.raises(BootRefused, match="is on tmpfs: GRUB can not write to it"):
            run_setup(device)
        assert not grub.custom_cfg(device).exists()


def test_the_boot_partition_is_known_by_its_uuid(mounted_boot: Device, tmp_path: Path) -> None:
    device = mounted_boot
    found = subprocess.run(
        ["blkid", "-p", "-s", "UUID", "-o", "value", tmp_path / "boot.img"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert run_setup(device).boot_partition == f"UUID={found.stdout.decode().strip()}"
    check_boot_partition(device)
    record = partition.record_path(device).read_bytes()
    subprocess.run(["umount", device.boot], check=True)
    partition.record_path(device).write_bytes(record)  # as a copy of /boot below it would say
    with pytest.raises(SlotUnusable) as caught:
        check_boot_partition(device)
    assert caught.value.slug == "wrong-boot-partition"
