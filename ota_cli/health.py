"""Health checks of a trial boot: the executables in `/etc/ota/health.d/`, in name order.

All must end with status 0 within their time limit; their output is kept in the report.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Tuple

from .events import Emit, Note, Phase, PhaseStarted
from .host.run import CommandFailed, run
from .model import Device

_KEPT_OUTPUT = 2000


@dataclass(frozen=True)
class HealthCheck:
    """One check that ran. `why` is empty when it passed."""

    name: str
    why: str
    output: str

    @property
    def reason(self) -> str:
        """Why this check failed the trial, in a clause, with the last line it printed."""
        lines = self.output.strip().splitlines()
        said = f", saying: {lines[-1].strip()}" if lines else ""
        return f"health check {self.name} failed: {self.why}{said}"


@dataclass(frozen=True)
class HealthReport:
    """All checks that ran, in order."""

    checks: Tuple[HealthCheck, ...]

    @property
    def failed(self) -> Tuple[HealthCheck, ...]:
        return tuple(check for check in self.checks if check.why)

    @property
    def failed_output(self) -> str:
        """What the failed checks printed, each under its name."""
        return "\n".join(f"{check.name}: {check.output.strip()}" for check in self.failed)


def run_checks(device: Device, emit: Emit) -> HealthReport:
    """Runs every check, also after one failed. One that can not be run has failed."""
    checks = []
    for path in _installed(device.root / "etc" / "ota" / "health.d"):
        emit(PhaseStarted(Phase.HEALTH, f"health check {path.name}"))
        checks.append(_run(path, device.settings.health_timeout_s))
    if not checks:
        emit(Note("no health checks are installed in /etc/ota/health.d"))
    return HealthReport(tuple(checks))


def _installed(directory: Path) -> Iterator[Path]:
    """What is meant as a check: all but hidden names and directories."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield directory
        return
    yield from (
        directory / name
        for name in names
        if not name.startswith(".") and not (directory / name).is_dir()
    )


def _run(path: Path, timeout_s: float) -> HealthCheck:
    if not path.is_file() or not os.access(path, os.X_OK):
        return HealthCheck(path.name, f"{path} is not an executable file", "")
    try:
        done = run([str(path)], timeout_s=timeout_s, ok=range(256))
    except CommandFailed as error:
        return HealthCheck(path.name, error.why, "")
    output = (done.stdout + done.stderr).decode("utf-8", "replace")[-_KEPT_OUTPUT:]
    why = f"status {done.returncode}" if done.returncode else ""
    return HealthCheck(path.name, why, output)
