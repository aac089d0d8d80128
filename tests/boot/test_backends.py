"""The contract every back-end keeps, run over all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import pytest

from ota_cli.boot.base import Backend, backend_for, detect_loader
from ota_cli.boot.simulate import next_boot
from ota_cli.errors import BootRefused, UsageProblem
from ota_cli.host.ops import Op, apply
from ota_cli.model import BootState, Checked, Device, EcuInfo, KnownGood, SlotBoot, SlotName
from ota_cli.probe import probe
from tests.support.boot import bare_device, boot_files, files_below, ready_device

ARMED = BootState("a", "b", {"a": SlotBoot(True, True), "b": SlotBoot(True, False)}, "t1")
SETTLED = BootState("a", None, {"a": SlotBoot(True, True), "b": SlotBoot(False, False)})
COMMITTED = BootState("b", None, {"a": SlotBoot(True, True), "b": SlotBoot(True, True)})


@pytest.fixture(params=["grub", "directory"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    return ready_device(tmp_path / "device", request.param)


@pytest.fixture
def backend(device: Device) -> Backend:
    return backend_for(device)


def stage(device: Device) -> List[List[Op]]:
    """The ops of staging and arming slot b, each list made when the one before was applied."""
    backend = backend_for(device)
    done: List[List[Op]] = []
    for make in (
        lambda: backend.withdraw(device, backend.read(device), "b"),
        lambda: backend.install(device, "b", boot_files(device, "b")),
        lambda: backend.arm(device, backend.read(device), Checked("b", "t1")),
    ):
        done.append(make())
        apply(done[-1])
    return done


def test_after_setup_the_running_slot_boots(device: Device, backend: Backend) -> None:
    assert backend.read(device) == SETTLED
    assert backend.read(device).next == "a"


def test_an_update_arms_one_trial_and_a_commit_makes_it_the_default(
    device: Device, backend: Backend
) -> None:
    stage(device)
    assert backend.read(device) == ARMED
    first = next_boot(device)
    assert (first.slot, first.trial) == ("b", True)
    apply(backend.commit(device, backend.read(device), "b"))
    assert backend.read(device) == COMMITTED
    assert next_boot(device).slot == "b"


def test_an_unconfirmed_trial_falls_back(device: Device, backend: Backend) -> None:
    stage(device)
    assert [next_boot(device).slot for _ in range(3)] == ["b", "a", "a"]
    assert backend.read(device) == replace(ARMED, trial=None)


def test_the_trial_tells_its_system_slot_and_transaction(device: Device) -> None:
    stage(device)
    next_boot(device)
    again = probe(device.root)
    assert again.running == "b"
    assert "ota.trial=1 ota.txn=t1" in again.cmdline


def test_revert_disarms(device: Device, backend: Backend) -> None:
    stage(device)
    apply(backend.revert(device, backend.read(device)))
    assert backend.read(device) == replace(ARMED, trial=None, txn="")
    assert next_boot(device).slot == "a"


def test_withdraw_disarms_and_unmarks_the_slot(device: Device, backend: Backend) -> None:
    stage(device)
    apply(backend.commit(device, backend.read(device), "b"))
    apply(backend.commit(device, backend.read(device), "a"))
    apply(backend.arm(device, backend.read(device), KnownGood("b", "t2")))
    apply(backend.withdraw(device, backend.read(device), "b"))
    assert backend.read(device) == SETTLED


def test_a_known_good_slot_can_be_armed_again(device: Device, backend: Backend) -> None:
    stage(device)
    apply(backend.commit(device, backend.read(device), "b"))
    apply(backend.arm(device, backend.read(device), KnownGood("a", "t2")))
    boot = next_boot(device)
    assert (boot.slot, boot.trial) == ("a", True)
    assert boot.cmdline.endswith("ota.txn=t2")


@pytest.mark.parametrize("trial", [None, "b"])
def test_a_slot_that_was_good_is_so_again_without_being_tried_or_the_default(
    device: Device, backend: Backend, trial: Optional[SlotName]
) -> None:
    stage(device)
    next_boot(device)
    apply(backend.commit(device, backend.read(device), "b"))
    apply(backend.withdraw(device, backend.read(device), "a"))
    apply(backend.install(device, "a", boot_files(device, "a")))
    assert not backend.read(device).slots["a"].good
    if trial is not None:
        apply(backend.arm(device, backend.read(device), KnownGood(trial, "t3")))
    armed = backend.read(device)
    apply(backend.regain(device, armed, "a"))
    assert backend.read(device) == replace(armed, slots=COMMITTED.slots)
    assert backend.mark_good(device, "a") == []
    assert next_boot(device).slot == "b"


def test_the_default_can_be_withdrawn_when_the_other_slot_is_good(
    device: Device, backend: Backend
) -> None:
    stage(device)
    apply(backend.commit(device, backend.read(device), "b"))
    apply(backend.withdraw(device, backend.read(device), "b"))
    assert backend.read(device) == SETTLED


def test_refuses_to_withdraw_the_only_slot_that_boots(device: Device, backend: Backend) -> None:
    before = files_below(device.boot)
    with pytest.raises(BootRefused) as caught:
        backend.withdraw(device, backend.read(device), "a")
    assert caught.value.slug == "only-bootable-slot"
    assert files_below(device.boot) == before


def test_refuses_to_arm_or_commit_a_slot_that_is_not_ready(
    device: Device, backend: Backend
) -> None:
    for make in (
        lambda: backend.arm(device, backend.read(device), Checked("b", "t")),
        lambda: backend.commit(device, backend.read(device), "b"),
        lambda: backend.regain(device, backend.read(device), "b"),
    ):
        with pytest.raises(BootRefused) as caught:
            make()
        assert caught.value.slug == "not-ready"


def test_making_ops_changes_nothing(device: Device, backend: Backend) -> None:
    stage(device)
    before = files_below(device.root)
    state = backend.read(device)
    backend.withdraw(device, state, "b")
    backend.install(device, "b", boot_files(device, "b"))
    backend.arm(device, state, Checked("b", "t"))
    backend.commit(device, state, "b")
    backend.mark_good(device, "a")
    backend.revert(device, state)
    backend.regain(device, state, "b")
    assert files_below(device.root) == before


def test_every_list_of_ops_can_be_done_twice(device: Device, backend: Backend) -> None:
    stage(device)
    for ops in (
        backend.arm(device, backend.read(device), Checked("b", "t")),
        backend.revert(device, backend.read(device)),
        backend.commit(device, backend.read(device), "b"),
        backend.mark_good(device, "a"),
        backend.regain(device, backend.read(device), "b"),
        backend.install(device, "b", boot_files(device, "b")),
    ):
        apply(ops)
        once = files_below(device.boot)
        apply(ops)
        assert files_below(device.boot) == once


def test_cut_off_after_any_op_the_device_boots_and_a_rerun_arms(
    tmp_path: Path, device: Device
) -> None:
    total = sum(len(ops) for ops in stage(device))
    loader = device.loader or ""
    for cut in range(total):
        fresh = ready_device(tmp_path / f"cut-{cut}", loader)
        _stage_until(fresh, cut)
        boot = next_boot(fresh)
        assert boot.slot == "a" or boot.trial, cut
        assert next_boot(fresh).slot == "a", cut
        stage(fresh)
        assert backend_for(fresh).read(fresh) == ARMED, cut


def _stage_until(device: Device, cut: int) -> None:
    backend = backend_for(device)
    left = cut
    for make in (
        lambda: backend.withdraw(device, backend.read(device), "b"),
        lambda: backend.install(device, "b", boot_files(device, "b")),
        lambda: backend.arm(device, backend.read(device), Checked("b", "t1")),
    ):
        ops = make()
        apply(ops[:left])
        left -= len(ops)
        if left <= 0:
            return


def test_cut_off_while_committing_one_of_the_good_slots_boots(
    tmp_path: Path, device: Device
) -> None:
    stage(device)
    next_boot(device)
    ops = backend_for(device).commit(device, backend_for(device).read(device), "b")
    for cut in range(len(ops) + 1):
        fresh = ready_device(tmp_path / f"cut-{cut}", device.loader or "")
        stage(fresh)
        next_boot(fresh)
        backend = backend_for(fresh)
        apply(backend.commit(fresh, backend.read(fresh), "b")[:cut])
        assert next_boot(fresh).slot == ("b" if cut else "a")


def test_finds_the_back_end(tmp_path: Path) -> None:
    grub = bare_device(tmp_path / "g")
    assert detect_loader(replace(grub, ecu=EcuInfo())) == "grub"
    plain = bare_device(tmp_path / "d", "directory")
    assert detect_loader(replace(plain, ecu=EcuInfo())) == "directory"
    assert detect_loader(replace(plain, ecu=EcuInfo(), slots={})) is None
    assert detect_loader(replace(grub, ecu=EcuInfo(bootloader="cboot"))) is None


def test_a_device_without_a_known_boot_loader_is_refused_with_the_way_out(tmp_path: Path) -> None:
    device = replace(bare_device(tmp_path / "d"), loader=None)
    with pytest.raises(BootRefused) as caught:
        backend_for(device)
    assert "ecu_info.yml" in caught.value.hint


def test_a_reboot_of_this_machine_is_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        next_boot(replace(bare_device(tmp_path / "d"), root=Path("/")))
