"""Reading local content leaves the page cache to those who work on the device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import List, Optional

import pytest

from ota_cli.events import silent
from ota_cli.host.content import (
    LARGE_BYTES,
    copy_hashed,
    data_of,
    digest_files,
    digest_of,
    drop_from_cache,
    in_turn,
)

PATIENCE_S = 30


def written(path: Path, size: int) -> Path:
    """A file of zeros that is on the disk, and in the page cache."""
    with path.open("wb") as file:
        file.write(bytes(size))
        os.fsync(file.fileno())
    return path


def cached_bytes(path: Path) -> int:
    argv = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    if shutil.which("fincore") is None:
        pytest.skip("fincore (util-linux) tells what is in the page cache; not installed here")
    file = written(tmp_path / "large", LARGE_BYTES)
    assert cached_bytes(file) == LARGE_BYTES
    drop_from_cache(str(file))
    if cached_bytes(file):
        pytest.skip("this file system has no disk below its cache")
    return file


def test_a_large_file_that_was_hashed_does_not_stay_in_the_page_cache(large: Path) -> None:
    digest_of(str(large))
    assert cached_bytes(large) == 0


def test_a_large_file_that_was_copied_does_not_stay_in_the_page_cache(
    large: Path, tmp_path: Path
) -> None:
    with (tmp_path / "copy").open("wb") as copy:
        assert copy_hashed(str(large), copy.fileno()).size == LARGE_BYTES
    assert cached_bytes(large) == 0


def test_a_large_file_that_was_carried_over_does_not_stay_in_the_page_cache(large: Path) -> None:
    with large.open("rb") as file:
        assert sum(len(piece) for _, piece in data_of(file.fileno())) == LARGE_BYTES
    assert cached_bytes(large) == 0


def test_a_small_file_stays_there_for_whoever_uses_it(large: Path, tmp_path: Path) -> None:
    small = written(tmp_path / "small", LARGE_BYTES - 1)
    digest_of(str(small))
    assert cached_bytes(small) >= LARGE_BYTES - 1


class Interrupted(Exception):
    """A signal came."""


def test_an_interrupt_ends_the_reading_of_a_file_however_large(
    tmp_path: Path,
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 34)
    read: List[int] = []
    main = threading.get_ident()

    def arrived(count: int) -> None:
        if not read:
            signal.pthread_kill(main, signal.SIGUSR1)
        read.append(count)

    def interrupt(number: int, frame: Optional[FrameType]) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        digests = digest_files(tmp_path, [("/large", 1 << 34)], silent, arrived)
        with pytest.raises(Interrupted):
            next(digests)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert 0 < sum(read) < 1 << 33


def test_nothing_is_begun_for_somebody_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    stop = threading.Event()
    begun: List[int] = []

    def work(numbers: List[int]) -> None:
        begun.append(numbers[0])
        if numbers[0]:  # the first is what somebody waits for
            stop.wait(PATIENCE_S)

    made = in_turn(work, range(99), 1, stop)
    next(made)
    made.close()
    assert stop.is_set()
    assert max(begun) <= 2  # what both threads had at hand
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
