"""Persistent files: merged, mapped by name, and never outside of the slot."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

from ota_cli.core.accounts import owner_map
from ota_cli.errors import DoesNotFit, SlotUnusable
from ota_cli.events import Event, silent
from ota_cli.host.content import data_of
from ota_cli.host.inside import resolve, resolve_parent
from ota_cli.persist import persist
from ota_cli.persistent import carried, sources
from tests.conftest import Server
from tests.support.bench import ota
from tests.support.trees import snapshot

Step = Callable[[], object]


@pytest.fixture
def slots(tmp_path: Path) -> Tuple[Path, Path]:
    """The running and the new slot, both merged-usr."""
    for name in ("running", "new"):
        (tmp_path / name / "usr/lib").mkdir(parents=True)
        (tmp_path / name / "etc").mkdir()
        (tmp_path / name / "lib").symlink_to("usr/lib")
    return tmp_path / "running", tmp_path / "new"


def test_a_directory_is_merged_and_the_running_files_win(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    for slot, name in ((running, "r"), (new, "n")):
        (slot / "etc/app/sub").mkdir(parents=True)
        (slot / "etc/app/both").write_text(name)
        (slot / f"etc/app/sub/{name}").write_text(name)
    assert persist(["/etc/app"], [], running, new, silent) == ["/etc/app"]
    assert (new / "etc/app/both").read_text() == "r"
    assert sorted(path.name for path in (new / "etc/app/sub").iterdir()) == ["n", "r"]


def test_a_symlinked_parent_leads_to_the_same_place_inside_the_slot(
    slots: Tuple[Path, Path],
) -> None:
    running, new = slots
    (running / "lib/firmware").mkdir()
    (running / "lib/firmware/blob").write_text("b")
    carried = persist(["/lib/firmware/blob"], [], running, new, silent)
    assert carried == ["/usr/lib/firmware/blob"], "where the image's tables would name it"
    assert (new / "lib").is_symlink()
    assert (new / "usr/lib/firmware/blob").read_text() == "b"


def test_an_absolute_symlink_of_the_slot_never_leads_outside(
    slots: Tuple[Path, Path], tmp_path: Path
) -> None:
    running, new = slots
    outside = tmp_path / "outside"
    outside.mkdir()
    (new / "srv").symlink_to(outside)
    (running / "srv").mkdir()
    (running / "srv/file").write_text("x")
    persist(["/srv/file"], [], running, new, silent)
    assert list(outside.iterdir()) == []


def test_what_is_absent_is_skipped_and_swap_files_too(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "swapfile").write_text("swap")
    assert persist(["/no/such", "/swapfile", "/etc/file/below"], [], running, new, silent) == []


def test_a_hard_linked_file_of_the_image_is_replaced_not_written_through(
    slots: Tuple[Path, Path],
) -> None:
    running, new = slots
    (new / "etc/one").write_text("image")
    os.link(new / "etc/one", new / "etc/two")
    (running / "etc/one").write_text("device")
    persist(["/etc/one"], [], running, new, silent)
    assert (new / "etc/two").read_text() == "image"


def test_a_dangling_symlink_is_carried_as_it_is(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "etc/resolv.conf").symlink_to("/run/no/such")
    (new / "etc/resolv.conf").write_text("image")
    persist(["/etc/resolv.conf"], [], running, new, silent)
    assert os.readlink(new / "etc/resolv.conf") == "/run/no/such"


def test_a_directory_in_one_system_only_is_an_error(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "etc/x").write_text("file")
    (new / "etc/x").mkdir()
    with pytest.raises(DoesNotFit):
        persist(["/etc/x"], [], running, new, silent)


def test_a_directory_is_carried_to_where_a_dangling_symlink_of_the_image_leads(
    slots: Tuple[Path, Path],
) -> None:
    running, new = slots
    (running / "etc/app").mkdir(0o750)
    (running / "etc/app/file").write_text("kept")
    (new / "etc/app").symlink_to("/data/deep/app")
    before = os.umask(0o077)
    try:
        assert persist(["/etc/app"], [], running, new, silent) == ["/data/deep/app"]
    finally:
        os.umask(before)
    assert (new / "data/deep/app/file").read_text() == "kept"
    assert (new / "data/deep/app").stat().st_mode & 0o777 == 0o750
    assert (new / "data/deep").stat().st_mode & 0o777 == 0o755
    assert os.readlink(new / "etc/app") == "/data/deep/app"


def test_a_loop_of_symlinks_in_a_persistent_path_is_named(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "loop").symlink_to("loop")
    with pytest.raises(DoesNotFit, match="/loop/file leads through a loop"):
        persist(["/loop/file"], [], running, new, silent)


@pytest.mark.parametrize(
    ("levels", "name"), [(300, "d"), (20, "d" * 250)], ids=["many", "long-names"]
)
def test_directories_nested_without_end_are_refused_before_the_slot_is_touched(
    device: Path, server: Server, levels: int, name: str
) -> None:
    """Too deep for whoever holds them all open, and too long a path for any call."""
    site = device / "slots/a/etc/site"  # the image lists it
    site.mkdir()
    deep = os.open(site, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=deep)
        inner = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", "--root", device, *at, "--no-self-confirm", "--json")
    assert (done.code, done.document["error"]["slug"]) == (11, "persist-too-deep"), done.out
    assert done.document["error"]["footprint"] == "nothing"


@pytest.mark.parametrize("error", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_a_name_that_the_disk_does_not_give_back_is_not_called_the_new_slots_fault(
    slots: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    running, new = slots
    (running / "etc/file").write_text("lost")
    lstat = os.lstat

    def failing(path: str) -> os.stat_result:
        if path == f"{running}/etc/file":
            raise OSError(error, os.strerror(error), path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", failing)
    with pytest.raises(SlotUnusable, match="persistent /etc/file can not be carried over") as told:
        persist(["/etc/file"], [], running, new, silent)
    assert told.value.slug == "unreadable"


def test_a_file_of_the_image_above_a_persistent_one_is_a_conflict(
    slots: Tuple[Path, Path],
) -> None:
    running, new = slots
    (running / "etc/app").mkdir()
    (running / "etc/app/file").write_text("kept")
    (new / "etc/app").write_text("a file")
    with pytest.raises(DoesNotFit, match="persistent /etc/app/file"):
        persist(["/etc/app/file"], [], running, new, silent)


def test_sockets_and_fifos_are_left_with_a_note(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "etc/app").mkdir()
    os.mkfifo(running / "etc/app/fifo")
    events: List[Event] = []
    persist(["/etc/app"], [], running, new, events.append)
    assert not (new / "etc/app/fifo").exists()
    assert "fifo" in str(events)


def test_globs_match_inside_the_running_slot(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "etc/ssh").mkdir()
    for name in ("ssh_host_rsa", "ssh_host_ed25519", "sshd_config"):
        (running / "etc/ssh" / name).write_text(name)
    carried = persist([], ["/etc/ssh/ssh_host_*", "/none/*"], running, new, silent)
    assert carried == ["/etc/ssh/ssh_host_ed25519", "/etc/ssh/ssh_host_rsa"]


def test_the_running_slot_is_only_read(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    (running / "etc/app").mkdir()
    (running / "etc/app/file").write_text("x")
    before = snapshot(running, mtimes=True)
    persist(["/etc/app"], [], running, new, silent)
    assert snapshot(running, mtimes=True) == before


@pytest.mark.parametrize("moment", range(14))
def test_a_directory_that_its_owner_swaps_for_a_symlink_leads_to_nothing_of_others(
    slots: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    running, new = slots
    (running / "etc/shadow").write_text("secret")
    (running / "home/u/d").mkdir(parents=True)
    (running / "home/u/d/shadow").write_text("own")
    with meanwhile(partial(swap_for_link, running), moment, monkeypatch):
        persist(["/home"], [], running, new, silent)
    assert "secret" not in [file.read_text() for file in (new / "home").rglob("shadow")]


def swap_for_link(running: Path) -> None:
    (running / "home/u/d").rename(running / "home/u/before")
    (running / "home/u/d").symlink_to(running / "etc")


@pytest.mark.parametrize("moment", range(24))
@pytest.mark.parametrize("lost", ["home/u/d", "home/u"])
def test_what_vanishes_while_it_is_carried_over_is_skipped_and_the_rest_is_carried(
    slots: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, moment: int, lost: str
) -> None:
    running, new = slots
    (running / "home/u/d").mkdir(parents=True)
    (running / "home/u/d/file").write_text("whole")
    (running / "home/v").symlink_to("u")
    (running / "etc/kept").write_text("kept")
    with meanwhile(partial(shutil.rmtree, running / lost), moment, monkeypatch):
        persist(["/home/u/d", "/home", "/etc/kept"], [], running, new, silent)
    assert (new / "etc/kept").read_text() == "kept"
    assert {file.read_text() for file in new.rglob("file")} <= {"whole"}


def test_what_vanishes_while_all_is_counted_hides_nothing_else(
    slots: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = slots
    (running / "etc/app").mkdir()
    (running / "etc/app/file").write_text("large")
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: ["a-gone", *listdir(place)])
    found = [place for place, _ in carried(["/etc/app"], [], running)]
    assert found == ["/etc/app", "/etc/app/file"]
    assert sources(["/etc/app"], [], running) != ""


@contextmanager
def meanwhile(step: Step, moment: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Does `step` before one of the calls that open or list something in the block."""
    steps = iter([*[lambda: None] * moment, step])
    with monkeypatch.context() as patched:
        for name in ("open", "listdir"):
            patched.setattr(os, name, after(steps, getattr(os, name)))
        yield


def after(steps: Iterator[Step], call: Callable[..., object]) -> Callable[..., object]:
    """`call`, before which one of `steps` is done each time, as long as there are any."""

    def called(*arguments: object, **named: object) -> object:
        next(steps, lambda: None)()
        return call(*arguments, **named)

    return called


def test_holes_of_a_file_stay_holes(slots: Tuple[Path, Path]) -> None:
    """/var/log/lastlog of a system with the users of a domain seems to be hundreds of gigabytes."""
    running, new = slots
    lastlog = running / "etc/lastlog"
    lastlog.write_bytes(b"first")
    for offset in (1 << 20, 1 << 28):
        with lastlog.open("r+b") as file:
            file.seek(offset)
            file.write(b"later")
    os.truncate(lastlog, 1 << 29)
    persist(["/etc/lastlog"], [], running, new, silent)
    carried = new / "etc/lastlog"
    assert carried.stat().st_size == 1 << 29
    assert carried.stat().st_blocks * 512 < 1 << 20
    assert list(data_of_file(carried)) == list(data_of_file(lastlog))


def data_of_file(path: Path) -> Iterator[Tuple[int, bytes]]:
    with path.open("rb") as file:
        for offset, piece in data_of(file.fileno()):
            yield offset, bytes(piece)


def test_a_file_system_that_does_not_tell_of_holes_has_its_files_carried_whole(
    slots: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, new = slots
    content = bytes(range(256)) * 5000
    (running / "etc/file").write_bytes(content)
    lseek = os.lseek

    def seek(descriptor: int, offset: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return lseek(descriptor, offset, how)

    monkeypatch.setattr(os, "lseek", seek)
    persist(["/etc/file"], [], running, new, silent)
    assert (new / "etc/file").read_bytes() == content


def test_names_of_one_file_are_names_of_one_file_in_the_new_slot(slots: Tuple[Path, Path]) -> None:
    running, new = slots
    for name in ("app", "other"):
        (running / "etc" / name).mkdir()
    (running / "etc/app/one").write_text("device")
    for name in ("app/two", "other/three"):
        os.link(running / "etc/app/one", running / "etc" / name)
    (new / "etc/app").mkdir()
    (new / "etc/app/two").write_text("image")
    persist(["/etc/app", "/etc/app/two", "/etc/other"], [], running, new, silent)
    status = (new / "etc/app/one").stat()
    assert status.st_nlink == 3
    for name in ("app/two", "other/three"):
        assert os.path.samestat((new / "etc" / name).stat(), status)
        assert (new / "etc" / name).read_text() == "device"


def test_a_name_that_is_another_files_by_now_is_not_linked_to(slots: Tuple[Path, Path]) -> None:
    """Two places of the running slot are one of the image's: the later one wins."""
    running, new = slots
    (running / "etc/app").mkdir()
    (running / "etc/app/file").write_text("one")
    (running / "etc/same").mkdir()
    (running / "etc/same/file").write_text("other")
    os.link(running / "etc/app/file", running / "etc/link")
    (new / "etc/app").mkdir()
    (new / "etc/same").symlink_to("app")
    listed = ["/etc/app/file", "/etc/same/file", "/etc/link"]
    persist(listed, [], running, new, silent)
    assert (new / "etc/app/file").read_text() == "other"
    assert (new / "etc/link").read_text() == "one"


def test_owners_are_mapped_by_name() -> None:
    old = ("root:x:0:0::/:\nsvc:x:1000:1000::/:\n", "root:x:0:\nsvc:x:1000:\n")
    new = ("root:x:0:0::/:\nother:x:1000:1::/:\nsvc:x:990:990::/:\n", "svc:x:980:\nbroken\n")
    mapped = owner_map(old, new)
    assert mapped(1000, 1000) == (990, 980)
    assert mapped(0, 0) == (0, 0)
    assert mapped(4242, 4242) == (4242, 4242)


@pytest.mark.parametrize("number", ["4294967295", "9999999999"])
def test_a_number_that_is_nobodys_is_given_to_nothing(number: str) -> None:
    """chown(2) takes 2**32 - 1 for leaving the owner as it is."""
    mapped = owner_map(("svc:x:1000:0::/:\n", ""), (f"svc:x:{number}:0::/:\n", ""))
    assert mapped(1000, 0) == (1000, 0)


def test_links_are_followed_inside_the_root_only(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/up").symlink_to("../../../../a/b")
    (tmp_path / "abs").symlink_to("/a")
    (tmp_path / "loop").symlink_to("loop")
    assert resolve(tmp_path, "/a/up") == "/a/b"
    assert resolve(tmp_path, "/abs/up/x") == "/a/b/x"
    assert resolve_parent(tmp_path, "/abs/up") == "/a/up"
    with pytest.raises(OSError, match="loop"):
        resolve(tmp_path, "/loop/x")
