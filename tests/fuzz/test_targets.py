"""A bounded look at each target; `make fuzz` looks for minutes."""

from __future__ import annotations

import re
from typing import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, seeds
from tests.promises import CHECKS

#: What formats are made of, and what has broken readers of them.
_PIECES = (
    b"", b"\0", b"\n", b"\r", b"'", b'"', b"\\", b",", b"=", b":", b"[", b"]", b"{", b"}", b"#",
    b" ", b"/", b"..", b"-1", b"0", b"1e999", b"99999999999999999999", b"null", b"true", b"NaN",
    b"\xff", b"\xc2\xb2", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x1b[2J", b"&a", b"*a", b"- ",
    b"!!python/none", b"9" * 5000, b"[" * 5000, b"\\ud800",
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, name: str) -> bytes:
    """A seed with a few places replaced."""
    data = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        edges = sorted({0, len(data), *(m.start() for m in re.finditer(rb"\W", data))})
        start = draw(st.sampled_from(edges))
        length = draw(st.sampled_from([0, 1, 2, 5, 20, len(data)]))
        piece = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=6)))
        data = data[:start] + piece + data[start + length :]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_bytes_are_read_or_refused(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    looked_at = 0
    for seed in seeds(name):
        TARGETS[name](seed)
        looked_at += 1

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck),
        derandomize=True,  # `make fuzz` is for what is new
    )  # fmt: skip
    @given(st.one_of(spoilt(name), st.binary(max_size=200)))
    def look(data: bytes) -> None:
        nonlocal looked_at
        looked_at += 1
        TARGETS[name](data)

    look()
    record_property(CHECKS, looked_at)


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
