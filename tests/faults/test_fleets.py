"""Two ECUs, one of them killed at any of its effects: none is left alone with a new system."""

from __future__ import annotations

import shlex
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, ContextManager, Iterator, List, Mapping, NamedTuple

import pytest

from tests.conftest import Images
from tests.faults.conftest import EVERY, SHARES, holds, points
from tests.fleet.conftest import Vehicle, vehicle_with
from tests.support.bench import Ran
from tests.support.effects import Effects, Fault, needs_compiler
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import needs_sshd
from tests.support.trees import Snapshot

pytestmark = [needs_compiler, needs_namespaces, needs_nginx, needs_sshd]

#: So many points of each, for whole vehicles take their time.
SAMPLES = 2
#: One of so many effects of an update where all are asked for, as `test_crashes` tries each on a
#: single ECU; but all of the last ones, among which is what ECUs have to agree on.
SPARSE = 6 if EVERY else 1
LAST = 80
UPDATE = ("update", "--version", "v2")


@dataclass(frozen=True)
class Pair:
    """A main ECU and a secondary. `systems`: what v1 and v2 are, by version."""

    vehicle: Vehicle
    systems: Mapping[str, Snapshot]
    library: Path

    def effects(self, name: str) -> Effects:
        return Effects(self.library, self.vehicle.fleet[name].root)

    def main(self, *words: object, env: Mapping[str, str]) -> Ran:
        """A run on the main ECU, whose effects are counted."""
        counting = self.effects("main").counting(env)
        return self.vehicle.fleet["main"].ota(*words, env=counting, library=self.library)

    def count_in_answers(self, verb: str, variables: Mapping[str, str], until: Path) -> None:
        """The secondary counts the effects of its next answers to `verb`, `until` is there."""
        env = self.effects("p1").preloaded(variables)
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
        self.vehicle.fleet["p1"].before_request(verb, f"[ -e {until} ] || export {words}")

    def wait_for_silence(self) -> None:
        """Until what was asked of the secondary has ended."""
        end_s = time.monotonic() + 30
        while self.vehicle.fleet["p1"].gates():
            assert time.monotonic() < end_s, "work goes on although nobody waits for it"
            time.sleep(0.05)

    def require_whole(self) -> None:
        """What each ECU would boot is whole, and none of them disagrees with itself."""
        for name in self.vehicle.fleet.ecus:
            status = self.vehicle.status(name)
            assert status["verdict"]["code"] != "disagree", (name, status["verdict"])
            slot, version = status["next"], status["slots"][status["next"]]["version"]
            root = self.vehicle.fleet[name].root
            assert holds(root / "slots" / slot) == self.systems[version], name

    def require_together(self) -> None:
        """A reboot of all confirms the new system on both, or brings both back to the old one."""
        self.vehicle.reboot("p1", "main")
        done = self.vehicle.fleet["p1"].ota("commit")
        assert done.code in (0, 18), done.err
        self.vehicle.fleet["main"].ota("commit")
        if self.vehicle.confirmed() != {"p1", "main"}:
            self.vehicle.reboot("p1", "main")
        assert len(set(self.vehicle.running().values())) == 1, self.vehicle.running()

    def require_completion(self) -> None:
        """The same update, run again, brings both to v2, confirmed."""
        if set(self.vehicle.running().values()) == {"v1"}:
            done = self.vehicle.fleet["main"].ota(*UPDATE)
            assert done.code == 0, done.err
            self.vehicle.bring_on_trial()
        self.require_confirmed()

    def require_confirmed(self) -> None:
        done = self.vehicle.fleet["main"].ota("commit")
        assert done.code == 0, done.err
        assert self.vehicle.running() == {"p1": "v2", "main": "v2"}
        assert self.vehicle.confirmed() == {"p1", "main"}


Make = Callable[[Path], ContextManager[Pair]]


@pytest.fixture(scope="module")
def pair(first_directory_device: Path, images: Images, library: Path) -> Make:
    """Makes two ECUs that run v1, at a place that is not there yet, for a `with` block."""
    systems = {version: holds(images.trees / version) for version in ("v1", "v2")}

    @contextmanager
    def made(base: Path) -> Iterator[Pair]:
        base.mkdir()
        with vehicle_with(base, first_directory_device, images, {"main": ("p1",)}) as vehicle:
            yield Pair(vehicle, systems, library)

    return made


class Counts(NamedTuple):
    """How many effects there are when nothing disturbs: of an update on either, of the commit."""

    update: int
    answer: int
    commit: int


@pytest.fixture(scope="module")
def counts(pair: Make, tmp_path_factory: pytest.TempPathFactory) -> Counts:
    logs = [tmp_path_factory.mktemp("counts") / name for name in ("update", "answer", "commit")]
    with pair(logs[0].with_name("pair")) as both:
        both.count_in_answers("update", {"EFFECTS_LOG": str(logs[1])}, until=logs[1])
        assert both.main(*UPDATE, env={"EFFECTS_LOG": str(logs[0])}).code == 0
        both.vehicle.bring_on_trial()
        assert both.main("commit", env={"EFFECTS_LOG": str(logs[2])}).code == 0
        both.require_confirmed()
    return Counts(*(len(log.read_text().split()) for log in logs))


def sparse_points(total: int, share: int) -> Iterator[int]:
    """Which effects of an update the one of `SHARES` tests is for."""
    for place, number in enumerate(points(total, share, SAMPLES)):
        if place % SPARSE == 0 or number > total - LAST:
            yield number


@pytest.mark.parametrize("share", range(SHARES))
def test_the_main_ecu_may_be_killed_anywhere_in_an_update(
    share: int, pair: Make, counts: Counts, tmp_path: Path, tried: List[int]
) -> None:
    for number in sparse_points(counts.update, share):
        met = tmp_path / f"{number}.met"
        with pair(tmp_path / str(number)) as both:
            fault = Fault(number).telling(met)
            done = both.main(*UPDATE, env=fault)
            if not met.exists():  # downloads and leftovers of killed ones take some more
                assert done.code == 0, done.err
                continue
            assert done.code == -signal.SIGKILL, done.err
            both.wait_for_silence()
            both.require_whole()
            both.require_together()
            both.require_completion()
        tried.append(number)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_secondary_may_be_killed_anywhere_in_an_update(
    share: int, pair: Make, counts: Counts, tmp_path: Path, tried: List[int]
) -> None:
    for number in sparse_points(counts.answer, share):
        met = tmp_path / f"{number}.met"
        with pair(tmp_path / str(number)) as both:
            fault = Fault(number).telling(met)
            both.count_in_answers("update", fault, until=met)
            done = both.vehicle.fleet["main"].ota(*UPDATE)
            if not met.exists():
                assert done.code == 0, done.err
                continue
            assert done.code in (0, 16, 17), done.err  # 0: killed when it had said all
            both.require_whole()
            both.require_together()
            both.require_completion()
        tried.append(number)


@pytest.mark.parametrize("share", range(SHARES))
def test_the_main_ecu_may_be_killed_anywhere_in_the_commit_of_all(
    share: int, pair: Make, counts: Counts, tmp_path: Path, tried: List[int]
) -> None:
    for number in points(counts.commit, share, SAMPLES):
        met = tmp_path / f"{number}.met"
        with pair(tmp_path / str(number)) as both:
            assert both.vehicle.fleet["main"].ota(*UPDATE).code == 0
            both.vehicle.bring_on_trial()
            fault = Fault(number).telling(met)
            done = both.main("commit", env=fault)
            if not met.exists():
                assert done.code == 0, done.err
                continue
            assert done.code == -signal.SIGKILL, done.err
            both.wait_for_silence()
            both.require_whole()
            both.require_confirmed()
        tried.append(number)
