from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from ota_cli.core.grubenv import BootVariables, compose
from ota_cli.core.systemd import COMMIT_UNIT, DEADLINE_UNIT, units
from ota_cli.model import SlotName


def test_both_units_act_only_on_trial_boots() -> None:
    for unit in units():
        assert "\nConditionKernelCommandLine=ota.trial\n" in unit.text
        assert f"\nWantedBy={unit.wanted_by}\n" in unit.text


def test_the_deadline_needs_neither_python_nor_other_units() -> None:
    deadline = next(unit for unit in units(90) if unit.name == DEADLINE_UNIT)
    assert deadline.wanted_by == "sysinit.target"
    assert "DefaultDependencies=no" in deadline.text
    assert "IgnoreOnIsolate=yes" in deadline.text
    assert "-c 'sleep 90; " in deadline.text
    assert "python" not in deadline.text


@pytest.mark.parametrize(
    ("cmdline", "default", "reboots"),
    [
        ("quiet ota.slot=b ota.trial=1", "b", False),
        ("quiet ota.slot=b ota.trial=1", "a", True),
        ("quiet ota.trial=1", "a", True),
        ("quiet ota.slot=b ota.trial=1", None, True),
    ],
)
def test_after_the_deadline_only_a_confirmed_system_stays(
    tmp_path: Path, cmdline: str, default: Optional[SlotName], reboots: bool
) -> None:
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "cmdline").write_text(cmdline)
    if default is not None:
        (tmp_path / "bootenv").write_bytes(compose(BootVariables(default, None, ()), {}))
    shell = deadline_script().replace("/proc/", f"{tmp_path}/").replace("/boot/ota", str(tmp_path))
    subprocess.run(["/bin/sh", "-c", shell], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    assert (tmp_path / "called").exists() == reboots


def deadline_script() -> str:
    """The shell text as systemd hands it to sh: lines joined, `$$` made `$`."""
    text = next(unit.text for unit in units(0) if unit.name == DEADLINE_UNIT)
    script = text.replace("\\\n", " ").split("-c '")[1].split("'\n")[0]
    return script.replace("$$", "$")


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
