"""What is read of the slots before a fill, and what the index saves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from ota_cli.core.delta import make_plan
from ota_cli.core.plan import Source
from ota_cli.events import Event, Progress, Warned
from ota_cli.fill import fill
from ota_cli.host.index import Indexed, write_index
from ota_cli.host.tree import stat_at
from ota_cli.model import Tables, VerifyLocal
from ota_cli.survey import Survey, survey
from tests.conftest import Server
from tests.support.bench import Ran, ota
from tests.support.plain_images import bring, fetch_from, tables_of
from tests.support.trees import snapshot

CONTENTS = {
    "etc/conf": b"a" * 3000,
    "usr/bin/tool": b"b" * 5000,
    "boot/vmlinuz-6.1.0-1": b"k" * 700,
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The tree of an image; beside it, a standby slot that holds it and has an index."""
    root, standby = tmp_path / "image", tmp_path / "standby"
    for name, data in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    standby.mkdir()
    bring(root, standby)
    keep_index(standby, tables_of(root))
    return root


def keep_index(slot: Path, tables: Tables) -> None:
    rows = [
        Indexed(entry.path, stat_at(slot, entry.path), entry.digest) for entry in tables.regulars
    ]
    write_index(slot / ".ota", rows)


def looked_at(
    tables: Tables, standby: Path, running: Path, level: VerifyLocal, events: List[Event]
) -> Survey:
    source = running if running.exists() else None
    return survey(tables.regulars, standby, source, events.append, unlock=True, level=level)


def read_bytes(events: List[Event]) -> int:
    """How much the survey read: each round of hashing tells its last position."""
    positions = [event.done_bytes for event in events if isinstance(event, Progress)]
    ends = [here for here, there in zip(positions, [*positions[1:], 0]) if there < here]
    return sum(ends)


def test_the_full_level_reads_all_that_could_be_kept(image: Path, tmp_path: Path) -> None:
    events: List[Event] = []
    looked_at(tables_of(image), tmp_path / "standby", tmp_path / "none", "full", events)
    assert read_bytes(events) == sum(map(len, CONTENTS.values()))


def test_the_stat_level_reads_what_changed_and_what_boots(image: Path, tmp_path: Path) -> None:
    standby = tmp_path / "standby"
    (standby / "etc/conf").write_bytes(b"z" * 3000)
    events: List[Event] = []
    seen = looked_at(tables_of(image), standby, tmp_path / "none", "stat", events)
    assert read_bytes(events) == 3000 + 700
    plan = make_plan(tables_of(image), seen.standby, seen.content)
    assert [step.entry.path for step in plan.downloads] == ["/etc/conf"]
    assert plan.files(Source.KEPT) == 2


@pytest.mark.parametrize(("level", "source"), [("full", Source.MOVED), ("stat", Source.DUPLICATED)])
def test_what_was_not_read_is_left_in_place_but_never_moved(
    tmp_path: Path, level: VerifyLocal, source: Source
) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    for root, names in ((image, "ac"), (standby, "ab")):
        root.mkdir()
        for name in names:
            (root / name).write_text("the same content")
    os.link(image / "a", image / "b")
    (standby / ".ota").mkdir()
    tables = tables_of(image)
    index = [(name, stat_at(standby, name), tables.regulars[0].digest) for name in ("/a", "/b")]
    write_index(standby / ".ota", [Indexed(*row) for row in index])

    seen = looked_at(tables, standby, tmp_path / "none", level, [])

    plan = make_plan(tables, seen.standby, seen.content)
    assert [plan.files(Source.KEPT), plan.files(source)] == [1, 1]


def test_what_a_running_slot_remembers_is_copied_with_one_read(image: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    events: List[Event] = []
    seen = looked_at(tables_of(image), fresh, tmp_path / "standby", "full", events)
    assert read_bytes(events) == 0
    plan = make_plan(tables_of(image), seen.standby, seen.content)
    assert plan.files(Source.COPIED) == len(CONTENTS)


def test_a_copy_that_is_not_what_was_remembered_is_downloaded(image: Path, tmp_path: Path) -> None:
    running, fresh = tmp_path / "standby", tmp_path / "fresh"
    fresh.mkdir()
    (running / "usr/bin/tool").write_bytes(b"B" * 5000)
    keep_index(running, tables_of(image))  # says that the tool still is what it was
    tables = tables_of(image)
    seen = looked_at(tables, fresh, running, "full", [])
    plan = make_plan(tables, seen.standby, seen.content)
    fetched: List[str] = []
    events: List[Event] = []

    fetch = fetch_from(image, fetched)

    fill(fresh, running, plan, seen.standby, None, fetch, events.append, is_roomy=True)

    assert fetched == ["/usr/bin/tool"]
    assert any(isinstance(event, Warned) and "/usr/bin/tool" in event.text for event in events)
    assert snapshot(fresh) == snapshot(image)


def update(device: Path, server: Server, *words: str) -> Ran:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", "--root", device, *at, "--json", "--stage-only", *words)
    assert done.code == 0, done.err
    return done


def test_the_report_and_the_record_say_how_much_was_read(device: Path, server: Server) -> None:
    (device / "etc/ota/ota.yml").write_text("verify_local: stat\n")
    first = update(device, server)
    assert first.result["verify_local"] == "full"  # nobody knows who had that slot
    second = update(device, server)
    assert second.result["verify_local"] == "stat"
    assert second.result["files"]["kept"] == second.result["files"]["total"]
    record = (device / "boot/ota/state.json").read_text()
    assert '"verify_local": "stat"' in record


def test_the_full_level_is_the_default(device: Path, server: Server) -> None:
    update(device, server)
    assert update(device, server).result["verify_local"] == "full"


def test_after_a_fill_that_was_broken_off_everything_is_read(device: Path, server: Server) -> None:
    (device / "etc/ota/ota.yml").write_text("verify_local: stat\n")
    update(device, server)
    name = device / "slots/a/etc/hostname"
    kept = name.read_bytes()
    name.unlink()
    name.mkdir()  # can not be carried over, which comes out when the slot is filled
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", "--root", device, *at, "--stage-only").code != 0
    name.rmdir()
    name.write_bytes(kept)

    assert update(device, server).result["verify_local"] == "full"
    assert update(device, server).result["verify_local"] == "stat"
