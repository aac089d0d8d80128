"""`ota doctor` finds what is not well, and says what mends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import pytest

from ota_cli import __version__, doctor
from ota_cli.core.outcome import Verdict
from ota_cli.doctor import clock_skew_s, findings_of
from ota_cli.fleet.report import Ecu
from ota_cli.probe import probe
from ota_cli.status import Status
from tests.support.bench import Ran, ota

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=timezone.utc)


def examine(device: Path) -> Tuple[Ran, Dict[str, Any]]:
    done = ota("doctor", "--root", device, "--json")
    return done, {each["name"]: each for each in done.result["findings"]}


@pytest.mark.parametrize("which", ["device", "grub_device"])
def test_a_device_that_is_well_has_no_findings(which: str, request: Any) -> None:
    device: Path = request.getfixturevalue(which)
    done, findings = examine(device)
    assert done.code == 0, done.out
    assert list(findings) == [
        "running slot", "slots", "mounts", "boot partition", "boot order", "boot files",
        "boot space", "watchdog", "anchors", "clock", "proxy",
    ]  # fmt: skip
    assert all(each["ok"] for each in findings.values())


def remove_anchors(device: Path) -> None:
    for path in (device / "etc/ota/certs").iterdir():
        path.unlink()


def damage_settings(device: Path) -> None:
    (device / "boot/ota/bootenv").write_bytes(b"x" * 1024)


def forget_rule(device: Path) -> None:
    (device / "boot/grub/custom.cfg").unlink()


def damage_kernel(device: Path) -> None:
    kernel = device / "boot/ota/slot-a/kernel"
    kernel.write_bytes(kernel.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("harm", "name", "code", "hint"),
    [
        (remove_anchors, "anchors", 78, "/etc/ota/certs"),
        (damage_settings, "boot order", 15, "ota setup"),
        (forget_rule, "boot order", 15, "ota setup"),
        (damage_kernel, "boot files", 14, "ota setup --repair"),
    ],
)
def test_what_is_not_well_is_told_with_what_mends_it(
    grub_device: Path, harm: Callable[[Path], None], name: str, code: int, hint: str
) -> None:
    harm(grub_device)
    done, findings = examine(grub_device)
    assert done.code == code
    assert not findings[name]["ok"]
    assert hint in findings[name]["hint"]
    shown = ota("doctor", "--root", grub_device)
    assert "NOT WELL: " in shown.out
    assert hint in shown.out


def test_a_machine_is_told_of_its_watchdog_and_is_well_without_one(grub_device: Path) -> None:
    this_machine = replace(probe(grub_device), root=Path("/"))
    found = {each.name: each for each in doctor.examine(this_machine, with_ecus=False)}
    assert found["watchdog"].trouble is None
    assert "hangs" in found["watchdog"].text


@pytest.mark.parametrize(
    ("there", "skew_s"),
    [
        ("2026-11-28T12:02:00Z", 120.0),
        ("2026-11-28T11:59:00Z", -60.0),
        ("", None),
        ("2026-11-28", None),
    ],
)
def test_clocks_are_compared(there: str, skew_s: Optional[float]) -> None:
    assert clock_skew_s(there, NOW) == skew_s


def test_an_ecu_with_another_ota_and_another_time_is_told() -> None:
    status = Status("p1", "a", "a", {}, Verdict("confirmed", ""), None, "")
    ecu = Ecu("p1", "10.0.0.2", status, ota_version="0.0.1", time="2020-01-01T00:00:00Z")
    version, clock = findings_of(ecu)
    assert f"its ota is 0.0.1, this one {__version__}" in version.text
    assert "behind this one" in clock.text


def test_a_machine_that_was_never_set_up_is_examined_as_well(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    done, findings = examine(tmp_path)
    assert done.code == 14, done.out
    assert not findings["running slot"]["ok"]
    assert not findings["boot partition"]["ok"]
    assert findings["slots"]["text"] == "none are known"


@pytest.mark.parametrize(
    ("told", "is_well"),
    [("gateway: true\n", True), ("upper_ota_proxy: http://10.0.0.9:8082\n", True), ("", False)],
)
def test_ecus_below_that_could_not_download_are_told(
    device: Path, told: str, is_well: bool
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    below = "ip_addr: 10.0.0.1\nsecondaries:\n- {ecu_id: p1, ip_addr: 10.0.0.2}\n"
    info.write_text(f"{info.read_text()}{below}")
    (device / "boot/ota/proxy_info.yml").write_text(f"enable_local_ota_proxy: true\n{told}")
    done = ota("doctor", "--root", device, "--no-ecus")
    assert ("can not download" not in done.out) == is_well, done.out
