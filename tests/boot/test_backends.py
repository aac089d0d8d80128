"""The contract every back-end keeps, run over all of them.

A new boot loader joins `LOADERS`, and `tests.support.boot` with devices of its kind and something
that boots them.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import pytest

import ota_cli
from ota_cli.boot.base import Backend, backend_for, detect_loader
from ota_cli.boot.simulate import next_boot
from ota_cli.core.cmdline import parse as parse_cmdline
from ota_cli.errors import BootRefused, UsageProblem
from ota_cli.events import silent
from ota_cli.host.ops import Op, apply
from ota_cli.image.prepare import prepare
from ota_cli.model import BootState, Checked, Device, EcuInfo, KnownGood, SlotBoot, SlotName
from ota_cli.probe import probe
from tests.support.boot import (
    bare_device,
    boot_files,
    ready_device,
    reboot,
    slot_tree,
    state_of,
)
from tests.support.jetson import LAYOUTS, Jetson
from tests.support.systems import make_system

LOADERS = ("grub", "directory", *LAYOUTS)

ARMED = BootState("a", "b", {"a": SlotBoot(True, True), "b": SlotBoot(True, False)}, "t1")
SETTLED = BootState("a", None, {"a": SlotBoot(True, True), "b": SlotBoot(False, False)})
COMMITTED = BootState("b", None, {"a": SlotBoot(True, True), "b": SlotBoot(True, True)})

Fresh = Callable[[str], Device]


@pytest.fixture(scope="module", params=LOADERS)
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device that was set up; nobody changes it."""
    root: Path = tmp_path_factory.mktemp(request.param) / "first"
    with pytest.MonkeyPatch.context() as patch:
        Jetson(root).use(patch)
        return ready_device(root, request.param).root


@pytest.fixture
def fresh(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """Makes a device that was set up, by a name; the one that was made last is at hand."""

    def make(name: str) -> Device:
        copied = Jetson(first).copied(tmp_path / name).use(monkeypatch)
        return probe(copied.root)

    return make


@pytest.fixture
def device(fresh: Fresh) -> Device:
    return fresh("device")


@pytest.fixture
def backend(device: Device) -> Backend:
    return backend_for(device)


def staging(device: Device) -> List[Callable[[], List[Op]]]:
    """What makes the ops of staging and arming slot b, each when those before were applied."""
    backend = backend_for(device)
    return [
        lambda: backend.withdraw(device, backend.read(device), "b"),
        lambda: backend.install(device, "b", boot_files(device, "b"), slot_tree(device, "b")),
        lambda: backend.arm(device, backend.read(device), Checked("b", "t1")),
    ]


def stage(device: Device) -> int:
    """Slot b is staged and armed; by how many ops."""
    count = 0
    for make in staging(device):
        ops = make()
        apply(ops)
        count += len(ops)
    return count


def booted(device: Device) -> Device:
    """The device after a reboot."""
    reboot(device)
    return probe(device.root)


def commit(device: Device) -> None:
    """The running slot is confirmed."""
    backend = backend_for(device)
    assert device.running is not None
    apply(backend.commit(device, backend.read(device), device.running))


def on_trial(device: Device) -> Device:
    """Slot b runs on trial."""
    stage(device)
    return booted(device)


def test_after_setup_the_running_slot_boots(device: Device, backend: Backend) -> None:
    assert backend.read(device) == SETTLED
    assert backend.read(device).next == "a"
    assert reboot(device).slot == "a"


def test_an_update_arms_one_trial_and_a_commit_makes_it_the_default(
    device: Device, backend: Backend
) -> None:
    stage(device)
    assert backend.read(device) == ARMED
    first = reboot(device)
    assert (first.slot, first.trial) == ("b", True)
    device = probe(device.root)
    commit(device)
    assert backend.read(device) == COMMITTED
    again = reboot(device)
    assert (again.slot, again.trial) == ("b", False)
    assert not parse_cmdline(probe(device.root).cmdline).trial


def test_an_unconfirmed_trial_falls_back(device: Device, backend: Backend) -> None:
    stage(device)
    assert [reboot(device).slot for _ in range(3)] == ["b", "a", "a"]
    assert backend.read(device) == replace(ARMED, trial=None)


def test_while_a_trial_runs_the_next_boot_is_of_the_slot_that_works(
    device: Device, backend: Backend
) -> None:
    device = on_trial(device)
    assert backend.read(device) == replace(ARMED, trial=None)
    assert backend.read(device).next == "a"


def test_the_trial_tells_its_system_slot_and_transaction(device: Device) -> None:
    again = on_trial(device)
    assert again.running == "b"
    told = parse_cmdline(again.cmdline)
    assert (told.trial, told.txn) == (True, "t1")


def test_revert_disarms(device: Device, backend: Backend) -> None:
    stage(device)
    apply(backend.revert(device, backend.read(device)))
    assert backend.read(device) == replace(ARMED, trial=None, txn="")
    assert reboot(device).slot == "a"


def test_withdraw_disarms_and_unmarks_the_slot(device: Device, backend: Backend) -> None:
    device = on_trial(device)
    commit(device)
    apply(backend.arm(device, backend.read(device), KnownGood("a", "t2")))
    device = booted(device)
    commit(device)
    apply(backend.arm(device, backend.read(device), KnownGood("b", "t3")))
    apply(backend.withdraw(device, backend.read(device), "b"))
    assert backend.read(device) == SETTLED
    assert reboot(device).slot == "a"


def test_a_known_good_slot_can_be_armed_again(device: Device, backend: Backend) -> None:
    device = on_trial(device)
    commit(device)
    apply(backend.arm(device, backend.read(device), KnownGood("a", "t2")))
    device = booted(device)
    told = parse_cmdline(device.cmdline)
    assert (device.running, told.trial, told.txn) == ("a", True, "t2")
    assert reboot(device).slot == "b"


@pytest.mark.parametrize("trial", [None, "b"])
def test_a_slot_that_was_good_is_so_again_without_being_tried_or_the_default(
    device: Device, backend: Backend, trial: Optional[SlotName]
) -> None:
    device = on_trial(device)
    commit(device)
    apply(backend.withdraw(device, backend.read(device), "a"))
    apply(backend.install(device, "a", boot_files(device, "a"), slot_tree(device, "a")))
    assert not backend.read(device).slots["a"].good
    if trial is not None:
        apply(backend.arm(device, backend.read(device), KnownGood(trial, "t3")))
    before = backend.read(device)
    apply(backend.regain(device, before, "a"))
    assert backend.read(device) == replace(before, slots=COMMITTED.slots)
    assert backend.mark_good(device, "a") == []
    assert reboot(device).slot == "b"


def test_the_default_can_be_withdrawn_when_the_other_slot_is_good(
    device: Device, backend: Backend
) -> None:
    device = on_trial(device)
    commit(device)
    apply(backend.withdraw(device, backend.read(device), "b"))
    assert backend.read(device) == SETTLED
    assert reboot(device).slot == "a"


def test_what_boots_next_is_what_is_read(device: Device, fresh: Fresh) -> None:
    """Also where an armed slot is not complete any more."""
    stage(device)
    backend = backend_for(device)
    (device.state_directory / "slot-b" / "ready").unlink()
    told = backend.read(device).next
    assert reboot(device).slot == told


def test_refuses_to_withdraw_the_only_slot_that_boots(device: Device, backend: Backend) -> None:
    before = state_of(device)
    with pytest.raises(BootRefused) as caught:
        backend.withdraw(device, backend.read(device), "a")
    assert caught.value.slug == "only-bootable-slot"
    assert state_of(device) == before


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
    device = on_trial(device)
    before = state_of(device)
    state = backend.read(device)
    backend.withdraw(device, state, "b")
    backend.install(device, "b", boot_files(device, "b"), slot_tree(device, "b"))
    backend.arm(device, state, Checked("b", "t"))
    backend.commit(device, state, "b")
    backend.mark_good(device, "a")
    backend.revert(device, state)
    backend.regain(device, state, "b")
    backend.lead_back(device, state)
    assert state_of(device) == before


def test_every_list_of_ops_can_be_done_twice(device: Device, backend: Backend) -> None:
    stage(device)
    trial = booted(device)
    for make in (
        lambda: backend.commit(trial, backend.read(trial), "b"),
        lambda: backend.mark_good(trial, "b"),
        lambda: backend.arm(trial, backend.read(trial), KnownGood("a", "t")),
        lambda: backend.lead_back(trial, backend.read(trial)),
        lambda: backend.complete(trial),
        lambda: backend.revert(trial, backend.read(trial)),
        lambda: backend.withdraw(trial, backend.read(trial), "a"),
        lambda: backend.install(trial, "a", boot_files(trial, "a"), slot_tree(trial, "a")),
        lambda: backend.regain(trial, backend.read(trial), "a"),
    ):
        ops = make()
        apply(ops)
        once = state_of(trial)
        apply(ops)
        assert state_of(trial) == once


def test_cut_off_after_any_op_the_device_boots_and_a_rerun_arms(
    device: Device, fresh: Fresh
) -> None:
    for cut in range(stage(device)):
        again = fresh(f"cut-{cut}")
        _stage_until(again, cut)
        boot = reboot(again)
        assert boot.slot == "a" or boot.trial, cut
        assert reboot(again).slot == "a", cut
        stage(again)
        assert backend_for(again).read(again) == ARMED, cut


def _stage_until(device: Device, cut: int) -> None:
    left = cut
    for make in staging(device):
        ops = make()
        apply(ops[:left])
        left -= len(ops)
        if left <= 0:
            return


def commits_cut_off(device: Device, fresh: Fresh) -> Iterator[Tuple[int, Device]]:
    """Devices on trial whose commit was cut off after so many ops; none and all included."""
    trial = on_trial(device)
    count = len(backend_for(trial).commit(trial, backend_for(trial).read(trial), "b"))
    for cut in range(count + 1):
        again = on_trial(fresh(f"cut-{cut}"))
        backend = backend_for(again)
        apply(backend.commit(again, backend.read(again), "b")[:cut])
        yield cut, again


def test_cut_off_while_committing_one_of_the_good_slots_boots_and_a_rerun_commits(
    device: Device, fresh: Fresh
) -> None:
    for cut, again in commits_cut_off(device, fresh):
        backend = backend_for(again)
        was_confirmed = backend.read(again).default == "b"
        again = booted(again)
        assert again.running == ("b" if cut else "a"), cut
        if was_confirmed:
            apply(backend.complete(again))
            assert backend.read(again) == replace(COMMITTED, txn=backend.read(again).txn), cut
            assert backend.complete(again) == [], cut
            assert reboot(again).slot == "b", f"{cut}: what is called confirmed stays"
        if cut:
            commit(again)
            assert backend.read(again) == COMMITTED, cut
            assert reboot(again).slot == "b", cut


def test_a_commit_that_fails_half_way_is_followed_by_the_old_system_unless_it_confirmed(
    device: Device, fresh: Fresh
) -> None:
    for cut, again in commits_cut_off(device, fresh):
        backend = backend_for(again)
        found = backend.read(again)
        if found.default != "b":
            apply(backend.lead_back(again, found))
            assert backend.read(again).next == "a", cut
        expected = found.default or "b"
        assert [reboot(again).slot for _ in range(2)] == [expected] * 2, cut


def test_an_arm_that_fails_half_way_can_be_undone(device: Device, fresh: Fresh) -> None:
    count = len(_arming(fresh("count"), "t1"))
    for cut in range(count + 1):
        again = fresh(f"arm-{cut}")
        backend = backend_for(again)
        ops = _arming(again, "t1")
        before = backend.read(again)
        apply(ops[:cut])
        for back in (backend.lead_back, backend.revert):
            apply(back(again, replace(before, trial="b")))
        assert backend.read(again) == before, cut
        assert [reboot(again).slot for _ in range(2)] == ["a", "a"], cut


def test_a_trial_that_was_lost_does_not_count_again_when_its_next_arm_is_cut_off(
    device: Device, fresh: Fresh
) -> None:
    count = len(_arming(fresh("count"), "t1"))
    for cut in range(count + 1):
        again = fresh(f"lost-{cut}")
        apply(_arming(again, "t1"))
        while reboot(again).slot != "a":
            pass
        backend = backend_for(again)
        apply(backend.revert(again, backend.read(again)))
        apply(backend.arm(again, backend.read(again), Checked("b", "t1"))[:cut])
        found = backend.read(again)
        assert (found.trial == "b") or found.txn == "", cut


def _arming(device: Device, txn: str) -> List[Op]:
    """What arms slot b, which is staged by this; nothing of it is done."""
    for make in staging(device)[:-1]:
        apply(make())
    backend = backend_for(device)
    return backend.arm(device, backend.read(device), Checked("b", txn))


def test_cut_off_while_disarming_or_withdrawing_what_is_armed_something_whole_boots(
    device: Device, fresh: Fresh, backend: Backend
) -> None:
    stage(device)
    for verb in ("revert", "withdraw"):
        count = len(_disarming(device, verb))
        for cut in range(count + 1):
            again = fresh(f"{verb}-{cut}")
            stage(again)
            apply(_disarming(again, verb)[:cut])
            boot = reboot(again)
            assert boot.slot == "a" or boot.trial, (verb, cut)
            assert reboot(again).slot == "a", (verb, cut)


def _disarming(device: Device, verb: str) -> List[Op]:
    backend = backend_for(device)
    state = backend.read(device)
    return (
        backend.revert(device, state) if verb == "revert" else backend.withdraw(device, state, "b")
    )


def test_a_trial_is_told_where_the_back_end_says(device: Device, backend: Backend) -> None:
    again = on_trial(device)
    told = parse_cmdline((device.root / "proc/cmdline").read_text()).trial
    marked = (slot_tree(device, "b") / ".ota/trial").exists()
    assert (told, marked) == (not backend.marks_trials, backend.marks_trials)
    assert parse_cmdline(again.cmdline).trial
    commit(again)
    assert not (slot_tree(device, "b") / ".ota/trial").exists()


def test_what_is_kept_of_a_slot_is_on_the_partition_that_both_share(
    device: Device, backend: Backend
) -> None:
    place = backend.shared(device)
    assert place == device.state_directory or place in device.state_directory.parents
    assert place.is_dir()


def test_copies_of_boot_files_are_those_of_the_slot_and_make_room_when_it_is_withdrawn(
    device: Device, backend: Backend
) -> None:
    stage(device)
    copies, files = backend.copies(device, "b"), boot_files(device, "b")
    if not backend.needs_boot_files:
        assert (copies, backend.occupied_bytes(device, "b")) == (None, 0)
        return
    assert copies is not None
    assert files is not None
    assert files.initrd is not None
    wanted = {"kernel": files.kernel.digest.hex(), "initrd": files.initrd.digest.hex()}
    assert {name: copies.digests[name] for name in wanted} == wanted
    assert copies.made_ns > 0
    assert backend.occupied_bytes(device, "b") > 0
    apply(backend.withdraw(device, backend.read(device), "b"))
    assert (backend.copies(device, "b"), backend.occupied_bytes(device, "b")) == (None, 0)


def test_a_slot_filled_with_the_system_of_the_other_names_itself_once_it_is_adapted(
    device: Device, backend: Backend
) -> None:
    source, tree = slot_tree(device, "a"), slot_tree(device, "b")
    shutil.rmtree(tree / "boot")
    shutil.copytree(source / "boot", tree / "boot")

    def text(path: str) -> Optional[str]:
        place = tree / path[1:]
        return place.read_text() if place.exists() else None

    for path, wanted in backend.adapted(device, "b", text).items():
        (tree / path[1:]).write_text(wanted)
    assert backend.adapted(device, "b", text) == {}
    stage(device)
    assert [reboot(device).slot for _ in range(2)] == ["b", "a"]


def test_a_prepared_system_lacks_nothing_and_an_empty_one_what_ends_a_marked_trial(
    backend: Backend, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    make_system(tree, 1)
    (tree / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    prepare(tree, [], silent)
    assert backend.lacking(tree) == []
    shutil.rmtree(tree / "etc/systemd/system")
    assert bool(backend.lacking(tree)) == backend.marks_trials


def test_nothing_elsewhere_asks_which_boot_loader_it_is() -> None:
    """What is known of one is in its module: behind the contract."""
    package = Path(ota_cli.__file__).parent
    names = "grub|cboot|directory"
    asks = re.compile(
        rf'\.loader [!=]= |\.loader in |boot\.({names})(_files)?\b|boot import .*\b({names})'
    )
    sources = [path for path in package.rglob("*.py") if path.parent != package / "boot"]
    assert len(sources) > 100
    assert [str(path) for path in sources if asks.search(path.read_text("utf-8"))] == []


def test_finds_the_back_end(tmp_path: Path) -> None:
    grub = bare_device(tmp_path / "g")
    assert detect_loader(replace(grub, ecu=EcuInfo())) == "grub"
    plain = bare_device(tmp_path / "d", "directory")
    assert detect_loader(replace(plain, ecu=EcuInfo())) == "directory"
    assert detect_loader(replace(plain, ecu=EcuInfo(), slots={})) is None
    assert detect_loader(replace(grub, ecu=EcuInfo(bootloader="cboot"))) == "cboot"
    assert bare_device(tmp_path / "j", "xavier-emmc").loader == "cboot"


def test_a_device_without_a_known_boot_loader_is_refused_with_the_way_out(tmp_path: Path) -> None:
    device = replace(bare_device(tmp_path / "d"), loader=None)
    with pytest.raises(BootRefused) as caught:
        backend_for(device)
    assert "ecu_info.yml" in caught.value.hint


def test_a_reboot_of_this_machine_is_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        next_boot(replace(bare_device(tmp_path / "d"), root=Path("/")))
