"""`verify_local: stat` on block slots: what lies there untouched is not filled again."""

from __future__ import annotations

import json
import re
import shutil
import stat
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.image.keys import make_image_keys
from ota_cli.image.serve import DevServer
from ota_cli.image.sign import sign
from ota_cli.probe import probe
from tests.conftest import Images, Server, write_keys
from tests.support.bench import Ran, make_device, ota, provision
from tests.support.blocks import disk_image, inside, leftovers, mounted, needs_root, run
from tests.support.trees import snapshot

pytestmark = [needs_root, pytest.mark.xdist_group("blocks")]


class Bench(NamedTuple):
    """A GRUB device that trusts inodes; its slots, of which b holds v2, staged."""

    root: Path
    running: Path
    standby: Path
    server: Server
    trees: Path
    scratch: Path

    def update(self, *words: str, server: Optional[Server] = None) -> Ran:
        done = self.try_update("--no-self-confirm", *words, server=server)
        assert done.code == 0, done.out
        return done

    def try_update(self, *words: str, server: Optional[Server] = None) -> Ran:
        url, cacert = server or self.server
        at = ("--version", f"{url}v2/", "--cacert", cacert)
        return ota("update", "--root", self.root, *at, "--output", "jsonl", *words)

    @contextmanager
    def changing(self) -> Iterator[Path]:
        """The tree of the running slot."""
        with mounted(self.running, self.scratch / "running", "loop") as slot:
            yield slot

    @contextmanager
    def standing_by(self) -> Iterator[Path]:
        """That of the standby slot, which is left as it is."""
        with mounted(self.standby, self.scratch / "standby", "loop,ro,noload") as slot:
            yield slot

    def text(self, path: str) -> str:
        """What a file of the standby slot says."""
        with self.standing_by() as slot:
            return (slot / path).read_text()

    def spoil(self, content: bytes) -> None:
        """Changes one byte of what lies in the standby slot, below its file system."""
        at = self.standby.read_bytes().index(content[:4096])
        self.overwrite(at, bytes([content[0] ^ 1]))

    def spoil_inode(self, path: str) -> None:
        """Damages the inode of a path, below its file system."""
        said = run("debugfs", "-R", f"imap {path}", self.standby)
        found = re.search(r"block (\d+), offset 0x([0-9a-f]+)", said)
        size = re.search(r"Block size: +(\d+)", run("dumpe2fs", "-h", self.standby))
        assert found
        assert size
        self.overwrite(int(found[1]) * int(size[1]) + int(found[2], 16) + 4, b"\xff" * 16)

    def overwrite(self, at: int, data: bytes) -> None:
        with open(self.standby, "r+b") as stream:
            stream.seek(at)
            stream.write(data)


@pytest.fixture
def bench(tmp_path: Path, images: Images, server: Server) -> Bench:
    a, b = disk_image(tmp_path / "a.img", "64M"), disk_image(tmp_path / "b.img", "64M")
    root = make_device(
        tmp_path / "device", [images.anchor], loader="grub", settings="verify_local: stat\n",
        slots="slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n",
    )  # fmt: skip
    (root / "a.img").symlink_to(a)
    (root / "b.img").symlink_to(b)
    provision(root, a, server)
    made = Bench(root, a, b, server, images.trees, tmp_path)
    made.update()
    return made


def phases(done: Ran) -> List[str]:
    events = map(json.loads, done.out.splitlines())
    return [event["phase"] for event in events if event.get("event") == "phase"]


def was_filled(done: Ran) -> bool:
    return "fill" in phases(done)


def test_it_is_armed_without_a_byte_of_it_being_written(bench: Bench) -> None:
    before = bench.standby.read_bytes()
    done = bench.update()
    assert phases(done) == ["metadata", "compare", "boot", "boot"]
    assert bench.standby.read_bytes() == before
    assert next_boot(probe(bench.root)).slot == "b"
    assert leftovers() == ""


def test_a_system_that_can_not_confirm_itself_is_refused_as_ever(bench: Bench) -> None:
    assert bench.try_update().code == 11, "no line mounts its /boot"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("etc/hostname", "renamed\n", "renamed\n"),
        ("etc/fstab", "LABEL=here / ext4 noatime 0 1\n", "noatime"),
        ("etc/machine-id", "0123456789abcdef\n", "0123456789abcdef"),
    ],
)
def test_what_changed_on_the_device_is_carried_over_again(
    bench: Bench, path: str, text: str, expected: str
) -> None:
    with bench.changing() as slot:
        (slot / path).write_text(text)
    assert was_filled(bench.update())
    assert expected in bench.text(path)
    assert not was_filled(bench.update())


def test_what_is_gone_on_the_device_is_the_images_again(bench: Bench) -> None:
    with bench.changing() as slot:
        (slot / "etc/hostname").write_text("renamed\n")
    bench.update()
    with bench.changing() as slot:
        (slot / "etc/hostname").unlink()
    assert was_filled(bench.update())
    assert bench.text("etc/hostname") == "image\n"


def test_other_names_to_carry_over_are_noticed(bench: Bench) -> None:
    with bench.changing() as slot:
        (slot / "etc/added").write_text("a persistent file\n")
    bench.update()
    settings = bench.root / "etc/ota/ota.yml"
    settings.write_text("verify_local: stat\npersist: [/etc/added]\n")
    assert was_filled(bench.update())
    assert bench.text("etc/added") == "a persistent file\n"


@pytest.mark.parametrize("name", ["vmlinuz-6.1.0-2", "initrd.img-6.1.0-2"])
def test_what_boots_is_read_all_the_same(bench: Bench, name: str) -> None:
    bench.spoil((bench.trees / "v2/boot" / name).read_bytes())
    done = bench.update()
    assert was_filled(done)
    with bench.standing_by() as slot:
        found = inside(snapshot(slot, owners=True, mtimes=True))
    assert found == inside(snapshot(bench.trees / "v2", owners=True, mtimes=True))


def test_tables_that_are_not_the_images_are_fetched_again(bench: Bench) -> None:
    with bench.standing_by() as slot:
        table = (slot / ".ota/regulars.txt").read_bytes()
    bench.spoil(table)
    assert was_filled(bench.update())
    assert ota("verify", "--root", bench.root).code == 0


def test_whoever_mounted_it_for_writing_has_it_read_whole(bench: Bench) -> None:
    with mounted(bench.standby, bench.scratch / "change", "loop"):
        pass
    assert was_filled(bench.update())
    assert not was_filled(bench.update())


def test_a_slot_that_somebody_has_mounted_is_in_use_as_ever(bench: Bench) -> None:
    with mounted(bench.standby, bench.scratch / "look", "loop,ro,noload"):
        done = bench.try_update("--no-self-confirm")
    assert done.code == 14
    assert '"slug": "slot-in-use"' in done.out
    assert not was_filled(bench.update())


def test_what_was_signed_again_is_kept_as_it_is_signed_now(bench: Bench) -> None:
    served, keys = bench.scratch / "served", bench.scratch / "keys"
    shutil.copytree(bench.trees.parent / "served/v2", served / "v2", symlinks=True)
    keys.mkdir()
    write_keys(keys, make_image_keys())
    sign(served / "v2", keys / "sign.key", keys / "sign.crt", datetime.now(timezone.utc))
    anchors = bench.root / "etc/ota/certs"
    shutil.rmtree(anchors)
    anchors.mkdir()
    shutil.copy(keys / "anchor.pem", anchors)
    with DevServer(served) as server:
        done = bench.update("--stage-only", server=Server(server.url, server.cacert))
    assert done.code == 0
    assert ota("activate", "--root", bench.root).code == 0
    assert ota("verify", "--root", bench.root).code == 0


@pytest.mark.parametrize("content", ["", "1", '{"a": 1}', "[1]", "\0"])
def test_a_damaged_list_of_what_was_carried_over_has_the_slot_filled(
    bench: Bench, content: str
) -> None:
    with bench.standing_by() as slot:
        listed = (slot / ".ota/carried.json").read_bytes()
    at = bench.standby.read_bytes().index(listed)
    bench.overwrite(at, content.ljust(len(listed)).encode())
    assert was_filled(bench.update())
    assert not was_filled(bench.update())


def test_directories_that_are_made_for_what_is_carried_over_are_as_they_are_now(
    bench: Bench,
) -> None:
    with bench.changing() as slot:
        (slot / "srv/secret/deep").mkdir(parents=True)
        (slot / "srv/secret/deep/data").write_text("of this device\n")
    settings = bench.root / "etc/ota/ota.yml"
    settings.write_text("verify_local: stat\npersist: [/srv/secret/deep/data]\n")
    bench.update()
    with bench.changing() as slot:
        (slot / "srv/secret").chmod(0o700)
    bench.update()
    with bench.standing_by() as slot:
        assert stat.S_IMODE((slot / "srv/secret").stat().st_mode) == 0o700


@pytest.mark.parametrize("path", ["/etc/systemd", "/etc/ota", "/usr/bin/ota", "/sbin"])
def test_what_confirms_it_and_can_not_be_read_is_no_bug(bench: Bench, path: str) -> None:
    carries_all = "verify_local: stat\npersist: [/etc/ota, /etc/fstab]\n"
    with bench.changing() as slot:
        shutil.copytree(bench.root / "etc/ota/certs", slot / "etc/ota/certs")
        (slot / "etc/fstab").write_text("LABEL=a / ext4 defaults 0 1\nLABEL=b /boot ext4 ro 0 2\n")
    (bench.root / "etc/ota/ota.yml").write_text(carries_all)
    assert bench.try_update().code == 0
    assert not was_filled(bench.try_update())
    bench.spoil_inode(path)
    done = bench.try_update()
    assert was_filled(done) or done.code == 14, "the disk is to blame"
    assert bench.try_update().code in (0, 14)
