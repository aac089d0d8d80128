"""URLs in messages: what may be a secret is not shown."""

from __future__ import annotations

import pytest

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
    ],
)
def test_they_are_left_out_of_urls_among_words(text: str, shown: str) -> None:
    assert redacted(text) == shown
