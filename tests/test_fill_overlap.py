"""Copies and downloads go on beside each other, and the first failure of either ends the other."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Callable, Generator, List

import pytest

from ota_cli.core.plan import FileStep, ManySteps
from ota_cli.errors import NoSpace, SlotUnusable, Unreachable
from ota_cli.fill import Fetch, Filled
from ota_cli.host import content
from tests.support import plain_images
from tests.support.plain_images import fetch_from, tables_of
from tests.support.trees import snapshot

PATIENCE_S = 30
Fetched = Generator[FileStep, None, None]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """An image half of which the running slot has, and an empty standby slot."""
    for name in ("image", "running", "standby"):
        (tmp_path / name).mkdir()
    for number in range(300):
        data = b"%d" % number * 10
        (tmp_path / "image" / f"{number}").write_bytes(data)
        if number % 2:
            (tmp_path / "running" / f"{number}").write_bytes(data)
    return tmp_path


def filled(trees: Path, fetch: Fetch) -> Filled:
    tables = tables_of(trees / "image")
    return plain_images.filled(tables, trees / "standby", trees / "running", fetch)


def hold_copies(monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> List[bool]:
    """Makes each copy wait for `until`; the list grows by whether it came, for each copy."""
    waited: List[bool] = []
    real = content.copy_hashed

    def copy(source: str, descriptor: int, arrived: content.Arrived) -> content.Copied:
        waited.append(until.wait(PATIENCE_S))
        return real(source, descriptor, arrived)

    monkeypatch.setattr(content, "copy_hashed", copy)
    return waited


def test_downloads_arrive_while_nothing_is_copied_yet(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()
    waited = hold_copies(monkeypatch, arrived)

    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        yield from fetch_from(trees / "image", [])(steps, directory, attend)
        arrived.set()

    filled(trees, fetch)
    assert waited
    assert all(waited), "no copy had to wait in vain"
    assert snapshot(trees / "standby") == snapshot(trees / "image")


def test_copies_are_made_while_a_download_waits_for_the_server(trees: Path) -> None:
    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        made = threading.Event()
        for _ in range(PATIENCE_S * 100):
            if (trees / "standby" / "299").exists():
                break
            made.wait(0.01)
        else:
            raise AssertionError("nothing was copied while the download waited")
        yield from fetch_from(trees / "image", [])(steps, directory, attend)

    filled(trees, fetch)
    assert snapshot(trees / "standby") == snapshot(trees / "image")


def test_a_download_that_fails_ends_the_copying(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()
    copied = hold_copies(monkeypatch, failed)

    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        try:
            yield from ()
            raise Unreachable("the server is gone", hint="wait")
        finally:
            threading.Timer(0.2, failed.set).start()

    with pytest.raises(Unreachable):
        filled(trees, fetch)
    assert len(copied) < 10, "those under way are finished, no more are begun"


def test_a_copy_that_fails_ends_the_downloads(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: List[str] = []
    failing = threading.Event()

    def copy(source: str, descriptor: int, arrived: content.Arrived) -> content.Copied:
        failing.set()
        raise OSError(errno.ENOSPC, "No space left on device", "the standby slot")

    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        for step in fetch_from(trees / "image", fetched)(steps, directory, attend):
            yield step
            failing.wait(PATIENCE_S)
            threading.Event().wait(0.05)  # a server that is not so fast

    monkeypatch.setattr(content, "copy_hashed", copy)
    with pytest.raises(NoSpace):
        filled(trees, fetch)
    assert len(fetched) < 100


def test_where_the_slot_fails_no_download_goes_on_in_it(trees: Path) -> None:
    """Whoever unmounts the slot then must not find it busy."""
    ended: List[bool] = []

    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        try:
            yield from steps  # none is there to be put in its place
        finally:
            ended.append(True)

    with pytest.raises(SlotUnusable) as caught:
        filled(trees, fetch)
    assert ended, caught


def test_a_large_copy_is_not_waited_for_when_the_download_fails(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def copy(source: str, descriptor: int, arrived: content.Arrived) -> content.Copied:
        begun.set()
        for _ in range(PATIENCE_S * 100):
            try:
                arrived(0)
            except content.Stopped:
                ended.set()
                raise
            threading.Event().wait(0.01)
        raise AssertionError("the copy is as long as the disk wants")

    def fetch(steps: ManySteps, directory: Path, attend: Callable[[], None]) -> Fetched:
        yield from ()
        begun.wait(PATIENCE_S)
        raise Unreachable("the server is gone", hint="wait")

    monkeypatch.setattr(content, "copy_hashed", copy)
    with pytest.raises(Unreachable):
        filled(trees, fetch)
    assert ended.is_set()
