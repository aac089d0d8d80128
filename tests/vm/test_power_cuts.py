"""The power goes away at any moment of an update: the machine comes back and tells the truth.

CUTS says how many moments are tried (3 by default), SEED which. The points are taken in turn,
each with a random delay behind the sign that it was reached. COMPLETE=all brings every update to
its end afterwards, otherwise two in five. With OUTCOMES, a directory, a run goes on where the
last one with the same seed and the same program ended.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.outcomes import PROPERTY, CutOutcome, OutcomeFile
from tests.support.vm.truth import require_completion, require_truth, require_whole_boot_files
from tests.support.vm.verbs import update_line
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [needs_root, needs_nginx, needs_qemu]

CUTS = int(os.environ.get("CUTS") or 3)
SEED = os.environ.get("SEED") or "20261124"
COMPLETE_ALL = os.environ.get("COMPLETE") == "all"
OUTCOMES = os.environ.get("OUTCOMES")


class Point(NamedTuple):
    """A moment: `sign` on the console tells that it is near; the cut comes up to `delay_s` later.

    `start`: what the machine begins with: `empty`, slot b holds nothing; `filled`, it holds v2
    whole but not armed, so that an update soon comes to its end; `armed`, it is tried next.
    """

    name: str
    sign: str
    delay_s: float
    start: str


POINTS = (
    Point("fill", "filling the standby slot", 20.0, "empty"),
    Point("trial kernel", "Run /init as init process", 4.0, "armed"),
    Point("write out", "writing out and reading back", 4.0, "filled"),
    Point("commit", "ota-commit.serv", 6.0, "armed"),
    Point("kernel copy", "copying kernel and initrd", 2.0, "filled"),
    Point("arming", "arming slot b", 0.5, "filled"),
    Point("boot loader", "Booting `ota: slot b", 1.0, "armed"),
    Point("metadata", "fetching and verifying metadata", 4.0, "filled"),
    Point("download", "downloading", 10.0, "empty"),
    Point("trial user space", "Welcome to", 8.0, "armed"),
    Point("carry over", "carrying over", 0.5, "filled"),
    Point("just armed", "bench: update ended", 1.0, "filled"),
)


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=pytest.mark.xdist_group(f"machines {n % 2}")) for n in range(CUTS)],
)
def test_the_machine_comes_back_tells_the_truth_and_completes(
    number: int, bench: Bench, adopted_disk: PreparedDisk, filled_disk: PreparedDisk,
    armed_disk: PreparedDisk, tmp_path: Path, record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    known = OutcomeFile(Path(OUTCOMES), SEED) if OUTCOMES else None
    earlier = known.find(number) if known else None
    if earlier is not None:
        record_property(PROPERTY, json.dumps(earlier._asdict()))
        pytest.skip("this cut was made by an earlier run")
    point = POINTS[number % len(POINTS)]
    delay_s = round(random.Random(f"{SEED}/{number}").uniform(0, point.delay_s), 2)
    outcome = CutOutcome(SEED, number, point.name, delay_s)
    starts = {"empty": adopted_disk, "filled": filled_disk, "armed": armed_disk}
    disk = starts[point.start].copy(tmp_path / "disk.img")
    try:
        with Machine(disk, tmp_path / "machine") as machine:
            cut_at(machine, point, delay_s, bench)
            machine.boot()
            outcome = outcome._replace(bootable=True)
            found = require_truth(machine)
            require_whole_boot_files(machine)
            came_up = f"slot {found['running']}, {found['verdict']['code']}"
            outcome = outcome._replace(truthful=True, came_up=came_up)
            if COMPLETE_ALL or number % 5 in (1, 3):
                outcome = outcome._replace(completed=False)
                require_completion(machine, bench.server)
                outcome = outcome._replace(completed=True)
        if known:
            known.add(outcome)
    finally:
        disk.unlink()
        record_property(PROPERTY, json.dumps(outcome._asdict()))


def cut_at(machine: Machine, point: Point, delay_s: float, bench: Bench) -> None:
    """Brings the machine to `point` of an update or a trial, and cuts its power behind that."""
    if point.start == "armed":
        machine.switch_on()
    else:
        machine.boot()
        line = update_line(bench.server, "v2")
        machine.begin(f"{{ {line}; echo bench: update ended; }} >/dev/console 2>&1")
    machine.wait_for_console(point.sign)
    machine.run_for(delay_s)
    machine.cut()
