"""URLs in messages: what may be a secret is not shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.core.urls import redacted, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/v2/", "https://host/v2/"),
        ("https://user:secret@host/v2", "https://...@host/v2"),
        ("https://user:se@cr@et@host/v2", "https://...@host/v2"),
        ("user:secret@host/v2", "...@host/v2"),
        ("https://host /v2/?token=secret", "https://host /v2/"),
        ("https://host/v2#secret", "https://host/v2"),
        ("https://host/?u=a://b@secret", "https://host/"),
        ("2026.11", "2026.11"),
        ("\x1b[31m", "\\x1b[31m"),
    ],
)
def test_passwords_and_queries_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing to hide: 2026.11, at 10:00", "nothing to hide: 2026.11, at 10:00"),
        ("https://u:p@host/v2/: no", "https://...@host/v2/: no"),
        ("see https://host/v2?key=secret, and wait.", "see https://host/v2, and wait."),
        ("(http://u:p'x@proxy:80)", "(http://...@proxy:80)"),
        ("one https://a/?b then https://c#d.", "one https://a/ then https://c."),
        ('https://me:pa"ss@host/x', "https://...@host/x"),
        ('at "https://h/?a="secret"": no', 'at "https://h/": no'),
        ("https://me:pa?ss@host/x is not usable", "https://... is not usable"),
    ],
)
def test_they_are_left_out_of_urls_among_words(text: str, shown: str) -> None:
    assert redacted(text) == shown


#: What nobody else's text has, at both ends of what must not come out.
_SECRETS = st.text(
    st.one_of(st.sampled_from("\"'<>`,;:.)/?#@%&=\\"), st.characters()), max_size=20
).map(lambda text: re.sub("[ \t\r\n]", "", f"Q{text}Z"))
_URLS = st.sampled_from(
    ["https://me:{}@host/v2/", "http://me:{}@host:80", "https://host/v2/?key={}", "https://host#{}",
     "https://me:x@host:1/a?key={}&more=1", "https://me:{}@host/v2/?u=a@b"]
)  # fmt: skip


@given(_SECRETS, _URLS, st.sampled_from(["", "it is ", "(", '"', "see a://b@c, ", "x" * 50]),
       st.sampled_from(["", " there", ")", '".', ": no", ", https://host/?b"]),
       st.integers(1, 150))  # fmt: skip
def test_a_secret_never_comes_out(
    secret: str, url: str, before: str, after: str, at_most: int
) -> None:
    address = url.format(secret)
    for shown in (
        without_secrets(address),
        redacted(f"{before}{address}{after}"),
        redacted(f"{before}{address}{after}", at_most),
    ):
        assert "Q" not in shown
        assert "Z" not in shown


def test_what_is_cut_short_says_so() -> None:
    assert redacted("a long story", 6) == "a long..."
    assert redacted("at https://me:secret@host", 15) == "at https://..."
    assert redacted("a story", 7) == "a story"


@pytest.mark.parametrize("part", ["a", "a://", "a://b@", "://?", "a:?@"])
def test_long_texts_are_no_burden(part: str) -> None:
    """A quadratic search would take hours."""
    text = part * 10**6
    assert len(redacted(text)) <= len(text)
