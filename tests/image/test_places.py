"""Places given to the verbs of images: what can not be used is told, nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import List

import pytest

from ota_cli.errors import ConfigError
from ota_cli.host.files import temporary_directory
from tests.conftest import Images
from tests.support import chains
from tests.support.bench import Ran, ota
from tests.support.publisher import Publisher, add_attributes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def unpack(images: Images, target: Path) -> Ran:
    return ota("image", "unpack", images.directory / "v1", target, "--anchors", images.keys)


@pytest.fixture
def odd(tmp_path: Path) -> List[Path]:
    """Below a file, a link to itself, and a name that no file system takes."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    return [tmp_path / "file/x", tmp_path / "loop", tmp_path / ("n" * 300)]


def test_every_verb_says_that_a_place_can_not_be_used(images: Images, odd: List[Path]) -> None:
    for place in odd:
        assert unpack(images, place).code == 14
        assert ota("image", "verify", place).code == 78
        assert ota("image", "prepare", place).code == 78
        assert ota("image", "serve", place, "--port", 0).code == 78


def test_unpacking_never_takes_the_running_system(images: Images, tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    for root in (Path("/"), tmp_path / "root"):
        done = unpack(images, root)
        assert done.code == 14
        assert f"{root} is the running system" in done.err


def test_device_nodes_are_those_of_the_image_or_left_out_without_root(
    publisher: Publisher, tmp_path: Path
) -> None:
    add_attributes(b"b,0660,0,6,8,0,'/dev/disk'", b"c,0666,1,1,1,3,'/dev/hole'")(publisher)
    publisher.sign()
    target = tmp_path / "target"
    done = ota("image", "unpack", publisher.directory, target, "--anchors", publisher.keys)
    assert done.code == 0, done.err
    assert os.lstat(target / "usr/bin/su").st_mode == 0o104755
    if os.geteuid() != 0:
        assert list((target / "dev").iterdir()) == []
        return
    found = [os.lstat(target / "dev" / name) for name in ("disk", "hole")]
    assert [(node.st_mode, node.st_uid, node.st_gid, node.st_rdev) for node in found] == [
        (0o60660, 0, 6, os.makedev(8, 0)), (0o20666, 1, 1, os.makedev(1, 3)),
    ]  # fmt: skip


@needs_root
def test_what_is_mounted_in_an_unpacked_tree_is_not_emptied(images: Images, tmp_path: Path) -> None:
    assert unpack(images, tmp_path / "tree").code == 0
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("precious")
    (tmp_path / "tree/mnt").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "precious", tmp_path / "tree/mnt"], check=True)
    try:
        done = unpack(images, tmp_path / "tree")
    finally:
        subprocess.run(["umount", tmp_path / "tree/mnt"], check=True)
    assert done.code == 14
    assert "is mounted inside" in done.err
    assert (tmp_path / "precious/file").read_text() == "precious"


@needs_root
def test_a_full_disk_is_told_as_such(images: Images, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        (disk / "tree/etc").mkdir(parents=True)
        tree = images.trees / "v1"
        key, certificate = images.keys / "sign.key", images.keys / "sign.crt"
        assert ota("image", "build", disk / "tree", disk / "image", "--version", "v").code == 0
        with open(disk / "filling", "wb", buffering=0) as filling, suppress(OSError):
            filling.write(bytes(1 << 20))
        signed = ota("image", "sign", disk / "image", "--key", key, "--cert", certificate)
        done = [
            signed, ota("image", "prepare", disk / "tree"),
            ota("image", "build", tree, disk / "image", "--version", "v"),
        ]  # fmt: skip
    finally:
        subprocess.run(["umount", disk], check=True)
    assert [each.code for each in done] == [13, 13, 13]
    assert all(str(disk) in each.err for each in done)


def test_an_anchor_that_is_none_is_not_put_into_the_tree(images: Images, tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    done = ota("image", "prepare", tmp_path / "tree", "--anchor", images.anchor, "--anchor", bad)
    assert done.code == 78
    assert str(bad) in done.err
    assert list((tmp_path / "tree/etc").iterdir()) == []
    bad.write_bytes(bytes(100_000))
    assert ota("image", "prepare", tmp_path / "tree", "--anchor", bad).code == 78


def test_a_key_that_is_in_the_file_of_an_anchor_is_not_put_into_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    anchor, both = chains.root(), tmp_path / "anchor.pem"
    both.write_bytes(anchor.key_pem + b"Subject: told in words\n" + anchor.pem)
    for _ in range(2):
        done = ota("image", "prepare", tmp_path / "tree", "--anchor", both)
        assert done.code == 0, done.err
        assert (tmp_path / "tree/etc/ota/certs/anchor.pem").read_bytes() == anchor.pem
    assert "anchor.pem" not in done.out, "it is there already"


@pytest.mark.parametrize("address", ["münchen", "a" * 300])
def test_an_address_that_can_not_be_served_is_told(address: str, tmp_path: Path) -> None:
    done = ota("image", "serve", tmp_path, "--address", address, "--port", 0)
    assert done.code == 78
    assert "choose another --address" in done.err


def test_that_nothing_temporary_can_be_made_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    with pytest.raises(ConfigError) as raised:
        temporary_directory("ota-")
    assert raised.value.slug == "no-temporary"
