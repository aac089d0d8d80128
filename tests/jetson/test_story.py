"""Updates of Jetsons, from check to rollback: the same story as with GRUB, told by CBoot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.jetson.conftest import Bench, Publisher
from tests.support.bench import Ran, environment, ota
from tests.support.blocks import needs_root
from tests.support.jetson import Jetson, Recovery
from tests.support.trees import snapshot, without


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err + ran.out
    return ran


def run(jetson: Jetson, *words: str) -> Ran:
    return ota(*words, "--root", jetson.root)


def status(jetson: Jetson) -> Dict[str, Any]:
    return done(run(jetson, "status", "--json")).result


def verdict(jetson: Jetson) -> str:
    return str(status(jetson)["verdict"]["code"])


def health_check(jetson: Jetson, script: str) -> Path:
    path = jetson.root / "etc/ota/health.d/check"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_trial(emmc: Jetson, bench: Bench) -> Jetson:
    """v2 runs on trial in b; v1 is good in a."""
    done(bench.update(emmc))
    boot = emmc.boot()
    assert (boot.slot, boot.trial) == ("b", True)
    return emmc


def test_the_whole_story_from_update_to_rollback(jetson: Jetson, bench: Bench) -> None:
    assert verdict(jetson) == "never_updated"
    updated = done(bench.update(jetson)).result
    assert (updated["version"], updated["slot"]) == ("v2", "b")
    found = status(jetson)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("a", "b", "armed")

    assert jetson.boot().trial
    found = status(jetson)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("b", "a", "trial")
    assert found["slots"]["b"]["state"] == "trial"
    assert bench.update(jetson).code == 75, "no update while a trial is unconfirmed"
    done(run(jetson, "commit"))
    found = status(jetson)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("b", "b", "confirmed")
    assert [jetson.boot().trial, jetson.boot().slot] == [False, "b"]

    done(run(jetson, "rollback"))
    assert verdict(jetson) == "armed"
    assert (jetson.boot().slot, verdict(jetson)) == ("a", "trial")
    done(run(jetson, "commit"))
    assert jetson.boot().slot == "a"
    done(run(jetson, "switch-slot", "--trust-record"))
    assert jetson.boot().slot == "b"
    done(run(jetson, "commit"))
    done(bench.update(jetson, "v1"))
    assert jetson.boot().slot == "a"


def test_the_slot_equals_the_image_but_for_its_root(
    jetson: Jetson, bench: Bench, jetson_publisher: Publisher
) -> None:
    done(bench.update(jetson))
    conf = "/boot/extlinux/extlinux.conf"
    own = ("/etc/hostname", "/etc/fstab", "/etc/ota", "/etc", conf, "/boot/extlinux")
    tree = jetson_publisher.trees / jetson.layout / "v2"
    assert without(snapshot(jetson.slot("b")), *own) == without(snapshot(tree), *own)
    before = (tree / conf[1:]).read_text()
    place = f"/{jetson.slot('b').relative_to(jetson.root)}"
    expected = re.sub(r"(APPEND [^\n]*?)root=\S+", rf"\1root={place}", before, count=1)
    assert (jetson.slot("b") / conf[1:]).read_text() == expected
    assert expected != before
    done(run(jetson, "verify", "b"))


def test_with_the_root_on_nvme_cboot_finds_the_new_boot_files_on_emmc(
    jetson: Jetson, bench: Bench
) -> None:
    if not jetson.is_external:
        pytest.skip("its root is on eMMC")
    running = snapshot(jetson.booted_from("a"))
    done(bench.update(jetson))
    assert snapshot(jetson.booted_from("b") / "boot") == snapshot(jetson.slot("b") / "boot")
    assert not (jetson.booted_from("b") / "boot/boot").exists(), "stray files are gone"
    assert (jetson.booted_from("b") / "kept").exists()
    assert snapshot(jetson.booted_from("a")) == running


def test_the_standby_slot_is_unbootable_before_its_first_byte_changes(
    jetson: Jetson, bench: Bench
) -> None:
    done(bench.update(jetson))
    target = "bootloader" if jetson.layout == "agx-unified" else "rootfs"
    told = [] if target == "bootloader" else ["rootfs set-slot-as-unbootable 1"]
    assert jetson.changes()[-len(told) - 1 :] == [*told, f"{target} set-active-boot-slot 1"]
    before = jetson.changes()
    jetson.boot()
    done(run(jetson, "commit"))
    marked = [] if target == "bootloader" else ["rootfs mark-boot-successful"]
    assert jetson.changes()[len(before) :] == [
        f"{target} set-active-boot-slot 0",  # by ota-once.service
        f"{target} set-active-boot-slot 1",
        *marked,
    ]


# --- trials that fail ---------------------------------------------------------------------------


def test_a_trial_that_fails_its_checks_falls_back_and_is_remembered(
    on_trial: Jetson, bench: Bench
) -> None:
    check = health_check(on_trial, "echo no sensor; exit 1")
    assert run(on_trial, "commit").code == 18
    assert on_trial.boot().slot == "a"
    said = status(on_trial)["verdict"]
    assert said["code"] == "fell_back"
    assert "check" in said["text"]
    check.unlink()
    assert bench.update(on_trial).code == 18
    done(bench.update(on_trial, "v2", "--retry-failed"))
    assert on_trial.boot().slot == "b"
    done(run(on_trial, "commit"))


def test_a_kernel_that_panics_is_left_when_the_loader_has_tried_it_often_enough(
    jetson: Jetson, bench: Bench
) -> None:
    done(bench.update(jetson))
    assert jetson.boot(panics=["b"]).slot == "a"
    found = status(jetson)
    assert (found["next"], found["verdict"]["code"]) == ("a", "fell_back")
    assert "never reached user space" in found["verdict"]["text"]
    done(run(jetson, "activate"))
    assert jetson.boot().slot == "b"
    done(run(jetson, "commit"))


def test_a_trial_that_cboot_was_never_told_of_does_not_count(emmc: Jetson, bench: Bench) -> None:
    """It is the one of the same transaction, armed again after it was lost."""
    done(bench.update(emmc))
    assert emmc.boot(panics=["b"]).slot == "a"
    for _ in range(3):
        emmc.fault("set-active-boot-slot", "kill-before", at=1)
        assert run(emmc, "activate").code == -9
        emmc.mend()
        assert status(emmc)["slots"]["b"]["state"] == "staged"
        assert emmc.boot().slot == "a"
    done(run(emmc, "activate"))
    assert emmc.boot().slot == "b"


def test_a_slot_whose_kernel_is_gone_is_left_as_well(emmc: Jetson, bench: Bench) -> None:
    done(bench.update(emmc))
    (emmc.booted_from("b") / "boot/Image").unlink()
    assert emmc.boot().slot == "a"


def test_when_neither_system_starts_recovery_is_entered(emmc: Jetson, bench: Bench) -> None:
    done(bench.update(emmc))
    with pytest.raises(Recovery):
        emmc.boot(panics=["a", "b"])


def test_a_trial_whose_way_back_could_not_be_prepared_still_ends(
    jetson: Jetson, bench: Bench
) -> None:
    done(bench.update(jetson))
    boots = [jetson.boot(once_fails=True).slot for _ in range(8)]
    assert boots[0] == "b"
    assert boots[-1] == "a", "the loader's own counter has run out"
    assert verdict(jetson) == "fell_back"


def test_such_a_trial_can_be_confirmed_or_rejected_all_the_same(
    emmc: Jetson, bench: Bench
) -> None:
    done(bench.update(emmc))
    emmc.boot(once_fails=True)
    assert (status(emmc)["next"], verdict(emmc)) == ("b", "trial")
    done(run(emmc, "rollback"))
    assert emmc.boot().slot == "a"
    done(bench.update(emmc, "v2", "--retry-failed"))
    emmc.boot(once_fails=True)
    done(run(emmc, "commit"))
    assert emmc.boot().slot == "b"


def test_a_way_back_that_is_late_does_not_undo_a_commit(
    emmc: Jetson, bench: Bench, tmp_path: Path
) -> None:
    """Its first attempt fails, and the commit comes before the second."""
    done(bench.update(emmc))
    emmc.boot(once_fails=True)
    emmc.fault("set-active-boot-slot", "print", text="no", status=1)
    fault, ran = emmc.programs / "fault", tmp_path / "ran"
    commit = f"{sys.executable} -m ota_cli commit --root {emmc.root}"
    script = f"#!/bin/sh\nrm {fault}\n{commit} && touch {ran}\n"
    (emmc.programs / "sleep").write_text(script)
    (emmc.programs / "sleep").chmod(0o755)
    assert emmc.once("b") == 0
    assert ran.exists()
    (emmc.programs / "sleep").unlink()
    found = status(emmc)
    assert (found["next"], found["verdict"]["code"]) == ("b", "confirmed")
    assert emmc.boot().slot == "b"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with a `systemctl` and a `sleep` that only note how they are called."""
    place = tmp_path / "programs"
    place.mkdir()
    for name in ("systemctl", "sleep"):
        (place / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}\n')
        (place / name).chmod(0o755)
    return place


def test_the_deadline_ends_a_trial(on_trial: Jetson, programs: Path, tmp_path: Path) -> None:
    on_trial.deadline_passes("b", programs)
    assert (tmp_path / "systemctl").read_text().split() == ["reboot", "-ff"]
    assert (tmp_path / "sleep").read_text().split() == ["600"]
    assert on_trial.boot().slot == "a"
    assert "before its deadline" in status(on_trial)["verdict"]["text"]


def test_the_deadline_ends_a_trial_whose_commit_was_cut_off(
    jetson: Jetson, bench: Bench, programs: Path
) -> None:
    done(bench.update(jetson))
    jetson.boot()
    jetson.fault("set-active-boot-slot", "kill-after", at=1)
    assert run(jetson, "commit").code == -9
    assert status(jetson)["next"] == "b", "what CBoot was told last"
    jetson.deadline_passes("b", programs)
    assert status(jetson)["next"] == "a"
    assert jetson.boot().slot == "a"
    assert verdict(jetson) == "fell_back"


def test_a_trial_that_fails_its_checks_after_a_commit_was_cut_off_falls_back(
    on_trial: Jetson,
) -> None:
    on_trial.fault("set-active-boot-slot", "kill-after", at=1)
    assert run(on_trial, "commit").code == -9
    health_check(on_trial, "exit 1")
    assert run(on_trial, "commit").code == 18
    assert status(on_trial)["next"] == "a"
    assert on_trial.boot().slot == "a"


def test_a_deadline_that_passes_after_the_commit_does_nothing(
    on_trial: Jetson, tmp_path: Path
) -> None:
    """The unit runs since before the commit: it has read the mark, and asks for it at the end."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    commit = f"{on_trial.slot('b')}/.ota/trial"
    (programs / "sleep").write_text(f"#!/bin/sh\nrm {commit}\n")
    for name in ("systemctl", "sleep"):
        (programs / name).chmod(0o755)
    assert on_trial.deadline_passes("b", programs) == 0
    assert not (tmp_path / "called").exists()


def test_nvidias_verifier_is_kept_from_a_trial_and_runs_at_all_other_boots(
    on_trial: Jetson,
) -> None:
    drop_in = on_trial.slot("b") / "etc/systemd/system/nv_update_verifier.service.d/50-ota.conf"
    assert "ConditionPathExists=!/.ota/trial" in drop_in.read_text()
    assert (on_trial.slot("b") / ".ota/trial").exists()
    done(run(on_trial, "commit"))
    assert not (on_trial.slot("b") / ".ota/trial").exists()
    assert not (on_trial.root / "run/ota-trial").exists()


def test_many_reboots_of_a_confirmed_system_use_up_no_tries(on_trial: Jetson) -> None:
    done(run(on_trial, "commit"))
    assert {on_trial.boot().slot for _ in range(12)} == {"b"}


def test_a_disarmed_slot_is_not_on_trial_when_the_loader_comes_to_it(
    emmc: Jetson, bench: Bench
) -> None:
    done(bench.update(emmc))
    done(run(emmc, "rollback"))
    boot = emmc.boot(panics=["a"])
    assert (boot.slot, boot.trial) == ("b", False)
    assert verdict(emmc) == "disagree"
    done(run(emmc, "commit"))
    assert verdict(emmc) == "confirmed"
    assert emmc.boot().slot == "b"


def test_a_commit_that_was_cut_off_is_written_down_by_whatever_comes_next(
    on_trial: Jetson,
) -> None:
    """Else it is forgotten when CBoot leaves that slot."""
    settings = on_trial.root / "boot/ota/cboot"
    before = settings.read_bytes()
    done(run(on_trial, "commit"))
    settings.write_bytes(before)  # its last write
    done(run(on_trial, "switch-slot", "b"))
    assert on_trial.boot(panics=["b"]).slot == "a"
    found = status(on_trial)
    assert found["slots"]["b"]["state"] == "good"
    done(run(on_trial, "switch-slot", "b"))
    assert on_trial.boot().slot == "b"


@pytest.fixture
def left_by_itself(on_trial: Jetson) -> Jetson:
    """v2 was confirmed in b, and CBoot has gone back to a all the same."""
    done(run(on_trial, "commit"))
    assert on_trial.boot(panics=["b"]).slot == "a"
    found = status(on_trial)
    assert (found["next"], found["verdict"]["code"]) == ("a", "disagree")
    return on_trial


def test_after_cboot_has_left_a_confirmed_system_the_running_one_can_stay(
    left_by_itself: Jetson,
) -> None:
    done(run(left_by_itself, "switch-slot", "a"))
    assert left_by_itself.boot().slot == "a"
    done(run(left_by_itself, "commit"))
    assert verdict(left_by_itself) == "confirmed"


def test_after_cboot_has_left_a_confirmed_system_that_can_be_tried_again(
    left_by_itself: Jetson,
) -> None:
    done(run(left_by_itself, "rollback"))
    assert verdict(left_by_itself) == "armed"
    assert left_by_itself.boot().slot == "b"
    assert verdict(left_by_itself) == "trial"
    done(run(left_by_itself, "commit"))
    assert left_by_itself.boot().slot == "b"


def test_an_update_to_what_runs_takes_nothing_back_that_was_not_armed(
    left_by_itself: Jetson, bench: Bench
) -> None:
    again = left_by_itself.copied(left_by_itself.root.with_name("again"))
    done(bench.update(again, "v1", "--dry-run"))
    before = (again.root / "boot/ota/cboot").read_bytes()
    done(bench.update(left_by_itself, "v1"))
    assert (left_by_itself.root / "boot/ota/cboot").read_bytes() == before
    assert left_by_itself.boot().slot == "a"


def test_what_boots_next_is_what_cboot_says_complete_or_not(emmc: Jetson, bench: Bench) -> None:
    done(bench.update(emmc, "v2", "--stage-only"))
    (emmc.root / "boot/ota/slot-b/ready").unlink()
    emmc.loader.set(priority1=15, priority0=14, bootable1=1, retries1=7)
    found = status(emmc)
    assert (found["next"], found["verdict"]["code"]) == ("b", "disagree")
    assert "slot b next" in found["verdict"]["text"]
    assert found["verdict"]["hint"]
    assert emmc.copied(emmc.root.with_name("other")).boot().slot == "b"
    done(run(emmc, "switch-slot", "a"))
    assert status(emmc)["next"] == "a"
    assert emmc.boot().slot == "a"


@needs_root
def test_everybody_may_see_that_a_trial_runs(on_trial: Jetson) -> None:
    """The mark itself is in a directory of root's."""
    base = Path("/var/tmp") / f"ota-jetson-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        readable = on_trial.copied(base / "device")
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        env = {**environment(), "PATH": readable.path}
        able = "from ota_cli.probe import probe"
        look = f"{able}; print(probe('{readable.root}').cmdline)"
        for script in (able, look):
            argv = [*as_nobody, sys.executable, "-c", script]
            done = subprocess.run(argv, cwd="/", check=False, capture_output=True, env=env)
            if script == able and done.returncode:
                pytest.skip("nobody can not run the program here")
        assert b"ota.trial=1" in done.stdout, done.stderr
    finally:
        shutil.rmtree(base)
