"""The power goes away at any moment of an update: the machine comes back and tells the truth.

CUTS says how many moments are tried (4 by default), SEED which; both are printed. The points
are taken in turn, each with a random delay behind the sign that it was reached.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import status, update_line
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [needs_root, needs_nginx, needs_qemu, pytest.mark.xdist_group("machines")]

CUTS = int(os.environ.get("CUTS") or 4)
SEED = int(os.environ.get("SEED") or 20261124)


class Point(NamedTuple):
    """A moment: `sign` on the console tells that it is near; the cut comes up to `delay_s` later.

    `on_trial`: the update is done, the machine reboots into its trial.
    """

    name: str
    sign: str
    delay_s: float
    on_trial: bool = False


POINTS = (
    Point("fill", "filling the standby slot", 6.0),
    Point("trial kernel", "Run /init as init process", 4.0, on_trial=True),
    Point("write out", "writing out and reading back", 4.0),
    Point("commit", "ota-commit.serv", 6.0, on_trial=True),
    Point("metadata", "fetching and verifying metadata", 1.5),
    Point("download", "downloading", 3.0),
    Point("carry over", "carrying over", 0.5),
    Point("just armed", "bench: update ended", 1.0),
    Point("boot loader", "Booting `ota: slot b", 1.0, on_trial=True),
    Point("trial user space", "Welcome to", 8.0, on_trial=True),
)


@pytest.mark.parametrize("number", range(CUTS))
def test_the_machine_comes_back_tells_the_truth_and_completes(
    number: int, bench: Bench, adopted_disk: PreparedDisk, armed_disk: PreparedDisk, tmp_path: Path
) -> None:
    point = POINTS[number % len(POINTS)]
    delay_s = random.Random(f"{SEED}/{number}").uniform(0, point.delay_s)
    disk = (armed_disk if point.on_trial else adopted_disk).copy(tmp_path / "disk.img")
    with Machine(disk, tmp_path / "machine") as machine:
        if point.on_trial:
            machine.switch_on()
        else:
            machine.boot()
            line = update_line(bench.server, "v2")
            machine.begin(f"{{ {line}; echo bench: update ended; }} >/dev/console 2>&1")
        machine.wait_for_console(point.sign)
        machine.run_for(delay_s)
        machine.cut()

        machine.boot()
        found = require_truth(machine)
        outcome = f"{found['running']} {found['verdict']['code']}"
        print(f"seed {SEED} cut {number}: {point.name} + {delay_s:.2f} s -> {outcome}")
        require_whole_boot_files(machine)
        require_completion(machine, bench)


def require_truth(machine: Machine) -> dict[str, object]:
    """What `ota status` says is what the machine does."""
    found = status(machine)
    words = machine.must("cat /proc/cmdline").split()
    running = next((w[-1] for w in words if w.startswith("ota.slot=")), "a")
    assert found["running"] == running
    code = found["verdict"]["code"]
    if "ota.trial=1" in words:
        assert code in ("trial", "confirmed"), found
    elif running == "b":
        assert code == "confirmed", found
    else:
        assert code in ("confirmed", "never_updated", "armed", "fell_back"), found
    return found


def require_whole_boot_files(machine: Machine) -> None:
    """No slot is marked ready whose boot files are torn."""
    machine.must(
        "for slot in a b; do cd /boot/ota/slot-$slot && "
        "if [ -s ready ]; then sha256sum --quiet --check ready || exit 1; fi; done"
    )


def require_completion(machine: Machine, bench: Bench) -> None:
    """The same command again, and a reboot, end in the new system."""
    if "ota.trial=1" in machine.must("cat /proc/cmdline"):
        machine.must("systemctl start ota-commit.service")
    ran = machine.run(update_line(bench.server, "v2"))
    assert ran.code == 0, ran.out + ran.err
    if status(machine)["running"] == "a":
        machine.reboot()
        machine.must("systemctl start ota-commit.service")
    found = status(machine)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("b", "b", "confirmed")
