"""Ops of loaders with tools of their own: what they leave on a disk."""

from __future__ import annotations

import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from ota_cli.errors import BootRefused, SlotUnusable
from ota_cli.host.loaderops import MirrorBoot, PutInSlot
from ota_cli.host.mirror import mirror
from ota_cli.host.ops import Op, apply
from tests.support.blocks import disk_image, leftovers, mounted, needs_root, run
from tests.support.trees import snapshot


def make_boot(base: Path) -> Path:
    """A `/boot` with one of everything."""
    boot = base / "boot"
    (boot / "extlinux").mkdir(parents=True)
    (boot / "extlinux/extlinux.conf").write_text("LABEL a\n")
    (boot / "Image").write_bytes(b"kernel" * 50_000)
    (boot / "Image").chmod(0o600)
    (boot / "initrd").symlink_to("Image")
    (boot / "empty").mkdir(mode=0o750)
    return boot


def test_a_mirror_holds_exactly_what_its_source_does(tmp_path: Path) -> None:
    source = make_boot(tmp_path)
    target = tmp_path / "target"
    (target / "boot/deep").mkdir(parents=True)  # as `cp -r` leaves it at the second run
    (target / "boot/deep/stray").write_text("stray")
    (target / "Image").mkdir()
    (target / "initrd").write_text("a file once")
    (target / "extlinux").symlink_to("/etc")
    outside = snapshot(Path("/etc/apt")) if Path("/etc/apt").exists() else {}
    mirror(source, target)
    assert snapshot(target) == snapshot(source)
    if outside:
        assert snapshot(Path("/etc/apt")) == outside
    before = (target / "Image").stat().st_mtime_ns
    mirror(source, target)
    assert snapshot(target) == snapshot(source)
    assert (target / "Image").stat().st_mtime_ns == before, "what is right is not written again"


def test_what_is_neither_file_nor_directory_nor_link_is_refused(tmp_path: Path) -> None:
    source = make_boot(tmp_path)
    subprocess.run(["mkfifo", source / "fifo"], check=True)
    with pytest.raises(BootRefused) as caught:
        mirror(source, tmp_path / "target")
    assert "fifo" in caught.value.message


def test_a_mark_is_put_into_a_slot_where_only_root_reads_it(tmp_path: Path) -> None:
    put, taken = PutInSlot(tmp_path, "trial", b"x\n"), PutInSlot(tmp_path, "trial", None)
    apply([put, put])
    assert (tmp_path / ".ota/trial").read_bytes() == b"x\n"
    assert (tmp_path / ".ota").stat().st_mode & 0o777 == 0o700
    apply([taken, taken])
    assert list((tmp_path / ".ota").iterdir()) == []


def test_a_failure_in_a_slot_is_told_with_what_helps_there(tmp_path: Path) -> None:
    (tmp_path / ".ota").write_text("a file")
    (tmp_path / "boot").write_text("a file")
    source = make_boot(tmp_path / "source")
    put, copied = PutInSlot(tmp_path, "trial", b"x\n"), MirrorBoot(source, tmp_path)
    for op, told in ((put, "slot's file system"), (copied, "partition from which CBoot boots")):
        with pytest.raises(BootRefused) as caught:
            apply([op])
        assert told in caught.value.hint
        assert "/boot mounted" not in caught.value.hint


def applied_apart(*ops: Op) -> str:
    """Applies `ops` in a process of its own, for it gets a mount table of its own; why that was
    refused, if it was."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        try:
            pool.submit(apply, ops).result()
        except SlotUnusable as error:
            return str(error)
    return ""


@needs_root
def test_slots_that_are_no_directories_are_mounted_for_it(tmp_path: Path) -> None:
    image, source = disk_image(tmp_path / "slot.img", "16M"), make_boot(tmp_path)
    assert applied_apart(PutInSlot(image, "trial", b"x\n"), MirrorBoot(source, image)) == ""
    with mounted(image, tmp_path / "at") as root:
        assert (root / ".ota/trial").read_bytes() == b"x\n"
        assert snapshot(root / "boot") == snapshot(source)
    assert applied_apart(PutInSlot(image, "trial", None)) == ""
    with mounted(image, tmp_path / "at") as root:
        assert not (root / ".ota/trial").exists()
    run("e2fsck", "-fn", image)
    assert leftovers() == ""


@needs_root
def test_a_partition_without_a_file_system_is_refused_and_left_alone(tmp_path: Path) -> None:
    image = tmp_path / "slot.img"
    image.write_bytes(b"something else" * 10_000)
    before = image.read_bytes()
    assert str(image) in applied_apart(MirrorBoot(make_boot(tmp_path), image))
    assert image.read_bytes() == before
