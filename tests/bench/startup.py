"""How long `ota status` takes to start, beside what every command line needs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

from tests.support.bench import installed_environment, make_device, ota

RUNS = 15


def main() -> None:
    """The start-up of `ota status` against that of the libraries every command line needs."""
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name:
        device = make_device(Path(name) / "device", [])
        assert ota("setup", "--root", device).code == 0
        status = [_program(), "status", "--root", str(device), "--json"]
        commands: Dict[str, List[str]] = {
            "python3 -c 'import click, yaml'": [sys.executable, "-c", "import click, yaml"],
            "ota status": status,
        }
        times = _interleaved(commands)
    base = times["python3 -c 'import click, yaml'"]
    for title, seconds in times.items():
        print(f"{title:34} {seconds * 1000:7.1f} ms   {seconds / base:.2f} x")


def _program() -> str:
    """The installed entry point, as a user starts it."""
    return str(Path(sys.executable).with_name("ota"))


def _interleaved(commands: Dict[str, List[str]]) -> Dict[str, float]:
    """Median wall seconds of each command, taken in turns so that noise hits all alike."""
    taken: Dict[str, List[float]] = {title: [] for title in commands}
    for _ in range(RUNS):
        for title, argv in commands.items():
            start = time.perf_counter()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=installed_environment())
            taken[title].append(time.perf_counter() - start)
    return {title: statistics.median(seconds) for title, seconds in taken.items()}
