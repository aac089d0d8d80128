"""What an `ota` that was ended or failed anywhere must have left, told for each verb."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    Sequence,
    Tuple,
)

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.errors import EXIT_CODES
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.promises import CHECKS
from tests.support.bench import Ran, ota
from tests.support.effects import Effects, Fault, build_library
from tests.support.trees import Snapshot, snapshot, without

SEED = os.environ.get("SEED") or "20261128"
#: `FAULTS=all` tries every effect; else so many of each verb, drawn by SEED.
EVERY = os.environ.get("FAULTS") == "all"
#: Tests that run side by side share the points of a verb.
SHARES = 4
#: A failure of these is never swallowed, but for what only tells of what was done.
SYNCS = ("fsync", "fdatasync", "syncfs")

#: Stories whose command may be given again once it is done.
REPEATABLE = ("update", "stage", "activate", "commit")

#: What belongs to the device and not to the image; what is put there changes the time of `/etc`.
_OWN = ("/etc/hostname", "/etc/fstab", "/etc/ota")


@dataclass(frozen=True)
class Story:
    """A verb, on a device that is ready for it. `words`: how it is called.

    `running`: the slot. `ends`: what boots next once it is done; `states`: of the slots, then;
    `leaves`: all files of ota's own that are there then. `changes`, `reads`: its effects, when
    nothing disturbs it.
    """

    name: str
    device: Path
    words: Tuple[object, ...]
    running: str
    ends: str
    states: Mapping[str, str]
    trees: Dict[str, Snapshot]
    leaves: FrozenSet[str]
    changes: Sequence[str]
    reads: Sequence[str]

    def on(self, place: Path, library: Path) -> Effects:
        """The same device anew, at `place`."""
        return Effects(library, copy_tree(self.device, place))

    @contextmanager
    def told(self, where: str) -> Iterator[None]:
        """What fails in the block says `where`."""
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"{self.name}, {where}: {error}") from error

    def require_truth(self, device: Path) -> Dict[str, Any]:
        """Something whole boots next, and the status says so; the status."""
        done = ota("status", "--root", device, "--json")
        assert done.code == 0, done.err
        status = done.result
        assert status["running"] == self.running
        assert status["verdict"]["code"] != "disagree", status["verdict"]
        for slot, found in status["slots"].items():
            if slot == status["next"] or found["state"] in ("staged", "armed", "good", "adopted"):
                self.require_whole(device, slot)
        return status

    def require_whole(self, device: Path, slot: str) -> None:
        """What is in `slot` is the whole image."""
        assert holds(device / "slots" / slot) == self.trees[slot]

    def require_completion(self, device: Path) -> None:
        """The same command, run again, brings it to its end; nothing is left over."""
        if self.require_truth(device)["next"] != self.ends or self.name in REPEATABLE:
            done = ota(*self.words, "--root", device)
            assert done.code == 0, done.err
        status = self.require_truth(device)
        assert (status["next"], states_of(status)) == (self.ends, self.states)
        self.require_whole(device, self.ends)
        assert own_files(device) <= self.leaves


def states_of(status: Mapping[str, Any]) -> Dict[str, str]:
    """What each slot is, by its name."""
    return {slot: found["state"] for slot, found in status["slots"].items()}


def holds(slot: Path) -> Snapshot:
    """What an image has brought there."""
    found = without(snapshot(slot, mtimes=True), *_OWN)
    found.pop("/etc")
    return found


def own_files(device: Path) -> FrozenSet[str]:
    """What ota has written besides systems: a temporary file among it would be left for ever."""
    places = (device / "boot", device / "run", device / "slots/a/.ota", device / "slots/b/.ota")
    found = (path.relative_to(device) for place in places for path in place.rglob("*"))
    return frozenset(map(str, found))


def require_documented(done: Ran) -> None:
    """It ended as it may end whatever fails."""
    assert done.code in EXIT_CODES, done
    assert done.code != 1, done.err
    assert "Traceback" not in done.err
    if done.code:
        assert done.err.count("ota: error:") == 1, done.err
        assert "hint: " in done.err, done.err


def points(total: int, share: int, several: int, shares: int = SHARES) -> Iterator[int]:
    """Which of `total` effects this one of `shares` tests is for; `several` of them all."""
    every = range(1, total + 1)
    if not EVERY and several < total:
        every = sorted(random.Random(SEED).sample(every, several))  # type: ignore[assignment]
    return iter(every[share::shares])


def each_killed(
    whole: Effects, words: Sequence[object], names: Sequence[str], numbers: Iterable[int],
    scratch: Path,
) -> Iterator[Tuple[int, Path, str]]:  # fmt: skip
    """For each of `numbers`: the device of `whole` anew, below `scratch`, after `words`, which have
    the effects `names`, were killed there; and where that was, in words."""
    for number in numbers:
        effects = replace(whole, device=copy_tree(whole.device, scratch / str(number)))
        where = f"killed at {number} of {len(names)}: {names[number - 1]}"
        done = effects.run(words, Fault(number))
        assert done.code == -9, (where, done.err)
        yield number, effects.device, where


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Iterator[List[int]]:
    """Points that were tried, to be added to by the test; the report says how many."""
    points: List[int] = []
    yield points
    record_property(CHECKS, len(points))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("effects"))


@pytest.fixture(scope="session")
def stories(
    tmp_path_factory: pytest.TempPathFactory, first_grub_device: Path, images: Images,
    server: Server, library: Path,
) -> Dict[str, Story]:  # fmt: skip
    """Each verb that changes what boots, with a device in the state before it."""
    base = tmp_path_factory.mktemp("stories")
    trees = {"a": holds(images.trees / "v1"), "b": holds(images.trees / "v2")}
    made: Dict[str, Story] = {}

    def add(name: str, before: Path, *words: object) -> Path:
        """The story; the device after it."""
        read = Effects(library, copy_tree(before, base / f"read-{name}"))
        whole = Effects(library, copy_tree(before, base / f"after-{name}"))
        running = ota("status", "--root", before, "--json").result["running"]
        reads, changes = read.names(words, reads=True), whole.names(words)
        status = ota("status", "--root", whole.device, "--json").result
        made[name] = Story(
            name, before, words, running, status["next"], states_of(status), trees,
            own_files(whole.device), changes, reads,
        )  # fmt: skip
        return whole.device

    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    updated = copy_tree(add("update", first_grub_device, "update", *at), base / "on-trial")
    staged = add("stage", first_grub_device, "update", "--stage-only", *at)
    add("activate", staged, "activate")
    next_boot(probe(updated))
    committed = add("commit", updated, "commit")
    add("rollback", committed, "rollback")
    add("switch-slot", committed, "switch-slot")
    wanted = {"update": "b", "stage": "a", "activate": "b", "commit": "b", "rollback": "a"}
    assert {name: story.ends for name, story in made.items()} == {**wanted, "switch-slot": "a"}
    return made
