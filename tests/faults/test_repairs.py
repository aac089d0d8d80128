"""A repair that is killed at any effect: the running system boots, and a second run ends it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import pytest

from ota_cli.boot.base import backend_for
from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.faults.conftest import EVERY, SEED, SHARES, each_killed, holds, own_files, points
from tests.support.bench import ota
from tests.support.effects import Effects, Fault, needs_compiler
from tests.support.trees import Snapshot

pytestmark = needs_compiler

SAMPLES = 12
#: A repair that goes on has more effects than this, whatever was done already.
SURE = 30


class Broken(NamedTuple):
    """A device that runs v2 in slot b; slot a, known to be good, differs from its image v1.

    `words`: what repairs it, with the effects `names`. `leaves`: all files of ota's own then.
    `before`, `tree`: what slot a holds, and what it should.
    """

    device: Path
    words: Tuple[object, ...]
    names: Sequence[str]
    leaves: frozenset[str]
    before: Snapshot
    tree: Snapshot


@pytest.fixture(scope="module")
def broken(
    tmp_path_factory: pytest.TempPathFactory, first_grub_device: Path, images: Images,
    server: Server, library: Path,
) -> Broken:  # fmt: skip
    base = tmp_path_factory.mktemp("broken")
    device = copy_tree(first_grub_device, base / "device")
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", "--root", device, *at, "--no-self-confirm").code == 0
    assert next_boot(probe(device)).slot == "b"
    assert ota("commit", "--root", device).code == 0
    slot = device / "slots/a"
    [kernel] = (slot / "boot").glob("vmlinuz-*")
    kernel.write_bytes(b"rotten")
    shutil.rmtree(slot / "usr/bin")
    (slot / "usr/more/deep").mkdir(parents=True)
    words = ("verify", "--repair", "--version", f"{server.url}v1/", "--cacert", server.cacert)
    whole = Effects(library, copy_tree(device, base / "after"))
    names, tree = whole.names(words), holds(images.trees / "v1")
    return Broken(device, words, names, own_files(whole.device), holds(slot), tree)


def require_safe(device: Path, broken: Broken) -> bool:
    """The running system boots next, and slot a is no choice from its first changed byte until
    it is whole.

    True where the repair has begun.
    """
    facts = probe(device)
    status = ota("status", "--root", device, "--json").result
    assert (status["running"], status["next"]) == ("b", "b")
    assert status["verdict"]["code"] == "confirmed", status["verdict"]
    has_begun: bool = status["last_update"]["kind"] == "repair"
    known = backend_for(facts).read(facts).slots["a"]
    if known.good or status["slots"]["a"]["state"] == "adopted":
        assert holds(device / "slots/a") in (broken.before, broken.tree)
    assert next_boot(facts).slot == "b"
    return has_begun


@pytest.mark.parametrize("share", range(SHARES))
def test_a_repair_that_is_killed_at_any_effect_goes_on_and_the_slot_is_good(
    share: int, broken: Broken, library: Path, tmp_path: Path, tried: List[int]
) -> None:
    whole, numbers = Effects(library, broken.device), points(len(broken.names), share, SAMPLES)
    for number, device, where in each_killed(whole, broken.words, broken.names, numbers, tmp_path):
        has_begun = require_safe(device, broken)
        require_end(device, broken, where, has_begun=has_begun)
        tried.append(number)


def test_a_repair_that_is_killed_again_while_it_goes_on_ends_the_same(
    broken: Broken, library: Path, tmp_path: Path, tried: List[int]
) -> None:
    drawn = random.Random(SEED)
    for attempt in range(len(broken.names) if EVERY else 2):
        effects = Effects(library, copy_tree(broken.device, tmp_path / str(attempt)))
        number = drawn.randint(1, len(broken.names) - SURE)
        then = drawn.randint(1, SURE)
        for each in (number, then):
            done = effects.run(broken.words, Fault(each))
            assert done.code == -9, (number, then, done.err)
            require_safe(effects.device, broken)
        require_end(effects.device, broken, f"killed at {number}, then at {then}", has_begun=True)
        tried.append(attempt)


def require_end(device: Path, broken: Broken, where: str, *, has_begun: bool) -> None:
    """Run again, the repair ends with a slot that is whole and known to be good."""
    again = ota(*broken.words, "--root", device, "--json")
    assert again.code == 0, (where, again.out)
    assert has_begun or again.result["repaired"], where
    require_safe(device, broken)
    facts = probe(device)
    assert backend_for(facts).read(facts).slots["a"].good, where
    assert ota("status", "--root", device, "--json").result["slots"]["a"]["state"] == "adopted"
    assert holds(device / "slots/a") == broken.tree, where
    assert own_files(device) == broken.leaves, where
    lines = (device / "boot/ota/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["committed", "repaired"], where
