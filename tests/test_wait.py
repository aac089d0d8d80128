"""How an update ended, for those who wait for it and for those who look later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ota_cli.boot import grub
from ota_cli.boot.simulate import next_boot
from ota_cli.core.record import Transaction
from ota_cli.host import store
from ota_cli.host.ops import apply
from ota_cli.model import Checked, Device
from ota_cli.probe import probe
from tests.support.bench import environment, ota, ota_argv
from tests.support.boot import boot_files, ready_device

#: Runs `ota`, which is sent a SIGTERM once it waits.
TERMINATED = """
import os, signal, time
from ota_cli.__main__ import main
time.sleep = lambda seconds: os.kill(os.getpid(), signal.SIGTERM)
main()
"""

ARMED = Transaction("t1", "update", "armed", "a", "b", None, "v2", "2026-11-24T00:00:00Z")


@pytest.fixture
def armed(tmp_path: Path) -> Device:
    device = ready_device(tmp_path / "device")
    apply(grub.install(device, "b", boot_files(device, "b")))
    record = replace(store.load_record(device), transaction=ARMED)
    store.save_record(device, record.with_slot("b", state="armed", version="v2", txn="t1"))
    apply(grub.arm(device, grub.read(device), Checked("b", "t1")))
    return device


@pytest.fixture
def on_trial(armed: Device) -> Device:
    next_boot(armed)
    return probe(armed.root)


def verdict_of(device: Device) -> str:
    said = ota("status", "--root", device.root, "--json").result["verdict"]
    return f"{said['code']}: {said['text']}"


def test_a_device_with_nothing_armed_is_not_waited_for(tmp_path: Path) -> None:
    device = ready_device(tmp_path / "device")
    ran = ota("wait", "--root", device.root)
    assert (ran.code, ran.out) == (15, "")
    assert "no update is armed" in ran.err


def test_waiting_for_a_reboot_that_does_not_come_ends_with_retry(armed: Device) -> None:
    ran = ota("wait", "--root", armed.root, "--timeout", "0", "--json")
    assert ran.code == 75
    assert ran.document["error"]["slug"] == "not-ended"


@pytest.mark.parametrize(
    ("answer", "code"), [("echo running", 143), ("echo stopping", 69), ("kill -KILL $$", 143)]
)
def test_a_wait_that_is_ended_tells_whether_the_machine_goes_down(
    armed: Device, tmp_path: Path, answer: str, code: int
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n{answer}\n")
    systemctl.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", TERMINATED, "wait", "--root", str(armed.root), "--json"],
        env={**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, json.loads(ran.stdout)["exit_code"]) == (code, code)


def test_the_wait_ends_when_the_trial_is_confirmed(on_trial: Device) -> None:
    argv = [*ota_argv(), "wait", "--root", str(on_trial.root), "--timeout", "60"]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, text=True) as waiting:
        committed = ota("commit", "--root", on_trial.root)
        assert committed.code == 0, committed.err
        out, _ = waiting.communicate(timeout=90)
    assert waiting.returncode == 0
    assert "v2 in slot b runs and is confirmed." in out


def test_a_trial_that_fell_back_is_told(on_trial: Device) -> None:
    next_boot(on_trial)
    ran = ota("wait", "--root", on_trial.root)
    assert ran.code == 18
    assert "fell back: the trial never reached user space" in ran.err


def test_a_trial_that_met_its_deadline_did_reach_user_space(on_trial: Device) -> None:
    (on_trial.state_directory / "given-up").write_text("t1\n")
    next_boot(on_trial)
    assert "fell back: it was not confirmed before its deadline" in verdict_of(on_trial)
    assert ota("status", "--root", on_trial.root, "--json").result["slots"]["b"]["state"] == "bad"


def test_the_deadline_of_another_transaction_says_nothing(on_trial: Device) -> None:
    (on_trial.state_directory / "given-up").write_text("t0\n")
    next_boot(on_trial)
    assert "never reached user space" in verdict_of(on_trial)


@pytest.mark.parametrize(
    ("more", "left"), [("", 500), ("ota.deadline=150", 50), ("ota.deadline=9", 0)]
)
def test_a_trial_says_how_much_time_it_has_left(on_trial: Device, more: str, left: int) -> None:
    proc = on_trial.root / "proc"
    (proc / "uptime").write_text("100.25 20.00\n")
    (proc / "cmdline").write_text(f"{on_trial.cmdline.strip()} {more}\n")
    assert verdict_of(on_trial).startswith("trial: v2 runs on trial in slot b")
    assert f"about {left} s left" in verdict_of(on_trial)
