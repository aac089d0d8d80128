"""The GRUB back-end on real files, and its rule run by GRUB itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import pytest

from ota_cli.boot import grub, layout
from ota_cli.boot.simulate import next_boot
from ota_cli.core.grubcfg import RULE, part
from ota_cli.core.grubenv import BootVariables, compose, head
from ota_cli.errors import BootRefused
from ota_cli.host.ops import Flush, Op, ReplaceInPlace, apply
from ota_cli.model import SLOT_NAMES, BootFiles, Checked, Device, SlotName
from tests.support.blocks import boot_image, mounted, needs_root, written_in_any_order
from tests.support.boot import (
    boot_files,
    boot_with_grub,
    grub_lists,
    needs_grub_editenv,
    needs_grub_emu,
    ready_device,
)
from tests.support.vm.grubview import GrubView, needs_grub_fstest


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return ready_device(tmp_path / "device")


@pytest.fixture
def armed(device: Device) -> Device:
    apply(grub.withdraw(device, grub.read(device), "b"))
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    return device


@needs_grub_editenv
def test_the_armed_environment_reads_back_with_grub_editenv(armed: Device) -> None:
    for path in (grub.environment(armed), grub.twin(armed)):
        found = grub_lists(path)
        assert (found["ota_default"], found["ota_trial"], found["ota_txn"]) == ("a", "b", "t1")
        assert (found["ota_good_a"], found["ota_good_b"]) == ("1", "0")


def test_the_switch_is_one_write_inside_the_first_sector(armed: Device) -> None:
    for ops in (
        grub.arm(armed, grub.read(armed), Checked("b", "t2")),
        grub.commit(armed, grub.read(armed), "b"),
        grub.revert(armed, grub.read(armed)),
    ):
        writes = [op for op in ops if isinstance(op, ReplaceInPlace)]
        assert [op.path for op in writes] == [grub.environment(armed), grub.twin(armed)]
        assert all(len(op.data) < 512 for op in writes)
        assert ops[0] is writes[0]


def test_the_switch_changes_no_inode_and_no_script(armed: Device) -> None:
    paths = [grub.environment(armed), grub.twin(armed), grub.custom_cfg(armed)]
    paths.append(layout.good_mark(armed, "a"))
    before = [path.stat().st_ino for path in paths]
    script = grub.custom_cfg(armed).read_bytes()
    apply(grub.commit(armed, grub.read(armed), "b"))
    apply([*grub.commit(armed, grub.read(armed), "a"), *grub.mark_good(armed, "a")])
    assert [path.stat().st_ino for path in paths] == before
    assert grub.custom_cfg(armed).read_bytes() == script


def test_variables_of_others_survive_an_update(device: Device) -> None:
    ours = BootVariables("a", None, ("a",))
    grub.environment(device).write_bytes(compose(ours, {"saved_entry": "x", "y": "a\\b"}))
    apply(grub.install(device, "b", boot_files(device, "b")))
    apply(grub.arm(device, grub.read(device), Checked("b", "t")))
    after = compose(BootVariables("a", "b", ("a",), "t"), {"saved_entry": "x", "y": "a\\b"})
    assert grub.environment(device).read_bytes() == after


def test_ready_lists_the_digests_of_what_is_there(armed: Device) -> None:
    assert grub.is_intact(armed, "b")
    layout.kernel(armed, "b").write_bytes(b"rotten")
    assert grub.read(armed).slots["b"].ready
    assert not grub.is_intact(armed, "b")


@pytest.mark.parametrize("name", ["ready", "kernel", "initrd", "arguments.cfg"])
@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
def test_a_slot_with_a_missing_or_empty_file_is_not_ready(
    armed: Device, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(layout.slot_directory(armed, "b") / name)
    assert not grub.read(armed).slots["b"].ready
    assert next_boot(armed).slot == "a"


def test_an_older_initrd_does_not_stay_for_a_system_without_one(armed: Device) -> None:
    files = boot_files(armed, "b")
    apply(grub.install(armed, "b", BootFiles(files.kernel, None, "quiet")))
    assert not layout.initrd(armed, "b").exists()
    assert next_boot(armed).slot == "b"


def test_refuses_boot_files_that_changed_since_they_were_verified(armed: Device) -> None:
    files = boot_files(armed, "b")
    apply(grub.withdraw(armed, grub.read(armed), "b"))
    files.kernel.path.write_bytes(b"changed")
    with pytest.raises(BootRefused):
        apply(grub.install(armed, "b", files))
    assert not grub.read(armed).slots["b"].ready


def test_refuses_a_system_without_a_kernel(device: Device) -> None:
    with pytest.raises(BootRefused):
        grub.install(device, "b", None)


@pytest.mark.parametrize("name", ["bootenv", "bootenv.bak"])
@pytest.mark.parametrize("content", [None, b"", b"x" * 1024, b"# GRUB Environment Block\n"])
def test_a_damaged_environment_is_refused_with_the_way_to_repair(
    armed: Device, name: str, content: bytes
) -> None:
    path = armed.state_directory / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BootRefused) as caught:
        grub.read(armed)
    assert "--repair" in caught.value.hint


def test_a_device_without_the_rule_is_not_set_up(armed: Device) -> None:
    grub.custom_cfg(armed).write_text("# somebody's\n")
    with pytest.raises(BootRefused) as caught:
        grub.read(armed)
    assert caught.value.slug == "boot-not-set-up"


def test_a_trial_whose_kernel_is_damaged_falls_back(armed: Device) -> None:
    layout.kernel(armed, "b").write_bytes(b"rotten")
    boot = next_boot(armed)
    assert (boot.slot, boot.trial) == ("a", False)


def test_quoted_kernel_arguments_arrive(device: Device) -> None:
    apply(grub.install(device, "b", boot_files(device, "b", 'dyndbg="file a.c +p" ota.slot=b')))
    apply(grub.arm(device, grub.read(device), Checked("b", "t")))
    assert '"dyndbg=file a.c +p" ota.slot=b' in next_boot(device).cmdline


# --- power cuts: GRUB replays no journal ------------------------------------------------------


def after_cuts(device: Device, ops: List[Op], scratch: Path) -> Iterator[GrubView]:
    """All that GRUB may find on the boot partition where the power is cut during `ops`."""
    image = boot_image(scratch / "boot.img", device.boot)
    with mounted(image, device.boot, "loop"):
        states = list(states_after(ops, device.boot, image))
    flushed = 0
    for number, op in enumerate(ops, 1):
        if isinstance(op, Flush) or number == len(ops):
            for _ in written_in_any_order(image, states[flushed : number + 1]):
                yield GrubView(image)
            flushed = number


def states_after(ops: List[Op], mount: Path, image: Path) -> Iterator[bytes]:
    """The whole of what is mounted: before the first op, and after each."""
    apply([Flush((mount,))])
    yield image.read_bytes()
    for op in ops:
        apply([op, Flush((mount,))])
        yield image.read_bytes()


@pytest.fixture
def older(device: Device) -> Device:
    """A device with the rule of an older `ota`."""
    grub.custom_cfg(device).write_text(part().replace(f"rule {RULE}", f"rule {RULE - 1}"))
    return device


@needs_root
@needs_grub_fstest
@pytest.mark.xdist_group("blocks")
@pytest.mark.parametrize("damaged", ["bootenv", "bootenv.bak"])
def test_a_power_cut_during_a_repair_leaves_grub_the_choice_that_was_left(
    device: Device, tmp_path: Path, damaged: str
) -> None:
    say("b", "-", "ab")(device)
    (device.state_directory / damaged).write_bytes(b"x" * 1024)
    left = grub.salvage(device)
    assert left is not None
    for view in after_cuts(device, grub.initialize(device, left), tmp_path):
        blocks = (view.read(f"ota/{name}") or b"" for name in ("bootenv", "bootenv.bak"))
        assert any(b"\nota_default=b\n" in block for block in blocks)


@needs_root
@needs_grub_fstest
@pytest.mark.xdist_group("blocks")
def test_a_power_cut_leaves_grub_the_older_rule_or_the_newer(
    older: Device, tmp_path: Path
) -> None:
    wanted = {grub.custom_cfg(older).read_bytes(), part().encode()}
    views = after_cuts(older, grub.integrate(older), tmp_path)
    assert {view.read("grub/custom.cfg") for view in views} == wanted


def test_an_older_rule_is_replaced_wherever_that_was_cut_off_before(older: Device) -> None:
    custom = grub.custom_cfg(older)
    older_rule, ops = custom.read_text(), grub.integrate(older)
    for number in range(len(ops)):
        custom.write_text(older_rule)
        apply(ops[:number])
        apply(grub.integrate(older))
        assert custom.read_text() == part()
        assert sorted(path.name for path in custom.parent.iterdir()) == ["custom.cfg", "grub.cfg"]


# --- GRUB itself ------------------------------------------------------------------------------


@needs_grub_emu
def test_grub_tries_the_trial_once(armed: Device, tmp_path: Path) -> None:
    line, trial_left = boot_with_grub(armed.boot, tmp_path)
    assert (
        line == "(hd0)/grub/../ota/slot-b/kernel quiet ota.slot=b ota.txn=t ota.trial=1 ota.txn=t1"
    )
    assert trial_left == "0"


def lose_both(device: Device) -> None:
    grub.environment(device).unlink()
    grub.twin(device).write_bytes(b"x" * 1024)


def lose_slot_a(device: Device) -> None:
    layout.ready_mark(device, "a").unlink()


def say(default: str, trial: str, good: str) -> Callable[[Device], None]:
    """Writes the choice given as letters (`-` for none) into both blocks."""

    def write(device: Device) -> None:
        slots: Dict[str, SlotName] = {slot: slot for slot in SLOT_NAMES}
        made = head(BootVariables(
            slots[default], slots.get(trial), tuple(s for s in SLOT_NAMES if s in good), "t"
        ))  # fmt: skip
        for path in (grub.environment(device), grub.twin(device)):
            path.write_bytes(made + path.read_bytes()[len(made) :])

    return write


def make_ready(which: str) -> Callable[[Device], None]:
    def write(device: Device) -> None:
        for slot in SLOT_NAMES:
            if slot not in which:
                layout.ready_mark(device, slot).unlink()

    return write


CHOICES = [
    pytest.param(
        [say(default, trial, good), make_ready(ready)], id=f"{default}{trial} {good} {ready}"
    )
    for default, trial, good, ready in itertools.product(
        "ab", "-ab", ("a", "b", "ab"), ("", "a", "b", "ab")
    )
]
LOSSES = [
    pytest.param([lambda d: grub.environment(d).unlink()], id="main missing"),
    pytest.param([lambda d: grub.environment(d).write_bytes(b"")], id="main empty"),
    pytest.param([lambda d: grub.environment(d).write_bytes(b"x" * 1024)], id="main rotten"),
    pytest.param([lambda d: grub.twin(d).unlink()], id="twin missing"),
    pytest.param([lose_both], id="both lost"),
    pytest.param([lose_both, lose_slot_a], id="both lost, a not ready"),
    pytest.param([lose_both, make_ready("")], id="all lost"),
    pytest.param([lambda d: layout.kernel(d, "b").unlink()], id="no kernel in b"),
    pytest.param([lambda d: layout.kernel(d, "b").write_bytes(b"")], id="empty kernel in b"),
    pytest.param([lambda d: layout.arguments(d, "b").unlink()], id="no arguments in b"),
    pytest.param([lambda d: layout.ready_mark(d, "b").write_bytes(b"")], id="empty mark in b"),
    pytest.param(
        [lose_both, lambda d: layout.good_mark(d, "a").unlink(),
         lambda d: layout.good_mark(d, "b").write_bytes(b"1")],
        id="both lost, only b good",
    ),
]
LOADED_BY_THE_OTHER = [
    pytest.param([say("b", "-", "ab"), lambda d: layout.initrd(d, "b").unlink()], id="no initrd"),
    pytest.param(
        [say("b", "-", "ab"), lambda d: layout.arguments(d, "b").write_text("setparams 'quiet")],
        id="torn arguments",
    ),
    pytest.param(
        [say("b", "-", "ab"), make_ready("a"), lambda d: layout.initrd(d, "b").unlink()],
        id="not ready either",
    ),
]
LOADED_BY_NONE = [
    pytest.param([say("b", "-", "b"), lambda d: layout.initrd(d, "b").unlink()], id="a not good"),
    pytest.param(
        [say("b", "-", "ab"), make_ready("b"), lambda d: layout.initrd(d, "b").unlink()],
        id="a not ready",
    ),
    pytest.param(
        [say("b", "-", "ab"), *(lambda d, s=s: layout.initrd(d, s).unlink() for s in SLOT_NAMES)],
        id="no initrd in either",
    ),
]  # fmt: skip


@needs_grub_emu
@pytest.mark.parametrize("spoil", [*CHOICES, *LOSSES, *LOADED_BY_THE_OTHER, *LOADED_BY_NONE])
def test_grub_and_the_simulation_choose_the_same(
    armed: Device, tmp_path: Path, spoil: List[Callable[[Device], None]]
) -> None:
    for each in spoil:
        each(armed)
    line, trial_left = boot_with_grub(armed.boot, tmp_path)
    try:
        simulated = next_boot(armed).cmdline.replace("BOOT_IMAGE=(hd0,gpt1)", "(hd0)")
    except BootRefused as refused:
        simulated = "reboot" if "reboot for ever" in refused.message else "stock"
    assert simulated == line
    if trial_left:
        assert f"ota_trial={trial_left}".encode() in grub.environment(armed).read_bytes()


@pytest.mark.parametrize("spoil", LOADED_BY_THE_OTHER)
def test_the_good_slot_boots_where_the_default_does_not_load(
    armed: Device, spoil: List[Callable[[Device], None]]
) -> None:
    for each in spoil:
        each(armed)
    boot = next_boot(armed)
    assert (boot.slot, boot.trial) == ("a", False)
    assert "slot-a/kernel quiet ota.slot=a" in boot.cmdline


@pytest.mark.parametrize("spoil", LOADED_BY_NONE)
def test_a_slot_that_is_not_known_to_work_is_not_booted_instead(
    armed: Device, spoil: List[Callable[[Device], None]]
) -> None:
    for each in spoil:
        each(armed)
    with pytest.raises(BootRefused):
        next_boot(armed)


@needs_grub_emu
def test_without_the_environment_a_trial_is_never_chosen(armed: Device, tmp_path: Path) -> None:
    grub.environment(armed).unlink()
    line, _ = boot_with_grub(armed.boot, tmp_path)
    assert "slot-a" in line
    assert "ota.trial" not in line


@needs_grub_emu
def test_grub_waits_for_nobody_and_ignores_the_stock_default(armed: Device, tmp_path: Path) -> None:
    grub_cfg = armed.boot / "grub" / "grub.cfg"
    grub_cfg.write_text(grub_cfg.read_text().replace("timeout=5", "timeout=-1"))
    line, _ = boot_with_grub(armed.boot, tmp_path)
    assert "slot-b" in line


@needs_grub_emu
def test_grub_hands_odd_arguments_on_as_they_are(device: Device, tmp_path: Path) -> None:
    odd = 'a=$root `x` ; { # * b="c d" ${pager} && |'
    apply(grub.install(device, "b", boot_files(device, "b", odd)))
    apply(grub.arm(device, grub.read(device), Checked("b", "t")))
    line, _ = boot_with_grub(device.boot, tmp_path)
    assert "kernel a=$root `x` ; { # * b=c d ${pager} && | ota.trial=1" in line
