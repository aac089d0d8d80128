"""Runs that tests fork from a loaded program are like those that a user starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Tuple

import pytest

from tests.support.bench import environment, forker, ota, started_ota


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("status",),
        ("update", "--no-such"),
        ("image", "--help"),
        ("commit",),
    ],
)
def test_a_forked_run_says_and_ends_as_a_started_one(words: Tuple[str, ...], device: Path) -> None:
    below = () if words[0].startswith("-") or "--help" in words else ("--root", device)
    assert ota(*words, *below) == started_ota(*words, *below)


def test_what_an_interpreter_reads_only_when_it_starts_is_not_for_a_forked_run() -> None:
    assert forker().can_run(environment(), b"")
    assert not forker().can_run({**environment(), "LC_ALL": "C"}, b"")
    assert not forker().can_run({**environment(), "LD_PRELOAD": "/nothing"}, b"")


def test_a_forked_run_makes_files_with_the_umask_of_who_runs_it(tmp_path: Path) -> None:
    """Else no test would tell whether `ota` depends on it."""
    before = os.umask(0o400)
    try:
        for run in (ota, started_ota):
            log = tmp_path / run.__name__
            run("status", "--root", tmp_path, "--log-file", log)
            assert stat.S_IMODE(log.stat().st_mode) == 0o200, run.__name__
    finally:
        os.umask(before)
