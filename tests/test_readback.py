"""What was brought is read again from the disk: large files at once, the others at the end.

A disk that does not keep what it was given is simulated: files change as they leave the cache.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Callable, Generator, List

import pytest

from ota_cli import readback
from ota_cli.core.plan import FileStep, ManySteps
from ota_cli.entries import Digest
from ota_cli.errors import SlotUnusable
from ota_cli.events import Emit, Event, Note, Progress, silent
from ota_cli.fill import Fetch, Filled, fill
from ota_cli.host.content import drop_from_cache
from ota_cli.readback import (
    LARGE_BYTES,
    flush_and_read_back,
    read_back_bytes,
    reads_copies,
    syncfs_tells,
)
from ota_cli.survey import planned
from tests.conftest import Server
from tests.support import plain_images
from tests.support.bench import ota
from tests.support.plain_images import fetch_from, tables_of
from tests.support.trees import snapshot

PATIENCE_S = 30
LARGE, SMALL = "a-large", "b-small"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """An image of a large and a small file, and an empty slot."""
    for name in ("image", "standby"):
        (tmp_path / name).mkdir()
    (tmp_path / "image" / LARGE).write_bytes(b"x" * LARGE_BYTES)
    (tmp_path / "image" / SMALL).write_bytes(b"small")
    return tmp_path


def filled(trees: Path, fetch: Fetch) -> Filled:
    return plain_images.filled(tables_of(trees / "image"), trees / "standby", None, fetch)


def forgetting(monkeypatch: pytest.MonkeyPatch, name: str) -> List[str]:
    """The disk damages the file `name`; the list grows by each file that is to come from it."""
    dropped: List[str] = []

    def drop(path: str) -> None:
        dropped.append(Path(path).name)
        if path.endswith(name):
            with open(path, "r+b") as file:
                file.write(b"?")
        drop_from_cache(path)

    monkeypatch.setattr(readback, "drop_from_cache", drop)
    return dropped


def test_a_large_file_is_read_back_while_the_next_is_on_its_way(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, waited = threading.Event(), []
    real = readback.digest_of

    def digest_of(path: str) -> Digest:
        digest = real(path)
        read.set()
        return digest

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        for step in fetch_from(trees / "image", [])(steps, directory, attend):
            yield step
            waited.append(read.wait(PATIENCE_S))

    monkeypatch.setattr(readback, "digest_of", digest_of)
    assert filled(trees, fetch).proven == {f"/{LARGE}"}
    assert waited == [True, True]
    assert snapshot(trees / "standby") == snapshot(trees / "image")


def test_a_disk_that_forgets_a_large_file_ends_the_downloads(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting(monkeypatch, LARGE)

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        yield from fetch_from(trees / "image", [])([steps[0]], directory, attend)
        for _ in range(PATIENCE_S * 100):
            attend()
            threading.Event().wait(0.01)
        raise AssertionError("nobody was told of the disk")

    with pytest.raises(SlotUnusable, match=f"/{LARGE} does not read back") as failure:
        filled(trees, fetch)
    assert failure.value.slug == "read-back"


def test_a_disk_that_forgets_the_last_large_file_fails_the_fill(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting(monkeypatch, LARGE)
    (trees / "image" / SMALL).unlink()
    with pytest.raises(SlotUnusable, match=f"/{LARGE} does not read back"):
        filled(trees, fetch_from(trees / "image", []))


def test_a_disk_that_forgets_a_small_file_fails_the_reading_back(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting(monkeypatch, SMALL)
    done = filled(trees, fetch_from(trees / "image", []))
    with pytest.raises(SlotUnusable, match=f"/{SMALL} does not read back"):
        read_back(trees, done)


def test_each_file_that_was_brought_is_read_back_once(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = forgetting(monkeypatch, "none of them")
    done = filled(trees, fetch_from(trees / "image", []))
    assert dropped == [LARGE]
    read_back(trees, done)
    assert dropped == [LARGE, SMALL]


@pytest.mark.parametrize("copies", [True, False])
def test_copies_are_read_back_where_that_is_asked_for_and_counted(
    trees: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    (trees / "standby/moved").write_bytes(b"content that moves")
    for name, source in (("c-moved", "standby/moved"), ("d-again", f"image/{SMALL}")):
        (trees / "image" / name).write_bytes((trees / source).read_bytes())
    dropped, counted = forgetting(monkeypatch, "none of them"), []
    tables = tables_of(trees / "image")
    running = trees / "running"
    running.mkdir()
    for name in (LARGE, SMALL):
        (running / name).write_bytes((trees / "image" / name).read_bytes())
    done = plain_images.filled(tables, trees / "standby", running, fetch_from(trees / "image", []))

    def count(event: Event) -> None:
        if isinstance(event, Progress):
            counted.append(event.total_bytes)

    read_back(trees, done, count, copies=copies)
    names = {LARGE, SMALL, "c-moved", "d-again"} if copies else set()
    assert set(dropped) == names
    total = sum((trees / "image" / name).stat().st_size for name in names)
    assert read_back_bytes(tables.regulars, done.plan, copies=copies) == total
    assert set(counted) == {total}


def test_a_disk_that_forgets_a_copy_is_found_by_reading_copies_back(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting(monkeypatch, SMALL)
    tables = tables_of(trees / "image")
    fetch = fetch_from(trees / "image", [])
    done = plain_images.filled(tables, trees / "standby", trees / "image", fetch)
    with pytest.raises(SlotUnusable, match=f"/{SMALL} does not read back"):
        read_back(trees, done, copies=True)


def test_a_copy_that_had_to_be_downloaded_is_read_back_like_all_that_is(
    trees: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, standby = trees / "running", trees / "standby"
    shutil.copytree(trees / "image", running)
    plan, before = planned(tables_of(trees / "image"), standby, running, silent, unlock=True)
    (running / SMALL).write_bytes(b"other")
    dropped = forgetting(monkeypatch, SMALL)
    fetch = fetch_from(trees / "image", [])
    done = fill(standby, running, plan, before, None, fetch, silent, is_roomy=True)
    with pytest.raises(SlotUnusable, match=f"/{SMALL} does not read back"):
        read_back(trees, done)
    assert dropped == [SMALL]


@pytest.mark.parametrize(
    ("release", "tells"),
    [
        ("4.9.337-tegra", False), ("5.4.0-150-generic", False), ("5.8.0", True),
        ("5.15.0-91-generic", True), ("6.1", True), ("10.0.1", True), ("of my own", False),
    ],
)  # fmt: skip
def test_old_kernels_do_not_tell_of_copies_that_were_not_written(release: str, tells: bool) -> None:
    assert syncfs_tells(release) is tells


def test_on_old_kernels_copies_are_read_back_unless_that_is_not_wanted() -> None:
    said: List[Event] = []
    assert reads_copies(None, "5.4.0", said.append)
    [note] = said
    assert isinstance(note, Note)
    assert "Linux 5.4.0 does not tell of writes that failed" in note.text
    assert not reads_copies(None, "6.1.0", said.append)
    assert not reads_copies(False, "5.4.0", said.append)
    assert reads_copies(True, "6.1.0", said.append)
    assert said == [note]


def test_an_update_reads_copies_back_by_option_or_by_configuration(
    device: Path, server: Server
) -> None:
    to = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--stage-only")

    def update(*words: str) -> object:
        shutil.rmtree(device / "slots/b")
        done = ota("update", "--root", device, *to, *words, "--json")
        assert done.code == 0, done.out
        return done.result["verify_writes"]

    assert update("--verify-writes") is True
    (device / "etc/ota/ota.yml").write_text("verify_writes: true\n")
    assert update() is True
    (device / "etc/ota/ota.yml").write_text("verify_writes: false\n")
    assert update() is False
    assert update("--verify-writes") is True


def read_back(trees: Path, done: Filled, emit: Emit = silent, *, copies: bool = False) -> None:
    files = tables_of(trees / "image").regulars
    flush_and_read_back(
        trees / "standby", files, done.plan, (), done.proven, emit,
        fallen_back=done.fallen_back, copies=copies,
    )  # fmt: skip
