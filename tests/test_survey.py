"""Where content of the running slot is looked for, and how much of that slot it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from ota_cli import survey
from ota_cli.core.plan import Plan, Source
from ota_cli.events import Event, Progress, silent
from ota_cli.host.tree import look_at, scan_files
from tests.support.plain_images import tables_of

#: More than are looked for at their own places first.
MANY = 150


def make(root: Path, names: List[str]) -> Path:
    """A tree of small files whose content is their number among `names`."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{number:08}")
    return root


def planned(image: Path, running: Path, standby: Path, events: List[Event]) -> Plan:
    return survey.planned(tables_of(image), standby, running, events.append, unlock=True)[0]


@pytest.fixture
def standby(tmp_path: Path) -> Path:
    (tmp_path / "standby").mkdir()
    return tmp_path / "standby"


def test_a_few_files_at_their_own_places_need_no_look_through_the_running_slot(
    tmp_path: Path, standby: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(tmp_path / "image", ["etc/conf", "usr/bin/tool"])
    running = make(tmp_path / "running", ["etc/conf", "usr/bin/tool", "usr/lib/large"])
    listed: List[str] = []
    scandir = os.scandir

    def noted(place: str) -> object:
        listed.append(str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", noted)
    plan = planned(image, running, standby, [])
    assert plan.files(Source.COPIED) == 2
    assert not [place for place in listed if place.startswith(str(running))]


@pytest.mark.parametrize("count", [3, MANY])
def test_what_lies_under_another_name_is_found_as_well(
    count: int, tmp_path: Path, standby: Path
) -> None:
    names = [f"data/{number}" for number in range(count)]
    image = make(tmp_path / "image", names)
    running = make(tmp_path / "running", [f"elsewhere/{number}" for number in range(count)])
    plan = planned(image, running, standby, [])
    assert (plan.files(Source.COPIED), plan.files(Source.DOWNLOADED)) == (count, 0)


@pytest.mark.parametrize("count", [3, MANY])
def test_files_of_other_sizes_are_not_read(count: int, tmp_path: Path, standby: Path) -> None:
    image = make(tmp_path / "image", [f"data/{number}" for number in range(count)])
    running = tmp_path / "running"
    for number in range(count):
        (running / "data").mkdir(parents=True, exist_ok=True)
        (running / f"data/{number}").write_text("another size")
    events: List[Event] = []
    plan = planned(image, running, standby, events)
    assert plan.files(Source.DOWNLOADED) == count
    assert not [event for event in events if isinstance(event, Progress) and event.done_bytes]


def test_only_what_a_scan_would_find_is_at_its_place(tmp_path: Path) -> None:
    root = make(tmp_path / "root", ["usr/lib/real", "etc/conf"])
    (root / "lib").symlink_to("usr/lib")
    (root / "etc/link").symlink_to("conf")
    os.mkfifo(root / "etc/pipe")
    asked = ["/usr/lib/real", "/lib/real", "/etc/link", "/etc/pipe", "/etc", "/gone", "/etc/conf/x"]
    assert list(look_at(root, asked).paths) == ["/usr/lib/real"]
    assert {*look_at(root, ["/usr/lib/real", "/etc/conf"]).paths} == {
        *scan_files(root, silent).paths
    }


def test_a_scan_can_be_for_some_sizes_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12345")
    (tmp_path / "b").write_text("123")
    assert list(scan_files(tmp_path, silent, {3, 4}).paths) == ["/b"]
