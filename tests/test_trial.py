"""What follows an update, in every order: never a slot that does not boot, never a wrong word."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.core.outcome import MAX_LOST_TRIALS
from ota_cli.errors import BootRefused
from ota_cli.probe import probe
from tests.conftest import Server
from tests.support.bench import Ran, ota, touched

UPDATE = ("--no-self-confirm", "--allow-downgrade")


def reboot(device: Path) -> str:
    """The slot that comes up."""
    return next_boot(probe(device)).slot


def update(device: Path, server: Server, version: str, *more: str) -> Ran:
    at = ["--version", f"{server.url}{version}/", "--cacert", str(server.cacert)]
    return ota("update", "--root", device, *at, *UPDATE, "--json", *more)


def status(device: Path) -> dict[str, object]:
    return ota("status", "--root", device, "--json").result


def verdict(device: Path) -> dict[str, str]:
    found = status(device)["verdict"]
    assert isinstance(found, dict)
    return found


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err + ran.out
    return ran


def health_check(device: Path, script: str) -> Path:
    path = device / "etc/ota/health.d/check"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def boot_bytes(device: Path) -> List[bytes]:
    return [(device / "boot/ota" / name).read_bytes() for name in ("bootenv", "bootenv.bak")]


@pytest.fixture
def on_trial(grub_device: Path, server: Server) -> Path:
    """v2 runs on trial in b; v1 is good in a."""
    done(update(grub_device, server, "v2"))
    assert reboot(grub_device) == "b"
    return grub_device


@pytest.fixture
def two_good(on_trial: Path) -> Path:
    """v2 runs in b and is confirmed; v1 is good in a."""
    done(ota("commit", "--root", on_trial))
    return on_trial


# --- only what boots --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ready", "kernel", "arguments.cfg", "initrd"])
def test_an_update_keeps_the_other_slot_while_the_running_one_would_not_boot(
    two_good: Path, server: Server, name: str
) -> None:
    (two_good / "boot/ota/slot-b" / name).write_bytes(b"")
    before = touched(two_good)
    ran = update(two_good, server, "v1")
    assert ran.code in (14, 15)
    assert "setup --repair" in ran.document["error"]["hint"]
    assert ran.document["error"]["footprint"] == "nothing"
    assert touched(two_good) == before
    done(ota("setup", "--repair", "--root", two_good))
    done(update(two_good, server, "v1"))
    assert reboot(two_good) == "a"


@pytest.mark.parametrize("name", ["kernel", "initrd", "arguments.cfg"])
def test_a_trial_whose_boot_files_rot_is_not_confirmed(on_trial: Path, name: str) -> None:
    path = on_trial / "boot/ota/slot-b" / name
    path.write_bytes(path.read_bytes()[:20])
    ran = ota("commit", "--root", on_trial)
    assert ran.code == 14
    assert "setup --repair" in ran.err
    assert reboot(on_trial) == "a"


def test_a_good_system_boots_in_place_of_a_default_that_lost_its_initrd(two_good: Path) -> None:
    (two_good / "boot/ota/slot-b/initrd").unlink()
    assert (status(two_good)["running"], status(two_good)["next"]) == ("b", "a")
    assert "slot a boots next" in verdict(two_good)["text"]

    assert reboot(two_good) == "a"
    assert (status(two_good)["running"], status(two_good)["next"]) == ("a", "a")
    assert verdict(two_good)["code"] == "disagree"
    assert "slot a runs instead" in verdict(two_good)["text"]

    done(ota("commit", "--root", two_good))
    assert verdict(two_good)["code"] == "confirmed"
    done(ota("verify", "--repair", "--root", two_good))
    done(ota("rollback", "--root", two_good))
    assert reboot(two_good) == "b"


def test_a_running_trial_is_not_rejected_for_a_slot_that_would_not_boot(on_trial: Path) -> None:
    (on_trial / "boot/ota/slot-a/kernel").unlink()
    assert ota("rollback", "--root", on_trial).code == 14
    done(ota("commit", "--root", on_trial))
    assert reboot(on_trial) == "b"


def test_damaged_arguments_are_mended_and_not_armed(two_good: Path) -> None:
    for slot in ("a", "b"):
        path = two_good / f"boot/ota/slot-{slot}/arguments.cfg"
        path.write_bytes(path.read_bytes()[:60])
    assert ota("rollback", "--root", two_good).code == 14
    assert ota("switch-slot", "a", "--trust-record", "--root", two_good).code == 14
    with pytest.raises(BootRefused):
        reboot(two_good)
    done(ota("setup", "--repair", "--root", two_good))
    assert reboot(two_good) == "b"


def test_status_tells_when_the_running_system_does_not_boot_next(two_good: Path) -> None:
    (two_good / "boot/ota/slot-b/ready").unlink()
    assert status(two_good)["next"] == "a"
    assert verdict(two_good)["code"] == "disagree"
    assert "setup --repair" in verdict(two_good)["hint"]
    assert reboot(two_good) == "a"


@pytest.mark.parametrize("place", ["/slots", "/slots/a/opt", "/", "/boot/ota", "/slots/../slots/a"])
def test_slots_that_overlap_are_refused(grub_device: Path, server: Server, place: str) -> None:
    info = grub_device / "boot/ota/ecu_info.yml"
    slots = f"slots:\n  a: {{directory: /slots/a}}\n  b: {{directory: {place}}}\n"
    info.write_text(f"ecu_id: bench\nbootloader: grub\n{slots}")
    before = touched(grub_device)
    ran = update(grub_device, server, "v2")
    assert ran.code == 78
    assert "overlaps" in ran.document["error"]["message"]
    assert touched(grub_device) == before


# --- rollback and switch-slot -----------------------------------------------------------------


def test_a_rollback_cut_off_before_the_boot_loader_was_told_is_just_run_again(
    two_good: Path,
) -> None:
    before = boot_bytes(two_good)
    done(ota("rollback", "--root", two_good))
    # What a SIGKILL between the record and the boot loader's one write leaves.
    for name, data in zip(("bootenv", "bootenv.bak"), before):
        (two_good / "boot/ota" / name).write_bytes(data)
    assert verdict(two_good)["code"] == "confirmed"
    done(ota("rollback", "--root", two_good))
    assert reboot(two_good) == "a"
    done(ota("commit", "--root", two_good))


def test_a_good_slot_stays_good_when_its_trial_is_lost(two_good: Path) -> None:
    for _ in range(4):
        done(ota("rollback", "--root", two_good))
        assert reboot(two_good) == "a"
        assert reboot(two_good) == "b"
        assert "fell back" in verdict(two_good)["text"]
        assert "switch-slot" in verdict(two_good)["hint"]
    done(ota("switch-slot", "a", "--root", two_good))
    assert reboot(two_good) == "a"
    done(ota("commit", "--root", two_good))


def test_switching_to_the_running_slot_takes_back_what_is_armed(two_good: Path) -> None:
    done(ota("rollback", "--root", two_good))
    ran = done(ota("switch-slot", "b", "--root", two_good, "--json"))
    assert ran.result["done"] == "disarmed"
    assert reboot(two_good) == "b"
    assert done(ota("switch-slot", "b", "--root", two_good, "--json")).result["done"] == "nothing"


def test_a_rejected_trial_has_failed_and_is_not_tried_again(on_trial: Path, server: Server) -> None:
    done(ota("rollback", "--root", on_trial))
    assert reboot(on_trial) == "a"
    assert "rejected" in verdict(on_trial)["text"]
    assert "activate" not in verdict(on_trial)["hint"]
    assert update(on_trial, server, "v2").code == 18


def test_an_image_whose_trials_are_lost_is_not_brought_for_ever(
    grub_device: Path, server: Server
) -> None:
    for _ in range(3):
        done(update(grub_device, server, "v2"))
        assert [reboot(grub_device), reboot(grub_device)] == ["b", "a"]
    ran = update(grub_device, server, "v2")
    assert (ran.code, ran.document["error"]["slug"]) == (18, "failed-before")
    done(update(grub_device, server, "v2", "--retry-failed"))
    assert [reboot(grub_device), reboot(grub_device)] == ["b", "a"]
    done(update(grub_device, server, "v2", "--retry-failed"))


def test_an_armed_system_that_the_boot_loader_did_not_try_is_told(
    grub_device: Path, server: Server
) -> None:
    boot_id = grub_device / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("one\n")
    done(update(grub_device, server, "v2"))
    assert verdict(grub_device)["code"] == "armed"
    boot_id.write_text("two\n")
    assert verdict(grub_device)["code"] == "disagree"
    assert "this boot did not try it" in verdict(grub_device)["text"]
    waited = ota("wait", "--timeout", "1", "--root", grub_device)
    assert waited.code == 15
    assert "error: v2 is armed in slot b, but this boot did not try it" in waited.err
    done(ota("rollback", "--root", grub_device))
    assert verdict(grub_device)["code"] == "never_updated"


def test_nothing_is_armed_where_grub_would_not_read_the_rule(
    grub_device: Path, server: Server
) -> None:
    grub_cfg = grub_device / "boot/grub/grub.cfg"
    sources = grub_cfg.read_text()
    grub_cfg.write_text("menuentry 'Linux' { linux /vmlinuz }\n")
    before = boot_bytes(grub_device)
    ran = update(grub_device, server, "v2")
    assert (ran.code, ran.document["error"]["slug"]) == (15, "custom-cfg-not-read")
    assert boot_bytes(grub_device) == before
    assert status(grub_device)["next"] is None
    for told in ("status", "doctor"):
        out = ota(told, "--root", grub_device).out
        assert "does not read custom.cfg" in out, told
        assert "run `update-grub`" in out, told
    grub_cfg.write_text(sources)
    done(update(grub_device, server, "v2"))


# --- update, check and what is armed ----------------------------------------------------------


def test_updating_to_what_runs_takes_back_what_is_armed(grub_device: Path, server: Server) -> None:
    done(update(grub_device, server, "v2"))
    at = ["--version", f"{server.url}v1/", "--cacert", server.cacert, "--root", grub_device]
    ran = ota("check", *at, "--json")
    assert (ran.code, ran.result["available"], ran.result["armed"]) == (20, True, "b")
    ran = done(update(grub_device, server, "v1"))
    assert ran.result["up_to_date"]
    assert ran.result["taken_back"] == "b"
    assert reboot(grub_device) == "a"
    assert ota("check", *at).code == 0


def test_check_and_dry_run_say_what_update_would(on_trial: Path, server: Server) -> None:
    at = ["--version", f"{server.url}v2/", "--cacert", server.cacert, "--root", on_trial]
    assert ota("check", *at).code == 75, "not confirmed is not up to date"
    check = health_check(on_trial, "exit 1")
    assert ota("commit", "--root", on_trial).code == 18
    assert reboot(on_trial) == "a"
    assert ota("check", *at).code == 18
    assert update(on_trial, server, "v2", "--dry-run").code == 18
    assert update(on_trial, server, "v2").code == 18
    check.unlink()


# --- commit -----------------------------------------------------------------------------------


def test_a_commit_cut_off_in_the_middle_is_finished_by_the_next(
    on_trial: Path, server: Server
) -> None:
    check = health_check(on_trial, "exit 1")
    assert ota("commit", "--root", on_trial).code == 18
    assert reboot(on_trial) == "a"
    check.unlink()
    done(update(on_trial, server, "v2", "--retry-failed"))
    assert reboot(on_trial) == "b"
    state, twin = on_trial / "boot/ota/state.json", on_trial / "boot/ota/bootenv.bak"
    before = state.read_bytes(), twin.read_bytes()
    done(ota("commit", "--root", on_trial))
    # What a SIGKILL right after the one write leaves.
    state.write_bytes(before[0])
    twin.write_bytes(before[1])
    (on_trial / "boot/ota/slot-b/good").unlink()

    done(ota("commit", "--root", on_trial))

    main, copy = boot_bytes(on_trial)
    assert main == copy
    assert (on_trial / "boot/ota/slot-b/good").stat().st_size > 0
    assert json.loads(state.read_bytes())["failed"] == []
    assert verdict(on_trial)["code"] == "confirmed"


def test_a_history_that_can_not_be_written_does_not_undo_a_commit(on_trial: Path) -> None:
    history = on_trial / "boot/ota/history.jsonl"
    history.unlink(missing_ok=True)
    history.mkdir()
    ran = done(ota("commit", "--root", on_trial))
    assert "warning:" in ran.err
    assert verdict(on_trial)["code"] == "confirmed"


def test_a_good_slot_whose_system_changed_files_says_how_to_boot_it(two_good: Path) -> None:
    (two_good / "slots/a/var").mkdir()
    (two_good / "slots/a/var/log").write_text("what a running system writes")
    ran = ota("switch-slot", "--root", two_good)
    assert ran.code == 12
    assert "--trust-record" in ran.err
    done(ota("switch-slot", "--trust-record", "--root", two_good))
    assert reboot(two_good) == "a"


# --- a boot loader that refuses -----------------------------------------------------------------


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """`path` as on a disk that refuses writes to it."""
    if os.geteuid() == 0:
        if subprocess.run(["chattr", "+i", path], check=False).returncode:
            pytest.skip("this file system knows no immutable files")
    else:
        path.chmod(0o444)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", path], check=True)
        path.chmod(0o644)


def test_a_slot_that_could_not_be_armed_has_not_lost_a_trial(on_trial: Path) -> None:
    assert reboot(on_trial) == "a", "a trial that never reached user space"
    with unwritable(on_trial / "boot/ota/bootenv"):
        for _ in range(MAX_LOST_TRIALS):
            assert ota("activate", "--root", on_trial).code == 15
            assert verdict(on_trial)["text"] == "v1 in slot a runs. v2 is staged in slot b."
    done(ota("activate", "--root", on_trial))
    assert reboot(on_trial) == "b"
    assert reboot(on_trial) == "a"
    assert verdict(on_trial)["hint"] == "`ota activate` tries it again"
    done(ota("activate", "--root", on_trial))
    assert reboot(on_trial) == "b"


@pytest.mark.parametrize("verb", ["activate", "rollback"])
def test_nothing_is_armed_when_a_second_reader_refuses_the_switch(
    two_good: Path, server: Server, tmp_path: Path, verb: str
) -> None:
    if verb == "activate":
        done(update(two_good, server, "v1", "--stage-only"))
    fake = tmp_path / "bin/grub-editenv"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 127\n")
    fake.chmod(0o755)
    ran = ota(verb, "--root", two_good, env={"PATH": f"{fake.parent}:{os.environ['PATH']}"})
    assert ran.code == 15
    assert status(two_good)["next"] == "b"
    assert verdict(two_good)["code"] == "confirmed"
    assert reboot(two_good) == "b"
    done(ota(verb, "--root", two_good))
    assert reboot(two_good) == "a"


def test_a_slot_that_was_filled_and_not_armed_is_not_called_untouched(
    grub_device: Path, server: Server
) -> None:
    in_the_way = grub_device / "boot/ota/given-up"
    in_the_way.mkdir()
    ran = update(grub_device, server, "v2")
    assert ran.code == 15
    assert ran.document["error"]["footprint"] == "standby"
    assert reboot(grub_device) == "a"
    in_the_way.rmdir()
    done(ota("activate", "--root", grub_device))
    assert reboot(grub_device) == "b"


@pytest.mark.parametrize("verb", ["update", "activate", "switch-slot"])
def test_an_unconfirmed_trial_is_confirmed_or_rejected_before_anything_else(
    verb: str, on_trial: Path, server: Server
) -> None:
    before = touched(on_trial), boot_bytes(on_trial)
    ran = (
        update(on_trial, server, "v1")
        if verb == "update"
        else ota(verb, "--root", on_trial, "--json")
    )
    assert (ran.code, ran.document["error"]["slug"]) == (75, "unconfirmed-trial")
    assert (touched(on_trial), boot_bytes(on_trial)) == before
    done(ota("commit", "--root", on_trial))
    done(update(on_trial, server, "v1"))
