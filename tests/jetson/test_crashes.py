"""Killed at any effect, also between two calls of nvbootctrl: it boots, tells the truth, ends."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from tests.jetson.conftest import Bench
from tests.support.bench import Ran, ota
from tests.support.effects import Effects, Fault, build_library, needs_compiler
from tests.support.jetson import Jetson

SEED = os.environ.get("SEED") or "20261129"
#: `FAULTS=all` tries every effect; else so many of each verb.
EVERY = os.environ.get("FAULTS") == "all"
SAMPLES = {"update": 5, "commit": 4, "rollback": 3}
CHANGES = "set-active-boot-slot set-slot-as-unbootable mark-boot-successful"
#: The slot that boots once a verb is done, and whether that is a trial.
ENDS = {"update": ("b", True), "commit": ("b", False), "rollback": ("a", True)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("effects"))


@pytest.fixture(params=sorted(SAMPLES))
def verb(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def before(jetson: Jetson, bench: Bench, verb: str) -> Tuple[Jetson, Tuple[str, ...]]:
    """A device that is ready for `verb`, and how that is called."""
    if verb == "update":
        return jetson, bench.words(jetson)
    assert bench.update(jetson).code == 0
    assert jetson.boot().slot == "b"
    if verb == "rollback":
        assert ota("commit", "--root", jetson.root).code == 0
    return jetson, (verb,)


def require_completion(jetson: Jetson, verb: str, words: Tuple[str, ...], where: str) -> None:
    """Something whole boots, the status tells the truth, and the same command ends the work."""
    other = jetson.copied(jetson.root.with_name(f"{jetson.root.name}-booted"))
    env = {"PATH": jetson.path}
    said = require_truth(ota("status", "--root", jetson.root, "--json", env=env), where)
    boot = other.boot()
    assert boot.slot == said["next"], where
    assert said["running"] == ("a" if verb == "update" else "b"), where
    if boot.slot == "b" and verb == "update":
        assert boot.trial, f"{where}: what nobody confirmed is on trial"
    require_truth(ota("status", "--root", other.root, "--json", env={"PATH": other.path}), where)
    if said["next"] != ENDS[verb][0] or verb == "commit":
        done = ota(*words, "--root", jetson.root, env=env)
        assert done.code == 0, f"{where}: {done.err}"
    again = jetson.boot()
    assert (again.slot, again.trial) == ENDS[verb], where
    if again.trial:
        assert ota("commit", "--root", jetson.root, env=env).code == 0, where
    assert jetson.boot().slot == ENDS[verb][0], where


def require_truth(status: Ran, where: str) -> Dict[str, object]:
    assert status.code == 0, f"{where}: {status.err}"
    found: Dict[str, object] = status.result
    verdict = found["verdict"]
    assert isinstance(verdict, dict)
    assert verdict["code"] != "disagree", f"{where}: {verdict}"
    return found


@needs_compiler
@pytest.mark.parametrize("jetson", ["xavier-nvme"], indirect=True)  # it has the most effects
def test_a_verb_that_is_killed_at_any_effect_is_completed_by_the_next(
    before: Tuple[Jetson, Tuple[str, ...]], verb: str, library: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jetson, words = before
    whole = jetson.copied(tmp_path / "whole").use(monkeypatch)
    names = Effects(library, whole.root).names(words)
    for number in points(len(names), SAMPLES[verb]):
        again = jetson.copied(tmp_path / str(number)).use(monkeypatch)
        done = Effects(library, again.root).run(words, Fault(number))
        assert done.code == -9, done.err
        where = f"{verb} killed at effect {number} of {len(names)}, before {names[number - 1]}"
        require_completion(again, verb, words, where)


@needs_compiler
def test_an_update_for_which_there_is_no_room_at_its_end_arms_nothing(
    emmc: Jetson, bench: Bench, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last writes are those of the switch: the mark, and the settings around CBoot's own."""
    words = bench.words(emmc)
    names = Effects(library, emmc.copied(tmp_path / "whole").use(monkeypatch).root).names(words)
    writes = [number for number, name in enumerate(names, 1) if "write" in name]
    for number in writes[-3:]:
        again = emmc.copied(tmp_path / str(number)).use(monkeypatch)
        done = Effects(library, again.root).run(words, Fault(number, errno.ENOSPC))
        assert done.code == 13, done.err
        env = {"PATH": again.path}
        said = require_truth(ota("status", "--root", again.root, "--json", env=env), str(number))
        assert said["next"] == "a", number
        assert not (again.slot("b") / ".ota/trial").exists(), number
        assert again.boot().slot == "a", number
        assert ota("activate", "--root", again.root, env=env).code == 0, number
        assert again.boot().trial, number


def points(total: int, several: int) -> Iterator[int]:
    every = list(range(1, total + 1))
    if not EVERY and several < total:
        every = sorted(random.Random(SEED).sample(every, several))
    return iter(every)


def test_a_verb_that_is_killed_around_any_call_of_nvbootctrl_is_completed_by_the_next(
    before: Tuple[Jetson, Tuple[str, ...]], verb: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jetson, words = before
    tried: List[str] = []
    for when in ("kill-before", "kill-after"):
        for at in range(1, 20):
            again = jetson.copied(tmp_path / f"{when}-{at}").use(monkeypatch)
            again.fault(CHANGES, when, at=at)
            done = ota(*words, "--root", again.root)
            if done.code == 0:
                break
            assert done.code == -9, done.err
            again.mend()
            where = f"{verb} of {jetson.layout}, {when} of change {at}"
            require_completion(again, verb, words, where)
            tried.append(where)
    assert len(tried) >= 2


