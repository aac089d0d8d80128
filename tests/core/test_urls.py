"""URLs in messages: what may be a secret is not shown."""

from __future__ import annotations

import pytest

from ota_cli.core.urls import without_secrets


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
