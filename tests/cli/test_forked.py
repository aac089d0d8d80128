"""Runs that tests fork from a loaded program are like those that a user starts."""

from __future__ import annotations

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
