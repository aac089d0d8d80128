from __future__ import annotations

import pytest

from ota_cli.core.jetson import Loader
from ota_cli.core.trialmark import MAX_MARK_BYTES, read_words, trial_words
from ota_cli.errors import BootRefused

LOADER = Loader(False, "a", "a", {"a": True, "b": True})


def test_what_is_written_is_read_back() -> None:
    words = trial_words("b", "4f2a", 600, LOADER, "a")
    assert read_words(f"{words}\n".encode()) == words
    assert words.endswith("ota.back=rootfs:0")


@pytest.mark.parametrize("data", [b"", b"\n", b"ota.slot=b", b"ota.trial=1 ota.slot=a", b"\0" * 64])
def test_a_damaged_mark_says_only_that_it_is_a_trial(data: bytes) -> None:
    assert read_words(data) == "ota.trial=1"


@pytest.mark.parametrize("txn", ["x" * MAX_MARK_BYTES, "two words", "line\n", "\u00e9"])
def test_a_mark_that_could_not_be_read_back_is_not_written(txn: str) -> None:
    with pytest.raises(BootRefused):
        trial_words("b", txn, 600, LOADER, "a")
