"""Runs that tests fork from a loaded program are like those that a user starts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.support.bench import Ran, environment, forker, ota, ota_argv


def started(*words: object) -> Ran:
    done = subprocess.run(
        [*ota_argv(), *map(str, words)],
        capture_output=True,
        env=environment(),
        check=False,
        input=b"",
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("status", "--json"),
        ("update", "--no-such"),
        ("image", "--help"),
        ("commit",),
    ],
)
def test_a_forked_run_says_and_ends_as_a_started_one(words: Tuple[str, ...], device: Path) -> None:
    below = () if words[0].startswith("-") or "--help" in words else ("--root", device)
    assert ota(*words, *below) == started(*words, *below)


def test_what_an_interpreter_reads_only_when_it_starts_is_not_for_a_forked_run() -> None:
    assert forker().can_run(environment(), b"")
    assert not forker().can_run({**environment(), "LC_ALL": "C"}, b"")
    assert not forker().can_run({**environment(), "LD_PRELOAD": "/nothing"}, b"")
