"""The list of what broke for others is whole and names real tests."""

from __future__ import annotations

import re

from tests.support.bench import BASE

LESSONS = 108
_LIST = BASE / "tests/LESSONS.md"


def test_every_lesson_has_a_line_and_every_test_it_names_is_there() -> None:
    text = _LIST.read_text("utf-8")
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, LESSONS + 1))
    files = (BASE / "tests").rglob("test_*.py")
    there = set(
        re.findall(
            r"^def (test_\w+)", "\n".join(path.read_text("utf-8") for path in files), re.MULTILINE
        )
    )
    assert set(re.findall(r"`(test_\w+)`", text)) - there == set()


def test_every_lesson_names_a_test_or_says_why_its_design_needs_none() -> None:
    lines = [line for line in _LIST.read_text("utf-8").splitlines() if re.match(r"\d+\. ", line)]
    assert [line for line in lines if "`test_" not in line and " by design " not in line] == []
