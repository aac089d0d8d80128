"""The record of one whole update and commit, replayed at every write and flush.

For each state that a power cut can leave on the disk: what GRUB would read and start there is a
whole system. SEED says which sectors tear and what is reordered; it is printed.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple

import pytest

from ota_cli.model import SlotName
from tests.promises import CHECKS
from tests.support.blocks import needs_root
from tests.support.compare import differences
from tests.support.nginx import needs_nginx
from tests.support.vm.disk import Surgery, cut_out, layout
from tests.support.vm.grubview import GrubView, needs_grub_fstest
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.outcomes import SAID
from tests.support.vm.recorder import RecordedMachine, Write
from tests.support.vm.replay import BootFilesOf, Replay, Slot, replay_journal
from tests.support.vm.sample import choose, make_disk_of
from tests.support.vm.truth import require_truth, require_whole_boot_files
from tests.support.vm.verbs import confirmed, update
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [
    needs_root, needs_nginx, needs_qemu, needs_grub_fstest,
    pytest.mark.soak, pytest.mark.xdist_group("machines 0"),
]  # fmt: skip

SEED = os.environ.get("SEED") or "20261125"
#: So many states of all are booted, and as many of those where the boot partition was written.
SAMPLE = 4
BOOT, SLOT_A, SLOT_B = layout()
#: Nothing but `ota` shall write to a slot here, so the systems run from read-only roots.
READ_ONLY_FSTAB = """\
LABEL=slot-a / ext4 ro 0 1
LABEL=boot /boot ext4 defaults 0 2
tmpfs /tmp tmpfs defaults 0 0
tmpfs /var/log tmpfs defaults 0 0
"""


class Recorded(NamedTuple):
    """The disk that an update began with, and all that was written to it until the commit."""

    start: Path
    machine: RecordedMachine


@pytest.fixture(scope="module")
def recorded(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    """One whole update and commit; all systems run from read-only root file systems."""
    base = tmp_path_factory.mktemp("recorded")
    start = adopted_disk.copy(base / "start.img")
    Surgery(start, base).write(SLOT_A, "/etc/fstab", READ_ONLY_FSTAB, 0o644)
    with RecordedMachine(start, base / "machine") as machine:
        machine.boot()
        update(machine, bench.server, "v2")
        machine.reboot()
        assert confirmed(machine)["verdict"]["code"] == "confirmed"
        machine.begin("systemctl poweroff")
        machine.wait_until_off()
    yield Recorded(start, machine)
    shutil.rmtree(base)


def test_every_state_a_cut_can_leave_starts_a_whole_system(
    bench: Bench, recorded: Recorded, tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    replay = Replay(recorded.start, BOOT, slots_of(bench, tmp_path), tmp_path, SEED)

    replay.run(recorded.machine.record())

    states = sum(replay.outcomes.values())
    counts = (f"{count:8} {outcome}" for outcome, count in sorted(replay.outcomes.items()))
    said = (
        f"seed {SEED}: {states} states, {replay.boot_states} different ones of the boot "
        f"partition, {len(replay.broken)} broken"
    )
    record_property(SAID, "\n".join([said, *counts]))
    record_property(CHECKS, states)
    assert not replay.broken, [
        (b.epoch, b.kind, [p.offset for p in b.pieces], b.why) for b in replay.broken[:20]
    ]
    assert replay.outcomes.keys() == {"slot a", "slot b", "slot b on trial"}


def test_a_sample_of_these_states_boots_as_grub_was_foreseen_to(
    recorded: Recorded, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record = recorded.machine.record
    said = []
    for state in choose(record, SEED, BOOT, SAMPLE):
        disk = make_disk_of(state, recorded.start, record, SEED, tmp_path / "disk.img")
        boot = cut_out(disk, BOOT, tmp_path / "boot.img")
        foreseen = next(GrubView(boot).boots(tmp_path / "view"))
        with Machine(disk, tmp_path / "machine") as machine:
            machine.boot()
            found = require_truth(machine)
            require_whole_boot_files(machine)
        assert found["running"] == foreseen.slot, state
        said.append(f"{state}: slot {found['running']}, {found['verdict']['code']}")
        shutil.rmtree(tmp_path / "machine")
    record_property(SAID, "\n".join(said))


def test_a_disk_that_ignores_flushes_is_found_out(
    bench: Bench, recorded: Recorded, tmp_path: Path
) -> None:
    """The replay can tell: with four flushes of five left out there are broken states."""
    rng = random.Random(SEED)
    lying = (
        entry
        for entry in recorded.machine.record()
        if isinstance(entry, Write) or rng.random() < 0.2
    )
    replay = Replay(recorded.start, BOOT, slots_of(bench, tmp_path), tmp_path, SEED)
    replay.run(lying, to_first_broken=True)
    assert replay.broken


def slots_of(bench: Bench, scratch: Path) -> Mapping[SlotName, Slot]:
    """What each slot must be when it is started."""

    def untouched(image: Path) -> str:
        return "somebody wrote to slot a"

    def updated(image: Path) -> str:
        return wrong_with(image, bench.trees.new, scratch)

    return {
        "a": Slot(SLOT_A, [boot_files(bench.trees.old, "02")], untouched),
        "b": Slot(SLOT_B, [boot_files(bench.trees.new, "03")], updated),
    }


def boot_files(tree: Path, partition: str) -> BootFilesOf:
    kernel, initrd = (next((tree / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    root = f"root=PARTUUID=07a07a01-{partition}"
    return BootFilesOf(kernel.read_bytes(), initrd.read_bytes(), root)


def wrong_with(image: Path, tree: Path, scratch: Path) -> str:
    """What keeps a file system from being clean, once its journal is replayed, and `tree`."""
    copy = scratch / "replayed.img"
    return replay_journal(image, copy) or differences(tree, copy, scratch / "look")
