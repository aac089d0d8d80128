"""Health checks of a trial: one that can not be run has failed, and it is told which."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Server
from tests.support.bench import ota


def without_interpreter(path: Path) -> None:
    path.write_text("no interpreter\n")
    path.chmod(0o755)


def empty(path: Path) -> None:
    path.touch(0o755)


def not_executable(path: Path) -> None:
    path.write_text("#!/bin/sh\n")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def with_missing_interpreter(path: Path) -> None:
    path.write_text("#!/no/such/shell\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "make", [without_interpreter, empty, not_executable, dangling, with_missing_interpreter]
)
def test_a_check_that_can_not_be_run_fails_the_trial_with_its_name(
    device: Path, server: Server, make: Callable[[Path], None]
) -> None:
    checks = device / "etc/ota/health.d"
    checks.mkdir()
    make(checks / "10-odd")
    at = ["--version", f"{server.url}v2/", "--cacert", server.cacert, "--root", device]
    assert ota("update", *at).code == 0
    assert next_boot(probe(device)).slot == "b"
    ran = ota("commit", "--root", device)
    assert ran.code == 18
    assert "10-odd" in ran.err
    assert next_boot(probe(device)).slot == "a"
    assert "10-odd" in ota("status", "--root", device, "--json").result["verdict"]["text"]


def test_a_file_in_place_of_the_directory_of_checks_is_not_no_checks(
    device: Path, server: Server
) -> None:
    (device / "etc/ota/health.d").write_text("")
    at = ["--version", f"{server.url}v2/", "--cacert", server.cacert, "--root", device]
    assert ota("update", *at).code == 0
    assert next_boot(probe(device)).slot == "b"
    assert ota("commit", "--root", device).code == 18


def test_what_a_failed_check_printed_is_told_after_the_fall_back(
    device: Path, server: Server
) -> None:
    check = device / "etc/ota/health.d/10-camera"
    check.parent.mkdir()
    check.write_text("#!/bin/sh\necho looking\necho no camera >&2\nexit 3\n")
    check.chmod(0o755)
    at = ["--version", f"{server.url}v2/", "--cacert", server.cacert, "--root", device]
    assert ota("update", *at).code == 0
    assert next_boot(probe(device)).slot == "b"
    ran = ota("commit", "--root", device)
    why = "health check 10-camera failed: status 3, saying: no camera"
    assert why in ran.err
    assert next_boot(probe(device)).slot == "a"
    found = ota("status", "--root", device, "--json").result
    assert why in found["verdict"]["text"]
    assert found["last_update"]["output"] == "10-camera: looking\nno camera"
