"""An update that finds its image untouched, killed at any effect: it still is, and is armed."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.faults.conftest import SHARES, each_killed, own_files, points
from tests.support.bench import ota, provision
from tests.support.blocks import block_device, left_behind, needs_root, tree_of
from tests.support.effects import Effects, needs_compiler
from tests.support.trees import Snapshot

pytestmark = [needs_root, needs_compiler, pytest.mark.xdist_group("blocks")]

SAMPLES = 8


class Staged(NamedTuple):
    """A device that trusts inodes, runs v1 in slot a, and has v2 in slot b, which is not armed.

    `words`: what arms it, with the effects `names`. `tree`: what slot b holds.
    """

    device: Path
    words: Tuple[object, ...]
    names: Sequence[str]
    leaves: frozenset[str]
    tree: Snapshot


@pytest.fixture(scope="module")
def staged(
    tmp_path_factory: pytest.TempPathFactory, images: Images, server: Server, library: Path
) -> Staged:
    base = tmp_path_factory.mktemp("staged")
    device = block_device(base / "device", images, "verify_local: stat\n")
    provision(device, device / "a.img", server)
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    words = ("update", *at, "--json")
    assert ota(*words, "--stage-only", "--root", device).code == 0
    whole = Effects(library, copy_tree(device, base / "after"))
    names = whole.names(words)
    return Staged(device, words, names, own_files(whole.device), tree_of(device / "b.img", base))


@pytest.mark.parametrize("share", range(SHARES))
def test_an_update_that_fills_nothing_may_be_killed_at_any_effect(
    share: int, staged: Staged, library: Path, tmp_path: Path, tried: List[int]
) -> None:
    whole, numbers = Effects(library, staged.device), points(len(staged.names), share, SAMPLES)
    for number, device, where in each_killed(whole, staged.words, staged.names, numbers, tmp_path):
        status = ota("status", "--root", device, "--json").result
        assert status["running"] == "a", where
        assert status["verdict"]["code"] != "disagree", (where, status["verdict"])
        assert tree_of(device / "b.img", tmp_path) == staged.tree, where
        require_end(device, staged, where)
        tried.append(number)


def require_end(device: Path, staged: Staged, where: str) -> None:
    """Run again, the update arms what is there, and fetches none of it."""
    again = ota(*staged.words, "--root", device)
    assert again.code == 0, (where, again.out)
    assert again.result["files"]["kept"] == again.result["files"]["total"], where
    assert again.result["bytes"]["downloaded"] == 0, where
    assert tree_of(device / "b.img", device.parent) == staged.tree, where
    assert next_boot(probe(device)).slot == "b", where
    assert own_files(device) == staged.leaves, where
    assert left_behind(device) == ("", []), where
