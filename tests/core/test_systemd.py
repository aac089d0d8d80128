from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Set

import pytest

from ota_cli.core.grubenv import BootVariables, compose
from ota_cli.core.systemd import COMMIT_UNIT, DEADLINE_UNIT, ONCE_UNIT, VERIFIER_TEXT, Unit, units
from ota_cli.model import SlotName
from tests.support.units import script_of


def test_units_act_only_on_trial_boots_and_one_while_others_are_to_be_told() -> None:
    on_trial = ["ConditionKernelCommandLine=|ota.trial", "ConditionPathExists=|/.ota/trial"]
    told = "ConditionPathExists=|/boot/ota/joint-decided"
    assert {unit.name: conditions(unit.text) for unit in units()} == {
        COMMIT_UNIT: [*on_trial, told],
        DEADLINE_UNIT: on_trial,
        ONCE_UNIT: ["ConditionPathExists=/.ota/trial"],
    }
    assert conditions(VERIFIER_TEXT) == ["ConditionPathExists=!/.ota/trial"]
    for unit in units():
        assert f"\nWantedBy={unit.wanted_by}\n" in unit.text


def conditions(text: str) -> List[str]:
    return [line for line in text.splitlines() if line.startswith("Condition")]


def test_the_way_back_is_prepared_before_a_commit_takes_another() -> None:
    once = next(unit for unit in units() if unit.name == ONCE_UNIT)
    assert f"\nBefore={COMMIT_UNIT}\n" in once.text


def test_the_deadline_needs_neither_python_nor_other_units() -> None:
    deadline = deadline_unit(90)
    assert deadline.wanted_by == "sysinit.target"
    assert "DefaultDependencies=no" in deadline.text
    assert "IgnoreOnIsolate=yes" in deadline.text
    assert "-c 'deadline=90; " in deadline.text
    assert "python" not in deadline.text


#: Most directives of systemd.exec(5) make systemd mount something before the unit starts, which
#: could fail; for none of these it does.
HARDENED = {
    "NoNewPrivileges=yes", "KeyringMode=private", "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
}  # fmt: skip
#: What each unit says besides; None: it is not hardened, for health checks would inherit it.
OWN: Dict[str, Optional[Set[str]]] = {
    DEADLINE_UNIT: {
        "Type=simple", "OOMScoreAdjust=-1000",
        "CapabilityBoundingSet=CAP_SYS_BOOT CAP_DAC_OVERRIDE CAP_SYS_RAWIO",
    },
    ONCE_UNIT: {
        "Type=oneshot", "RemainAfterExit=yes",
        "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_ADMIN CAP_SYS_RAWIO",
    },
    COMMIT_UNIT: None,
}  # fmt: skip


def test_each_unit_is_limited_to_what_it_needs_or_has_a_reason_not_to_be() -> None:
    assert {unit.name for unit in units()} == set(OWN)
    for unit in units():
        service = unit.text.partition("[Service]")[2].partition("[Install]")[0]
        found = set(re.findall(r"^\w+=.*", service, re.MULTILINE))
        own = OWN[unit.name]
        if own is None:
            assert not {line.partition("=")[0] for line in found} & {
                line.partition("=")[0] for line in (*HARDENED, "CapabilityBoundingSet=")
            }
        else:
            assert {line for line in found if not line.startswith("ExecStart=")} == own | HARDENED


@pytest.mark.parametrize(
    ("cmdline", "default", "reboots"),
    [
        ("quiet ota.slot=b ota.trial=1", "b", False),
        ("quiet ota.slot=b ota.txn=t1 ota.trial=1", "a", True),
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
    assert (tmp_path / "given-up").exists() == reboots


@pytest.mark.parametrize(
    ("cmdline", "slept"),
    [
        ("ota.slot=b ota.trial=1", "77"),
        ("ota.deadline=5 ota.slot=b", "5"),
        ("ota.deadline= ota.slot=b", "77"),
        ("ota.deadline=5x", "77"),
        ("ota.deadline=5;reboot", "77"),
    ],
)
def test_the_command_line_says_how_long_a_trial_may_take(
    tmp_path: Path, cmdline: str, slept: str
) -> None:
    assert sleeps_of_deadline(tmp_path, cmdline) == [slept]
    assert (tmp_path / "systemctl-called").read_text().strip() == "reboot -ff"


def sleeps_of_deadline(tmp_path: Path, cmdline: str) -> List[str]:
    """How long the deadline unit of 77 s, run in `tmp_path`, sleeps; nothing is waited for."""
    for name in ("sleep", "systemctl"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}-called\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cmdline").write_text(cmdline)
    shell = deadline_script(77)
    for place in ("/proc/", "/run/", "/boot/ota/"):
        shell = shell.replace(place, f"{tmp_path}/")
    subprocess.run(["/bin/sh", "-c", shell], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    return (tmp_path / "sleep-called").read_text().splitlines()


@pytest.mark.parametrize(
    ("more", "slept"),
    [("1200", ["77", "1200"]), ("", ["77"]), ("5; reboot", ["77"]), (None, ["77"])],
)
def test_a_healthy_system_that_waits_for_others_has_more_time(
    tmp_path: Path, more: Optional[str], slept: List[str]
) -> None:
    if more is not None:
        (tmp_path / "ota-healthy").write_text(f"{more}\n")
    assert sleeps_of_deadline(tmp_path, "ota.slot=b ota.trial=1") == slept
    assert (tmp_path / "systemctl-called").read_text().strip() == "reboot -ff"


@pytest.mark.parametrize(
    ("code", "cmdline", "reboots"),
    [
        (0, "quiet ota.trial=1", False),
        (18, "quiet ota.slot=b ota.trial=1", True),
        (18, "quiet ota.slot=b", False),
        (75, "quiet ota.trial=1", False),
    ],
)
def test_only_failed_health_checks_of_a_trial_reboot_at_once(
    tmp_path: Path, code: int, cmdline: str, reboots: bool
) -> None:
    (tmp_path / "cmdline").write_text(cmdline)
    (tmp_path / "ota").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    for name in ("ota", "systemctl"):
        (tmp_path / name).chmod(0o755)
    shell = script_of(COMMIT_UNIT, units()).replace("/proc/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", shell], env=environment, check=False)
    assert done.returncode == code
    assert (tmp_path / "called").exists() == reboots


def deadline_unit(deadline_s: int = 0) -> Unit:
    return next(unit for unit in units(deadline_s) if unit.name == DEADLINE_UNIT)


def deadline_script(deadline_s: int = 0) -> str:
    return script_of(DEADLINE_UNIT, units(deadline_s))


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
