"""Text for people: safe to print, and broken between words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ota_cli.core.text import printable, wrapped

WORDS = st.lists(st.text("ab-/`.", min_size=1, max_size=30), min_size=1, max_size=30)


@given(WORDS, st.integers(20, 100))
def test_no_word_is_lost_or_broken_and_lines_leave_the_last_column_free(
    words: list[str], width: int
) -> None:
    lines = wrapped(" ".join(words), width)
    assert " ".join(lines).split() == words
    assert all(len(line) < width or " " not in line for line in lines)


@given(st.text())
def test_without_a_terminal_or_with_a_hopeless_one_text_stays_in_one_line(text: str) -> None:
    assert wrapped(text, None) == [text]
    assert wrapped(text, 0) == [text]
    assert wrapped(text, 7) == [text]


@given(st.text())
def test_what_is_printable_is_so_for_terminals_and_logs(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() or all(c.isprintable() or c.isspace() for c in shown)
    assert "\n" not in shown
    assert "\x1b" not in shown
