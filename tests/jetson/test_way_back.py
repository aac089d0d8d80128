"""The way back to the system that works is open whatever else fails: a full disk, a cut, a lie."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from ota_cli.core.systemd import ONCE_UNIT, units
from tests.jetson.conftest import Bench
from tests.jetson.test_story import done, run, status, verdict
from tests.support.blocks import full, needs_root
from tests.support.boot import files_below
from tests.support.effects import Effects, Fault, build_library, needs_compiler
from tests.support.jetson import Jetson
from tests.support.units import limited

ROLLBACK = ("rollback",)


@contextmanager
def no_room(jetson: Jetson) -> Iterator[None]:
    """The partition that both slots share is full."""
    with full(jetson.root / "boot"):  # where `/boot/ota` is mounted is recorded
        yield


@needs_root
def test_what_is_armed_is_taken_back_where_there_is_no_room_to_note_it(
    emmc: Jetson, bench: Bench
) -> None:
    done(bench.update(emmc))
    with no_room(emmc):
        ran = done(run(emmc, "rollback"))
        assert "not on record" in ran.err
        found = status(emmc)
        assert (found["next"], found["slots"]["b"]["state"]) == ("a", "staged")
        assert not (emmc.slot("b") / ".ota/trial").exists()
        assert emmc.boot().slot == "a"
        assert status(emmc)["slots"]["b"]["state"] == "staged", "nothing was tried"
    done(run(emmc, "activate"))
    assert emmc.boot().slot == "b"


@needs_root
def test_a_trial_is_rejected_where_there_is_no_room_to_note_it(
    emmc: Jetson, bench: Bench
) -> None:
    """Its way back could not be prepared: CBoot would try it again."""
    done(bench.update(emmc))
    emmc.boot(once_fails=True)
    with no_room(emmc):
        assert status(emmc)["next"] == "b"
        ran = done(run(emmc, "rollback"))
        assert "not on record" in ran.err
        assert status(emmc)["next"] == "a"
        assert emmc.boot().slot == "a"
        assert verdict(emmc) == "fell_back"


@needs_root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_the_unit_that_prepares_the_way_back_does_with_the_capabilities_it_is_left(
    emmc: Jetson, bench: Bench
) -> None:
    """Also where the mark and what /run holds of an earlier boot are another user's."""
    done(bench.update(emmc))
    emmc.boot(once_fails=True)
    for path in (emmc.slot("b") / ".ota", emmc.slot("b") / ".ota/trial"):
        os.chown(path, 65534, 65534)
    (emmc.root / "run/ota-trial").touch(0o400)
    os.chown(emmc.root / "run/ota-trial", 65534, 65534)
    assert emmc.once("b", limited(ONCE_UNIT, units())) == 0
    assert emmc.changes()[-1] == "rootfs set-active-boot-slot 0"
    mark = (emmc.slot("b") / ".ota/trial").read_text()
    assert (emmc.root / "run/ota-trial").read_text().split() == mark.split()


def test_an_armed_slot_whose_settings_can_not_be_written_is_not_tried_all_the_same(
    emmc: Jetson, bench: Bench
) -> None:
    """What CBoot itself is told needs no disk."""
    done(bench.update(emmc))
    settings = emmc.root / "boot/ota/cboot"
    before = settings.read_bytes()
    (emmc.root / "boot/ota/cboot.ota-new").mkdir()  # what no rename replaces it with
    settings.write_bytes(before.strip() + b"\n")
    ran = run(emmc, "rollback")
    assert ran.code == 15, ran.err
    assert "cboot" in ran.err
    assert status(emmc)["next"] == "a"
    assert emmc.boot().slot == "a"


def test_what_fails_in_run_is_told_with_what_helps_there_and_the_commit_is_written_down(
    emmc: Jetson, bench: Bench
) -> None:
    done(bench.update(emmc))
    emmc.boot()
    mark = emmc.root / "run/ota-trial"
    mark.unlink()
    mark.mkdir()  # what unlink(2) refuses
    settings = (emmc.root / "boot/ota/cboot").read_text()
    ran = run(emmc, "commit")
    assert ran.code == 15, ran.err
    assert f"is the file system of {emmc.root}/run mounted" in ran.err
    assert "/boot" not in ran.err
    assert '"default": "a"' in settings
    assert '"default": "b"' in (emmc.root / "boot/ota/cboot").read_text()
    mark.rmdir()
    done(run(emmc, "commit"))
    assert verdict(emmc) == "confirmed"


def test_a_commit_in_the_instant_of_the_deadline_is_done_or_not_but_never_called_done_and_undone(
    jetson: Jetson, bench: Bench, tmp_path: Path
) -> None:
    """It comes when the unit has seen the mark, and before it tells CBoot the way back."""
    done(bench.update(jetson))
    jetson.boot()
    programs, out = tmp_path / "programs", tmp_path / "out"
    programs.mkdir()
    commit = f"{sys.executable} -m ota_cli commit --root {jetson.root}"
    in_between = (
        f"rm $0; PATH={jetson.path} {commit} >{out} 2>&1 9<&- & echo $! >{tmp_path}/pid\n"
        f"for n in 1 2 3 4 5 6; do kill -0 $! 2>/dev/null && /bin/sleep 0.5; done\n"
        f'exec {jetson.programs}/nvbootctrl "$@"'
    )
    reboot = f"kill -KILL $(cat {tmp_path}/pid) 2>/dev/null"
    for name, script in (("nvbootctrl", in_between), ("sleep", ""), ("systemctl", reboot)):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    jetson.deadline_passes("b", programs)
    called_done = "is confirmed" in out.read_text()
    assert (jetson.boot().slot == "b") == called_done, out.read_text()
    assert verdict(jetson) == ("confirmed" if called_done else "fell_back")


@needs_compiler
def test_a_system_that_cboot_has_left_is_not_what_boots_when_it_can_not_be_armed_again(
    emmc: Jetson, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still the default; what is undone must not lead there."""
    done(bench.update(emmc))
    emmc.boot()
    done(run(emmc, "commit"))
    assert emmc.boot(panics=["b"]).slot == "a"
    library = build_library(tmp_path)
    names = Effects(library, emmc.copied(tmp_path / "whole").use(monkeypatch).root).names(ROLLBACK)
    last = max(number for number, name in enumerate(names, 1) if name.startswith("pwrite"))
    again = emmc.copied(tmp_path / "again").use(monkeypatch)
    ran = Effects(library, again.root).run(ROLLBACK, Fault(last, errno.ENOSPC))
    assert ran.code == 13, ran.err
    found = status(again)
    assert (found["running"], found["next"]) == ("a", "a")
    assert not (again.slot("b") / ".ota/trial").exists()
    assert again.boot().slot == "a"


def test_a_slot_that_cboot_would_still_boot_is_not_written_to(emmc: Jetson, bench: Bench) -> None:
    """It was told that the slot is unbootable, and did not say no."""
    emmc.fault("set-slot-as-unbootable", "print")
    before = files_below(emmc.slot("b"))
    ran = bench.update(emmc)
    assert ran.code == 15, ran.out
    assert "would still boot it" in ran.document["error"]["message"]
    assert files_below(emmc.slot("b")) == before
    assert status(emmc)["next"] == "a"
    emmc.mend()
    done(bench.update(emmc))
    assert emmc.boot().slot == "b"


def test_a_mark_that_is_gone_with_its_directory_confirms_nothing(
    emmc: Jetson, bench: Bench
) -> None:
    """The units that end a trial do not take that for a confirmation either."""
    done(bench.update(emmc))
    emmc.boot(once_fails=True)
    shutil.rmtree(emmc.slot("b") / ".ota")
    settings = (emmc.root / "boot/ota/cboot").read_bytes()
    found = status(emmc)
    assert found["verdict"]["code"] != "confirmed"
    run(emmc, "switch-slot", "b")
    assert (emmc.root / "boot/ota/cboot").read_bytes() == settings
