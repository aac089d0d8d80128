"""What an inactive slot may hold by accident or malice: nothing outside of it is ever touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.conftest import Images, Server
from tests.support.bench import Ran, ota
from tests.support.blocks import needs_root
from tests.support.trees import Snapshot, snapshot

Spoil = Callable[[Path, Path], None]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory whose files must survive whatever leads to it."""
    directory = tmp_path / "outside"
    (directory / "sub").mkdir(parents=True)
    (directory / "precious.txt").write_text("precious")
    (directory / "metadata.jwt").write_text("mine")
    return directory


def update(device: Path, server: Server, version: str = "v2") -> Ran:
    at = (f"{server.url}{version}/", "--cacert", server.cacert, "--allow-downgrade")
    return ota("update", "--root", device, "--version", *at)


def content(tree: Path) -> Snapshot:
    """All of a slot that comes from the image and nothing else."""
    own = ("/etc/hostname", "/etc/fstab", "/etc/ota", "/etc", "/.ota")
    found = snapshot(tree, mtimes=False)
    return {p: v for p, v in found.items() if p not in own and not p.startswith("/.ota/")}


def staged(tree: Path, slot: Path) -> Path:
    """Where the content of some file of an image that the device lacks would be staged."""
    wanted = next(p for p in sorted((tree / "usr").rglob("*")) if p.is_file() and p.stat().st_size)
    (slot / ".ota/staging").mkdir(parents=True, exist_ok=True)
    return slot / ".ota/staging" / hashlib.sha256(wanted.read_bytes()).hexdigest()


def metadata_elsewhere(slot: Path, outside: Path) -> None:
    (slot / ".ota").symlink_to(outside)


def staging_elsewhere(slot: Path, outside: Path) -> None:
    (slot / ".ota").mkdir(parents=True)
    (slot / ".ota/staging").symlink_to(outside)


def metadata_is_a_file(slot: Path, outside: Path) -> None:
    (slot / ".ota").write_text("a file")


def odd_things_inside(slot: Path, outside: Path) -> None:
    (slot / ".ota/staging/directory").mkdir(parents=True)
    os.mkfifo(slot / ".ota/staging/fifo")
    (slot / ".ota/metadata.jwt").mkdir()
    (slot / ".ota/carried.json").symlink_to(outside / "precious.txt")
    (slot / ".ota/evil").mkdir()
    (slot / ".ota/evil/shell").write_text("#!/bin/sh\n")
    (slot / ".ota/evil/shell").chmod(0o4755)


@pytest.mark.parametrize(
    "spoil", [metadata_elsewhere, staging_elsewhere, metadata_is_a_file, odd_things_inside]
)
def test_whatever_stands_where_ota_keeps_its_own_is_replaced(
    device: Path, server: Server, images: Images, outside: Path, spoil: Spoil
) -> None:
    before = snapshot(outside, mtimes=True)
    spoil(device / "slots/b", outside)
    done = update(device, server)
    assert done.code == 0, done.err
    assert snapshot(outside, mtimes=True) == before
    assert content(device / "slots/b") == content(images.trees / "v2")
    kept = device / "slots/b/.ota"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert all(path.is_file() and not path.is_symlink() for path in kept.iterdir())


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_staged_content_with_a_second_name_is_not_used(
    device: Path, server: Server, images: Images, outside: Path, suffix: str
) -> None:
    other = outside / "other-name"
    place = staged(images.trees / "v2", device / "slots/b")
    other.write_bytes(b"old content, or the very content that is wanted")
    os.link(other, place.with_name(place.name + suffix))
    before = other.read_bytes()
    done = update(device, server)
    assert done.code == 0, done.err
    assert other.read_bytes() == before
    assert other.stat().st_nlink == 1
    assert content(device / "slots/b") == content(images.trees / "v2")


@needs_root
def test_what_is_mounted_inside_of_a_slot_directory_is_not_emptied(
    device: Path, server: Server, outside: Path
) -> None:
    inside = device / "slots/b/home"
    inside.mkdir(parents=True)
    before = snapshot(outside, mtimes=True)
    subprocess.run(["mount", "--bind", outside, inside], check=True)
    try:
        ran = update(device, server)
    finally:
        subprocess.run(["umount", inside], check=True)
    assert ran.code == 14
    assert f"{inside} is mounted inside" in ran.err
    assert snapshot(outside, mtimes=True) == before
    assert update(device, server).code == 0


@needs_root
def test_as_root_the_survey_changes_no_mode_before_the_slot_is_withdrawn(tmp_path: Path) -> None:
    from ota_cli.events import silent
    from ota_cli.host.tree import scan

    (tmp_path / "slot/proc").mkdir(parents=True)
    (tmp_path / "slot/proc").chmod(0o555)
    before = snapshot(tmp_path / "slot", mtimes=True)
    scan(tmp_path / "slot", silent, unlock=True)
    assert snapshot(tmp_path / "slot", mtimes=True) == before


def test_lines_of_fstab_that_are_not_of_the_device_stay_byte_for_byte(
    device: Path, server: Server, images: Images, tmp_path: Path
) -> None:
    tree, image = tmp_path / "tree", images.directory / "odd-fstab"
    shutil.copytree(images.trees / "v2", tree, symlinks=True)
    odd = b"# a comment\r/dev/evil /evil ext4\n/dev/sdy /data ext4\r\n\xff # not UTF-8\n"
    (tree / "etc/fstab").write_bytes(b"LABEL=other / ext4 defaults 0 1\n" + odd)
    keys = ("--key", images.keys / "sign.key", "--cert", images.keys / "sign.crt")
    for words in (("build", tree, image, "--version", "odd"), ("sign", image, *keys)):
        done = ota("image", *words)
        assert done.code == 0, done.err
    running = device / "slots/a/etc/fstab"
    running.write_text("LABEL=slot-a / ext4 ro 0 1\n")
    done = update(device, server, "odd-fstab")
    assert done.code == 0, done.err
    assert (device / "slots/b/etc/fstab").read_bytes() == running.read_bytes() + odd


def freeze(path: Path, flag: str) -> None:
    done = subprocess.run(["chattr", flag, path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this file system has no immutable files")


@needs_root
@pytest.mark.parametrize("flag", ["+i", "+a"])
@pytest.mark.parametrize("name", ["a directory", "a file that is kept"])
def test_what_was_frozen_in_the_slot_is_thawed_and_the_same_command_completes(
    device: Path, server: Server, images: Images, name: str, flag: str
) -> None:
    slot = device / "slots/b"
    assert update(device, server).code == 0
    (slot / "usr").chmod(0o700)
    place = next(p for p in sorted((slot / "usr").rglob("*")) if p.is_file() and not p.is_symlink())
    place.chmod(0o600)
    frozen = slot / "usr" if name == "a directory" else place
    freeze(frozen, flag)
    try:
        first = update(device, server)
        done = first if first.code == 0 else update(device, server)
    finally:
        subprocess.run(["chattr", "-R", "-ia", slot], check=False, capture_output=True)
    if first.code:
        assert first.code == 14
        assert "run the same command again" in first.err
    assert done.code == 0, done.err
    assert content(slot) == content(images.trees / "v2")


def test_directories_made_for_persistent_files_are_no_difference(
    device: Path, server: Server
) -> None:
    (device / "etc/ota/ota.yml").write_text("persist: [/etc/ota, /opt/app/data/file]\n")
    own = device / "slots/a/opt/app/data/file"
    own.parent.mkdir(parents=True)
    own.write_text("of this device")
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", "--stage-only", *at)
    assert done.code == 0, done.err
    assert (device / "slots/b/opt/app/data/file").read_text() == "of this device"
    stranger = device / "slots/b/opt/app/stranger"
    stranger.write_text("x")
    refused = ota("activate", "--root", device)
    assert (refused.code, "/opt/app/stranger: not in the image" in refused.err) == (12, True)
    stranger.unlink()
    activated = ota("activate", "--root", device)
    assert activated.code == 0, activated.err


#: cap_net_bind_service=ep, revision 2 (linux/capability.h, struct vfs_cap_data).
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


@needs_root
def test_a_kept_file_whose_owner_is_mended_keeps_its_capabilities(
    device: Path, server: Server, images: Images, tmp_path: Path
) -> None:
    tree, image = tmp_path / "tree", images.directory / "capable"
    shutil.copytree(images.trees / "v2", tree, symlinks=True)
    name = next(p for p in sorted((tree / "usr").rglob("*")) if p.is_file() and not p.is_symlink())
    try:
        os.setxattr(name, "security.capability", _CAPABILITY)
    except OSError:
        pytest.skip("this file system keeps no capabilities")
    keys = ("--key", images.keys / "sign.key", "--cert", images.keys / "sign.crt")
    for words in (("build", tree, image, "--version", "capable"), ("sign", image, *keys)):
        done = ota("image", *words)
        assert done.code == 0, done.err
    assert update(device, server, "capable").code == 0
    place = device / "slots/b" / name.relative_to(tree)
    assert os.getxattr(place, "security.capability") == _CAPABILITY
    os.chown(place, 1234, 1234)
    assert update(device, server, "capable").code == 0
    assert place.stat().st_uid == name.stat().st_uid
    assert os.getxattr(place, "security.capability") == _CAPABILITY
