from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, List

import pytest

from ota_cli.core.grubenv import BootVariables, compose, head, listing
from ota_cli.entries import EMPTY_DIGEST
from ota_cli.errors import BootRefused, NoSpace
from ota_cli.events import Event, Note
from ota_cli.host.ops import (
    CheckEnvironment,
    CopyVerified,
    Flush,
    Link,
    MakeDirectory,
    Op,
    ReadBack,
    ReadBackStart,
    Remove,
    Rename,
    ReplaceInPlace,
    WriteFile,
    apply,
)
from tests.support.blocks import mounted, needs_root
from tests.support.boot import boot_file, files_below, needs_grub_editenv

OURS = BootVariables("a", None, ("a",), "t")


def test_applies_ops_in_order(tmp_path: Path) -> None:
    inside = tmp_path / "x" / "y"
    apply(
        [
            MakeDirectory(inside),
            WriteFile(inside / "new", b"12345", 0o600),
            Flush((inside / "new", inside)),
            ReplaceInPlace(inside / "new", b"ab"),
            ReadBackStart(inside / "new", b"ab345"),
            Rename(inside / "new", inside / "kept"),
            WriteFile(inside / "gone", b""),
            Remove(inside / "gone"),
            Link(tmp_path / "link", "x/y/kept"),
            Link(tmp_path / "link", "x/y/kept"),
        ]
    )
    assert files_below(inside) == {"kept": b"ab345"}
    assert (inside / "kept").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link").read_bytes() == b"ab345"


def test_everything_can_be_done_twice(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"kernel")
    ops: List[Op] = [
        MakeDirectory(tmp_path / "d"),
        Remove(tmp_path / "d" / "k"),
        CopyVerified(source, tmp_path / "d" / "k", boot_file(source).digest),
        ReadBack(tmp_path / "d" / "k", boot_file(source).digest),
        Flush((tmp_path / "d",)),
    ]
    apply(ops)
    apply(ops)
    assert files_below(tmp_path / "d") == {"k": b"kernel"}


def test_replacing_in_place_keeps_inode_and_size(tmp_path: Path) -> None:
    path = tmp_path / "bootenv"
    path.write_bytes(bytes(1024))
    before = path.stat()
    apply([ReplaceInPlace(path, b"x" * 200)])
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, 1024)


def test_a_copy_that_is_there_is_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.write_bytes(b"x" * 3_000_000)
    op = CopyVerified(source, target, boot_file(source).digest)
    apply([op])
    before = target.stat()
    source.unlink()
    apply([op])
    after = target.stat()
    # Not the access time: the copy is read to see that it is right.
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.write_bytes(b"kernel")
    target.write_bytes(b"kernal")
    apply([CopyVerified(source, target, boot_file(source).digest)])
    assert target.read_bytes() == b"kernel"


def test_refuses_a_source_with_other_content_and_leaves_no_copy(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"other")
    with pytest.raises(BootRefused) as caught:
        apply([CopyVerified(tmp_path / "s", tmp_path / "t", EMPTY_DIGEST)])
    assert str(tmp_path / "s") in caught.value.message
    assert not (tmp_path / "t").exists()


def test_stops_at_the_first_failure(tmp_path: Path) -> None:
    with pytest.raises(BootRefused) as caught:
        apply([ReplaceInPlace(tmp_path / "missing", b"x"), WriteFile(tmp_path / "later", b"")])
    assert "missing" in caught.value.message
    assert caught.value.exit_code == 15
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "op",
    [
        lambda d: WriteFile(d / "no" / "file", b""),
        lambda d: Rename(d / "no", d / "other"),
        lambda d: ReadBack(d / "no", EMPTY_DIGEST),
        lambda d: Flush((d / "no",)),
        lambda d: CopyVerified(d / "no", d / "t", EMPTY_DIGEST),
        lambda d: MakeDirectory(d / "file" / "below"),
        lambda d: CopyVerified(d / "file", d / "directory", EMPTY_DIGEST),
        lambda d: CopyVerified(d / "directory", d / "t", EMPTY_DIGEST),
        lambda d: ReadBack(d / "directory", EMPTY_DIGEST),
        lambda d: ReadBackStart(d / "directory", b""),
    ],
)
def test_what_the_disk_refuses_is_a_refusal_that_names_the_object(
    tmp_path: Path, op: Callable[[Path], Op]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    with pytest.raises(BootRefused) as caught:
        apply([op(tmp_path)])
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_no_space() -> None:
    with pytest.raises(NoSpace) as caught:
        apply([ReplaceInPlace(Path("/dev/full"), b"x")])
    assert caught.value.exit_code == 13
    assert "/dev/full" in caught.value.message


@needs_root
def test_a_copy_that_finds_no_room_takes_none(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    with mounted("small", tmp_path / "small", "size=2M", kind="tmpfs") as small:
        with pytest.raises(NoSpace):
            apply([CopyVerified(source, small / "copy", boot_file(source).digest)])
        assert list(small.iterdir()) == []


@pytest.mark.parametrize("found", [b"", b"y", b"xy"])
def test_refuses_what_reads_back_differently(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "f").write_bytes(found)
    with pytest.raises(BootRefused):
        apply([ReadBackStart(tmp_path / "f", b"xx")])


@needs_grub_editenv
def test_grub_editenv_confirms_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "bootenv"
    path.write_bytes(compose(OURS, {"theirs": "1"}))
    apply([CheckEnvironment(path, tuple(listing(OURS)))])
    path.write_bytes(compose(BootVariables("b", None, ()), {}))
    with pytest.raises(BootRefused):
        apply([CheckEnvironment(path, tuple(listing(OURS)))])


@needs_grub_editenv
def test_refuses_an_environment_grub_editenv_can_not_read(tmp_path: Path) -> None:
    (tmp_path / "bootenv").write_bytes(b"nothing")
    with pytest.raises(BootRefused):
        apply([CheckEnvironment(tmp_path / "bootenv", ())])


def test_without_grub_editenv_the_environment_is_still_reread_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ota_cli.host.run._PROGRAMS", ())  # here it is installed
    path = tmp_path / "bootenv"
    path.write_bytes(compose(OURS, {}))
    events: List[Event] = []
    apply([CheckEnvironment(path, tuple(listing(OURS)))], events.append)
    assert any(isinstance(event, Note) and "grub-editenv" in event.text for event in events)
    path.write_bytes(head(BootVariables("b", None, ())) + path.read_bytes()[200:])
    with pytest.raises(BootRefused):
        apply([CheckEnvironment(path, tuple(listing(OURS)))])
