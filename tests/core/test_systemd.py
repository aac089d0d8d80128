from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ota_cli.core.systemd import COMMIT_UNIT, DEADLINE_UNIT, units


def test_both_units_act_only_on_trial_boots() -> None:
    for unit in units():
        assert "\nConditionKernelCommandLine=ota.trial\n" in unit.text
        assert f"\nWantedBy={unit.wanted_by}\n" in unit.text


def test_the_deadline_needs_neither_python_nor_other_units() -> None:
    deadline = next(unit for unit in units(90) if unit.name == DEADLINE_UNIT)
    assert deadline.wanted_by == "sysinit.target"
    assert "DefaultDependencies=no" in deadline.text
    assert "IgnoreOnIsolate=yes" in deadline.text
    assert "sleep 90; exec systemctl reboot -ff" in deadline.text
    assert "python" not in deadline.text


def test_commit_runs_when_the_system_is_up() -> None:
    commit = next(unit for unit in units() if unit.name == COMMIT_UNIT)
    assert commit.wanted_by == "multi-user.target"
    assert "After=multi-user.target" in commit.text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for unit in units():
        (tmp_path / unit.name).write_text(unit.text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        complaints = [line for line in done.stdout.decode().splitlines() if unit.name in line]
        assert complaints == []
