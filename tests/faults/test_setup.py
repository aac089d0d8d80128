"""A setup that is ended or failed anywhere leaves a device that boots as before, and completes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import EIO, ENOSPC, EPERM, EROFS
from pathlib import Path
from typing import Dict, FrozenSet, List, Optional, Sequence

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.core.grubcfg import RULE, rule_of
from ota_cli.errors import BootRefused
from ota_cli.probe import probe
from tests.conftest import Images, copy_tree
from tests.faults.conftest import SHARES, SYNCS, holds, own_files, points, require_documented
from tests.support.bench import make_device, ota
from tests.support.effects import Effects, Fault, needs_compiler
from tests.support.trees import Snapshot

pytestmark = needs_compiler

SEVERAL = 4
_BLOCKS = ("bootenv", "bootenv.bak")


@dataclass(frozen=True)
class Setup:
    """A device on which `words` makes ota's boot integration whole; its undisturbed run.

    `leaves`: all files of ota's own that are there then.
    """

    device: Path
    words: Sequence[str]
    system: Snapshot
    leaves: FrozenSet[str]
    changes: Sequence[str]
    reads: Sequence[str]

    def require_boots_as_before(self, device: Path) -> None:
        """The system that runs boots next: by ota's rule, or as it did before there was one."""
        assert boots_next(copy_tree(device, device.with_name(f"{device.name}-booted"))) in (
            "a", None,
        )  # fmt: skip
        assert holds(device / "slots/a") == self.system

    def require_completion(self, device: Path) -> None:
        """The same command, run again, brings it to its end; nothing is left over."""
        done = ota(*self.words, "--root", device)
        assert done.code == 0, done.err
        assert own_files(device) == self.leaves
        assert boots_next(copy_tree(device, device.with_name(f"{device.name}-whole"))) == "a"
        status = ota("status", "--root", device, "--json").result
        assert (status["running"], status["next"]) == ("a", "a")
        assert status["slots"]["a"]["state"] == "adopted"
        assert not status["boot_problem"]
        assert ota(*self.words, "--root", device, "--json").result["changes"] == []


def boots_next(device: Path) -> Optional[str]:
    """The slot that ota's rule boots; None where GRUB boots its own first entry."""
    if not (device / "boot/grub/custom.cfg").exists():
        return None
    try:
        return next_boot(probe(device)).slot
    except BootRefused as refused:
        assert "its own first entry" in refused.message
        return None


@pytest.fixture(scope="module", params=["fresh", "older-rule", "settings-lost"])
def setup(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
    first_grub_device: Path, images: Images, library: Path,
) -> Setup:  # fmt: skip
    """A device that was never set up, one that has the rule of an older ota, or one that lost both
    its environment blocks."""
    base = tmp_path_factory.mktemp("setup")
    words = ["setup", "--repair"] if request.param == "settings-lost" else ["setup"]
    if request.param == "fresh":
        device = make_device(base / "device", [images.anchor], loader="grub")
        (device / "slots/a").rmdir()
        copy_tree(first_grub_device / "slots/a", device / "slots/a")
    elif request.param == "older-rule":
        device = with_older_rule(copy_tree(first_grub_device, base / "device"))
    else:
        device = copy_tree(first_grub_device, base / "device")
        for name in _BLOCKS:
            os.truncate(device / "boot/ota" / name, 0)
    reads = Effects(library, copy_tree(device, base / "read")).names(words, reads=True)
    whole = Effects(library, copy_tree(device, base / "whole"))
    changes = whole.names(words)
    return Setup(device, words, holds(device / "slots/a"), own_files(whole.device), changes, reads)


def with_older_rule(device: Path) -> Path:
    """`device`, as an ota has left it that had another rule."""
    custom = device / "boot/grub/custom.cfg"
    custom.write_text(custom.read_text().replace(f"rule {RULE}", f"rule {RULE - 1}"))
    return device


FAULTS: Dict[str, Fault] = {
    "killed": Fault(0), "fails": Fault(0, EIO), "full": Fault(0, ENOSPC, stays=True),
    "read-only": Fault(0, EROFS, stays=True), "unreadable": Fault(0, EIO, reads=True),
}  # fmt: skip


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("kind", FAULTS)
def test_a_setup_that_meets_a_fault_anywhere_boots_as_before_and_completes(
    kind: str, share: int, setup: Setup, library: Path, tmp_path: Path, tried: List[int]
) -> None:
    fault = FAULTS[kind]
    names = setup.reads if fault.reads else setup.changes
    for number in points(len(names), share, SEVERAL):
        effects = Effects(library, copy_tree(setup.device, tmp_path / str(number)))
        where = f"{kind} at {number} of {len(names)}, {names[number - 1]}"
        done = effects.run(setup.words, fault.at(number))
        if kind == "killed":
            assert done.code == -9, where
        else:
            require_documented(done)
            assert done.code or fault.reads or names[number - 1] not in SYNCS, where
        setup.require_boots_as_before(effects.device)
        setup.require_completion(effects.device)
        tried.append(number)


def test_a_boot_partition_without_hard_links_gets_a_newer_rule_too(
    first_grub_device: Path, library: Path, tmp_path: Path
) -> None:
    device = with_older_rule(copy_tree(first_grub_device, tmp_path / "device"))
    names = Effects(library, copy_tree(device, tmp_path / "whole")).names(["setup"])
    done = Effects(library, device).run(["setup"], Fault(names.index("linkat") + 1, EPERM))
    assert done.code == 0, done.err
    assert rule_of((device / "boot/grub/custom.cfg").read_text()) == RULE
    assert next_boot(probe(device)).slot == "a"
