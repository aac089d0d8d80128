"""An update of a slot that is mounted, ended anywhere, in its tools too: nothing stays mounted."""

from __future__ import annotations

import random
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.host.run import clean_environment
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.faults.conftest import EVERY, SEED, each_killed, own_files, points
from tests.faults.test_signals import CODES, ended
from tests.support.bench import ota, provision
from tests.support.blocks import block_device, disk_image, left_behind, needs_root, tree_of
from tests.support.effects import Effects, needs_compiler
from tests.support.trees import Snapshot

pytestmark = [needs_root, needs_compiler, pytest.mark.xdist_group("blocks")]

SAMPLES = 2
#: One of so many effects where all are asked for: `test_crashes` tries each on directories.
SPARSE = 6 if EVERY else 1
SIGNALS = 50 if EVERY else 1
#: Where an update has its slots mounted.
MOUNTS = Path("/run/ota")
#: What it runs to check, make and mount a file system.
TOOLS = ("blkid", "dumpe2fs", "e2fsck", "losetup", "mkfs.ext4", "mount", "umount")
TOOL = """\
#!/bin/sh
echo {name} >>{log}
[ "$(wc -l <{log})" = {number} ] || exec {real} "$@"
{script}
"""
#: How a tool ends its parent: then it goes on alone, or it is the first to end.
SCRIPTS = {
    "before": 'kill -{sent:d} $PPID; exec {real} "$@"',
    "after": '{real} "$@"; code=$?; kill -{sent:d} $PPID; exit $code',
}
ENDINGS = [(sent, when) for sent in (signal.SIGKILL, signal.SIGTERM) for when in SCRIPTS]


@dataclass(frozen=True)
class Blocks:
    """A device that runs v1 in slot a; `words` bring v2 into slot b.

    Undisturbed they have the effects `names`, run `tools`, and take `whole_s`; then `leaves` are
    all files of ota's own, and `trees` what the slots hold.
    """

    device: Path
    words: Tuple[object, ...]
    names: Sequence[str]
    tools: Sequence[str]
    whole_s: float
    leaves: frozenset[str]
    trees: Dict[str, Snapshot]

    def require_end(self, device: Path, scratch: Path, where: str) -> None:
        """Nothing is left behind, what boots is whole, and the same command completes."""
        assert left_behind(device) == ("", []), where
        self.require_truth(device, scratch, where)
        again = ota(*self.words, "--root", device)
        assert again.code == 0, (where, again.err)
        assert self.require_truth(device, scratch, where) == "b", where
        assert self.holds(device, "b", scratch), where
        assert next_boot(probe(device)).slot == "b", where
        assert own_files(device) == self.leaves, where
        assert left_behind(device) == ("", []), where

    def require_truth(self, device: Path, scratch: Path, where: str) -> str:
        """The slot that boots next; each that could is whole."""
        status = ota("status", "--root", device, "--json").result
        assert status["running"] == "a", where
        assert status["verdict"]["code"] != "disagree", (where, status["verdict"])
        for slot, found in status["slots"].items():
            if slot == status["next"] or found["state"] in ("staged", "armed", "good", "adopted"):
                assert self.holds(device, slot, scratch), (where, slot, found["state"])
        return str(status["next"])

    def holds(self, device: Path, slot: str, scratch: Path) -> bool:
        """Whether the whole image is in `slot`."""
        return tree_of(device / f"{slot}.img", scratch) == self.trees[slot]


@pytest.fixture(scope="module", params=["filled", "formatted"])
def blocks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, images: Images,
    server: Server, library: Path,
) -> Blocks:  # fmt: skip
    """The standby slot has an empty file system, or none."""
    base = tmp_path_factory.mktemp("blocks")
    device = block_device(base / "device", images)
    provision(device, device / "a.img", server)
    if request.param == "formatted":
        (device / "b.img").unlink()
        disk_image(device / "b.img", "64M", formatted=False)
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    words = ("update", *at)
    whole = Effects(library, copy_tree(device, base / "after"), (MOUNTS,))
    begun = time.monotonic()
    with watched_tools(base / "tools", 0, *ENDINGS[0]) as log:
        names = whole.names(words)
    whole_s = time.monotonic() - begun
    trees = {slot: tree_of(whole.device / f"{slot}.img", base) for slot in ("a", "b")}
    leaves, tools = own_files(whole.device), log.read_text().split()
    return Blocks(device, words, names, tools, whole_s, leaves, trees)


@contextmanager
def watched_tools(directory: Path, number: int, sent: int, when: str) -> Iterator[Path]:
    """Programs in `directory` stand before the real ones; the one that is the `number`th to begin
    ends the `ota` that has begun it. The file with the names of those that have begun."""
    directory.mkdir()
    log = directory / "log"
    for name in TOOLS:
        real = shutil.which(name, path=clean_environment()["PATH"])
        assert real is not None, name
        script = SCRIPTS[when].format(sent=sent, real=real)
        tool = directory / name
        tool.write_text(TOOL.format(name=name, log=log, number=number, real=real, script=script))
        tool.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(directory), prepend=":")
        yield log


def test_an_update_of_a_mounted_slot_may_be_killed_at_any_effect(
    blocks: Blocks, library: Path, tmp_path: Path, tried: List[int]
) -> None:
    every = points(len(blocks.names), 0, SAMPLES, shares=1)
    whole, numbers = Effects(library, blocks.device, (MOUNTS,)), islice(every, None, None, SPARSE)
    for number, device, where in each_killed(whole, blocks.words, blocks.names, numbers, tmp_path):
        blocks.require_end(device, tmp_path, where)
        shutil.rmtree(device)
        tried.append(number)


def test_an_update_may_be_ended_by_a_signal_while_a_tool_works_on_its_slot(
    blocks: Blocks, tmp_path: Path, tried: List[int]
) -> None:
    every = [(number, *how) for number in range(1, len(blocks.tools) + 1) for how in ENDINGS]
    for point in points(len(every), 0, 1, shares=1):
        number, sent, when = every[point - 1]
        device = copy_tree(blocks.device, tmp_path / str(point))
        where = f"signal {sent} {when} tool {number} of {blocks.tools}"
        with watched_tools(tmp_path / f"tools-{point}", number, sent, when) as log:
            assert ota(*blocks.words, "--root", device).code == CODES[sent], where
        assert log.read_text().split()[:number] == blocks.tools[:number], where
        blocks.require_end(device, tmp_path, where)
        shutil.rmtree(device)
        tried.append(point)


def test_an_update_of_a_mounted_slot_may_be_ended_by_a_signal_at_any_moment(
    blocks: Blocks, tmp_path: Path, tried: List[int]
) -> None:
    for number in range(SIGNALS):
        drawn = random.Random(f"{SEED}/{number}")
        delay_s, sent = drawn.uniform(0, blocks.whole_s), drawn.choice(sorted(CODES))
        device = copy_tree(blocks.device, tmp_path / str(number))
        where = f"signal {sent} after {delay_s:.3f} of {blocks.whole_s:.3f} s"
        assert ended(blocks.words, device, delay_s, sent) in (CODES[sent], -sent, 0), where
        blocks.require_end(device, tmp_path, where)
        shutil.rmtree(device)
        tried.append(number)
