"""Plan and fill: whatever was in the slot, it ends as exactly the image."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, Generator, List, Sequence, Tuple

import pytest

from ota_cli.core.delta import make_plan
from ota_cli.core.local import Content, LocalTree
from ota_cli.core.plan import FileStep, ManySteps, Source
from ota_cli.errors import SlotUnusable
from ota_cli.events import Event, Warned, silent
from ota_cli.fill import fill
from ota_cli.host.tree import scan
from ota_cli.packed import PackedFiles
from ota_cli.survey import planned
from tests.support import plain_images
from tests.support.plain_images import bring, fetch_from, tables_of
from tests.support.trees import random_tree, snapshot


@pytest.fixture(autouse=True, params=[True, False], ids=["roomy", "tight"])
def is_roomy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the slots have room for what is new beside what goes."""
    monkeypatch.setattr(plain_images, "IS_ROOMY", request.param)
    return bool(request.param)


@pytest.mark.parametrize("seed", range(60))
def test_any_tree_becomes_any_other_tree(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for name in ("image", "standby", "running"):
        random_tree(tmp_path / name, rng)
    running = snapshot(tmp_path / "running", mtimes=True)

    bring(tmp_path / "image", tmp_path / "standby", tmp_path / "running")

    assert snapshot(tmp_path / "standby") == snapshot(tmp_path / "image")
    assert snapshot(tmp_path / "running", mtimes=True) == running


@pytest.mark.parametrize("seed", range(10))
def test_a_second_fill_writes_nothing(tmp_path: Path, seed: int) -> None:
    random_tree(tmp_path / "image", random.Random(seed))
    (tmp_path / "standby").mkdir()
    bring(tmp_path / "image", tmp_path / "standby")
    before = {p: os.lstat(p).st_ctime_ns for p in (tmp_path / "standby").rglob("[!.]*")}

    again = bring(tmp_path / "image", tmp_path / "standby")

    assert again.fetched == []
    assert {step.source for step in again.plan.steps} <= {Source.KEPT}
    files = [p for p in before if not p.is_dir()]
    assert {p: os.lstat(p).st_ctime_ns for p in files} == {p: before[p] for p in files}


def test_content_the_device_has_is_never_fetched(tmp_path: Path) -> None:
    image, standby, running = (tmp_path / n for n in ("image", "standby", "running"))
    for tree in (image, standby, running):
        tree.mkdir()
    (image / "same-name").write_bytes(b"1" * 100)
    (standby / "same-name").write_bytes(b"1" * 100)
    (image / "moved-to").write_bytes(b"2" * 100)
    (standby / "moved-from").write_bytes(b"2" * 100)
    (image / "copied").write_bytes(b"3" * 100)
    (running / "elsewhere").write_bytes(b"3" * 100)
    (image / "new").write_bytes(b"4" * 100)
    (image / "new-twin").write_bytes(b"4" * 100)

    brought = bring(image, standby, running)

    assert brought.plan.files(Source.KEPT) == 1
    assert brought.plan.files(Source.MOVED) == 1
    assert brought.plan.files(Source.COPIED) == 1
    assert len(brought.fetched) == 1, "equal content is fetched once"
    assert snapshot(standby) == snapshot(image)


@pytest.mark.parametrize("error", [errno.EUCLEAN, errno.EBADMSG, errno.EIO])
def test_what_the_disk_does_not_give_back_while_it_is_copied_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    image, standby, running = trees_with_one_file(tmp_path)
    tables, fetched, events = tables_of(image), [], []
    plan, before = planned(tables, standby, running, silent, unlock=True)
    fail_reading(running / "file", error, monkeypatch)
    fetch = fetch_from(image, fetched)
    fill(standby, running, plan, before, None, fetch, events.append, is_roomy=True)
    assert fetched == ["/file"]
    assert snapshot(standby) == snapshot(image)
    said = f"/file can not be read ({os.strerror(error)}); it is downloaded instead"
    assert Warned(said) in events


def trees_with_one_file(tmp_path: Path) -> Tuple[Path, Path, Path]:
    """An image, an empty slot, and the running one, which has the image's only file."""
    image, standby, running = (tmp_path / n for n in ("image", "standby", "running"))
    for tree in (image, standby, running):
        tree.mkdir()
    for tree in (image, running):
        (tree / "file").write_text("content")
    return image, standby, running


def fail_reading(file: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    readv = os.readv

    def failing(descriptor: int, buffers: Sequence[memoryview]) -> int:
        if os.path.samestat(os.fstat(descriptor), file.stat()):
            raise OSError(error, os.strerror(error))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", failing)


def test_what_the_new_slot_does_not_take_is_never_called_the_running_slots_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, standby, running = trees_with_one_file(tmp_path)

    def failing(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(SlotUnusable, match="the standby slot can not be written"):
        bring(image, standby, running)


def names_that_differ_in_case(image: Path) -> Path:
    """A tree of files, links and directories that a file system without case makes one."""
    for number, name in enumerate(("opt/A", "opt/a", "opt/Dir/x", "opt/dir/x", "opt/ä", "opt/Ä")):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text(f"content {number}")
    (image / "opt/Link").symlink_to("A")
    (image / "opt/link").symlink_to("a")
    return image


def test_names_that_differ_in_case_only_are_files_of_their_own(tmp_path: Path) -> None:
    image = names_that_differ_in_case(tmp_path / "image")
    (tmp_path / "standby").mkdir()
    (tmp_path / "standby/OPT").mkdir()
    (tmp_path / "standby/OPT/A").write_text("content 1")
    bring(image, tmp_path / "standby")
    assert snapshot(tmp_path / "standby") == snapshot(image)
    assert (tmp_path / "standby/opt/A").read_text() == "content 0"
    assert (tmp_path / "standby/opt/a").read_text() == "content 1"
    assert bring(image, tmp_path / "standby").fetched == []


def test_a_slot_that_does_not_tell_upper_from_lower_case_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As such a file system answers; `system/test_slots` has real ones, where the kernel has."""
    image, standby = names_that_differ_in_case(tmp_path / "image"), tmp_path / "standby"
    standby.mkdir()
    lstat = os.lstat

    def folding(path: str, **more: int) -> os.stat_result:
        directory, name = os.path.split(path)
        return lstat(os.path.join(directory, name.lower()), **more)

    monkeypatch.setattr(os, "lstat", folding)
    with pytest.raises(SlotUnusable, match="upper from lower case") as refusal:
        bring(image, standby)
    monkeypatch.undo()
    assert (refusal.value.slug, refusal.value.exit_code) == ("slot-folds-case", 14)
    assert [path.name for path in standby.iterdir()] == [".ota"]


def test_two_files_that_swap_names_are_not_fetched(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    for tree, (one, two) in ((image, (b"one!", b"two?")), (standby, (b"two?", b"one!"))):
        tree.mkdir()
        (tree / "x").write_bytes(one)
        (tree / "y").write_bytes(two)

    assert bring(image, standby).fetched == []
    assert snapshot(standby) == snapshot(image)


def test_equal_files_that_are_not_one_file_in_the_image_are_not_linked(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    image.mkdir()
    standby.mkdir()
    for name in ("x", "y"):
        (image / name).write_bytes(b"same")
    (standby / "x").write_bytes(b"same")
    os.link(standby / "x", standby / "y")

    bring(image, standby)

    assert (standby / "x").stat().st_nlink == 1
    assert (standby / "x").stat().st_ino != (standby / "y").stat().st_ino


def test_a_file_linked_to_a_name_outside_of_the_slot_is_replaced(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    image.mkdir()
    standby.mkdir()
    (image / "x").write_bytes(b"content")
    (standby / "x").write_bytes(b"content")
    os.link(standby / "x", tmp_path / "outside")

    bring(image, standby)

    assert (standby / "x").stat().st_nlink == 1
    assert (tmp_path / "outside").read_bytes() == b"content"


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    random_tree(tmp_path / "image", random.Random(7), size=80)
    (tmp_path / "standby").mkdir()
    before = os.umask(0o077)
    try:
        bring(tmp_path / "image", tmp_path / "standby")
    finally:
        os.umask(before)
    assert snapshot(tmp_path / "standby") == snapshot(tmp_path / "image")


def test_what_an_interrupted_fill_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    image.mkdir()
    (image / "big").write_bytes(b"b" * 5000)
    staging = standby / ".ota" / "staging"
    staging.mkdir(parents=True)
    (staging / ("ab" * 32)).write_bytes(b"not what its name says")
    right = hashlib.sha256(b"b" * 5000).hexdigest()
    (staging / right).write_bytes(b"b" * 5000)

    brought = bring(image, standby)

    assert brought.fetched == []
    assert brought.plan.files(Source.STAGED) == 1
    assert snapshot(standby) == snapshot(image)
    assert not staging.exists()


def test_what_an_earlier_run_left_and_nobody_wants_is_gone_before_anything_is_written(
    tmp_path: Path,
) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    staging = standby / ".ota/staging"
    staging.mkdir(parents=True)
    image.mkdir()
    (image / "wanted").write_bytes(b"w" * 5000)
    wanted = hashlib.sha256(b"w" * 5000).hexdigest()
    for name in (f"{wanted}.part", f"{'ab' * 32}.part", "cd" * 32, "stray"):
        (staging / name).write_bytes(b"begun")
    tables = tables_of(image)
    plan = make_plan(tables, LocalTree(), Content())
    found: List[str] = []

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        found.extend(os.listdir(directory))
        return fetch_from(image, [])(steps, directory, attend)

    fill(standby, None, plan, LocalTree(), None, fetch, silent, is_roomy=True)

    assert found == [f"{wanted}.part"]
    assert snapshot(standby) == snapshot(image)


def test_files_nobody_may_read_are_copied_within_the_slot(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    image.mkdir()
    standby.mkdir()
    for name in ("one", "two"):
        (image / name).write_bytes(b"same content")
    tables = tables_of(image)
    closed = tables.regulars[0]._replace(mode=0o000)
    tables = replace(tables, regulars=PackedFiles([closed, tables.regulars[1]]))

    for _ in range(2):
        brought = bring(image, standby, tables=tables)

    assert brought.fetched == []
    assert (standby / closed.path[1:]).stat().st_mode & 0o7777 == 0


def test_a_directory_nobody_may_enter_is_filled_all_the_same(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    (image / "closed").mkdir(parents=True)
    (image / "closed" / "file").write_bytes(b"new")
    (standby / "closed").mkdir(parents=True)
    (standby / "closed" / "old").write_bytes(b"old")
    (standby / "closed").chmod(0o000)

    bring(image, standby)

    assert snapshot(standby) == snapshot(image)


def test_the_root_of_a_slot_is_open_to_everybody_whatever_it_was(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    image.mkdir()
    standby.mkdir()
    standby.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(standby, 1000, 1000)

    bring(image, standby)

    status = standby.stat()
    assert status.st_mode & 0o7777 == 0o755
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def test_a_running_system_at_work_is_looked_through(tmp_path: Path) -> None:
    script = (
        "import os\nwhile True:\n"
        " for n in range(50): os.symlink('x', f'link{n}')\n"
        " for n in range(50): os.unlink(f'link{n}')\n"
    )
    (tmp_path / "stays").write_text("all the time")
    events: List[Event] = []
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as worker:
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                assert scan(tmp_path, events.append).files.find("/stays")
        finally:
            worker.kill()
    assert events == []


def test_a_file_goes_when_the_new_one_takes_its_place_if_there_is_room_for_both(
    tmp_path: Path, is_roomy: bool
) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    for tree, content in ((image, b"new"), (standby, b"older")):
        tree.mkdir()
        (tree / "file").write_bytes(content)
    was_there: List[bool] = []

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        was_there.append((standby / "file").exists())
        yield from fetch_from(image, [])(steps, directory, attend)

    plain_images.filled(tables_of(image), standby, None, fetch)
    assert was_there == [is_roomy]
    assert snapshot(standby) == snapshot(image)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root freezes files")
def test_a_frozen_file_is_replaced(tmp_path: Path) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    for tree, content in ((image, b"new"), (standby, b"older")):
        tree.mkdir()
        (tree / "file").write_bytes(content)
    if subprocess.run(["chattr", "+i", standby / "file"], check=False).returncode:
        pytest.skip("this file system freezes no files")
    bring(image, standby)
    assert snapshot(standby) == snapshot(image)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root freezes files")
def test_a_frozen_directory_that_a_new_file_comes_to_is_thawed_for_the_next_run(
    tmp_path: Path,
) -> None:
    image, standby = tmp_path / "image", tmp_path / "standby"
    for tree in (image, standby):
        (tree / "directory").mkdir(parents=True)
    (image / "directory/file").write_bytes(b"new")
    if subprocess.run(["chattr", "+i", standby / "directory"], check=False).returncode:
        pytest.skip("this file system freezes no files")
    try:
        with pytest.raises(SlotUnusable) as caught:
            bring(image, standby)
        assert caught.value.slug == "slot-was-immutable"
        bring(image, standby)
    finally:
        subprocess.run(["chattr", "-i", standby / "directory"], check=True)
    assert snapshot(standby) == snapshot(image)
