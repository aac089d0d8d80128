"""The standby slot runs full in the middle: nothing is lost but time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, List

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.host.store import load_record
from ota_cli.probe import probe
from tests.conftest import Images, Server
from tests.support.bench import Ran, make_device, ota, provision, touched, unpack_first
from tests.support.blocks import disk_image, full, mounted, needs_root, run
from tests.support.publisher import Attempt
from tests.support.webserver import Answer, WebServer

pytestmark = needs_root


class CrowdedServer(WebServer):
    """Serves an image; while content is asked for, someone else fills the slot to its end."""

    def __init__(self, directory: Path, image: Path, crowded: Path) -> None:
        super().__init__(directory)
        self.filler = crowded / "filler"
        for path in image.rglob("*"):
            if path.is_file():
                self.script[f"/{path.relative_to(image)}"] = [Answer(path.read_bytes())]

    def answer(self, target: str) -> Answer:
        if "/rootfs" in target and not self.filler.exists():
            with suppress(OSError), open(self.filler, "wb", buffering=0) as filler:
                while filler.write(b"\0" * 4096):
                    pass
        return super().answer(target)


def is_refused(done: Ran) -> None:
    """There is too little space, and that was told before anything was done."""
    assert done.code == 13, done.err
    assert "the slot needs" in done.err
    assert "Nothing on this device was changed" in done.err


@pytest.fixture
def small_slot(device: Path) -> Iterator[Path]:
    """Slot b with room for the image and its spare, and little more."""
    with mounted("slot-b", device / "slots/b", "size=12M", kind="tmpfs") as slot:
        yield slot


def at(url: str, cacert: Path) -> List[str]:
    return ["--version", url, "--cacert", str(cacert)]


def runs_out_of_space(done: Ran) -> None:
    assert done.code == 13, done.err
    assert "no space left" in done.err
    assert "hint: " in done.err
    assert "The running system and the boot order are untouched" in done.err
    assert "Traceback" not in done.err


def test_a_slot_that_runs_full_during_the_download(
    device: Path, small_slot: Path, images: Images, tmp_path: Path
) -> None:
    before = touched(device)
    with CrowdedServer(tmp_path, images.directory / "v2", small_slot) as server:
        runs_out_of_space(ota("update", "--root", device, *at(server.url, server.cacert)))
        assert server.filler.stat().st_size > 0
        assert touched(device) == before
        assert ota("status", "--root", device, "--json").result["next"] == "a"
        os.unlink(server.filler)
        server.filler = tmp_path / "elsewhere"
        server.filler.touch()
        done = ota("update", "--root", device, *at(server.url, server.cacert))
    assert done.code == 0, done.err
    assert ota("status", "--root", device, "--json").result["next"] == "b"


def test_persistent_files_that_do_not_fit_are_told_before_the_slot_is_touched(
    device: Path, small_slot: Path, server: Server
) -> None:
    kept = device / "slots/a/etc/ota/kept"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(os.urandom(14 * 1024 * 1024))
    before = touched(device)
    is_refused(ota("update", "--root", device, *at(f"{server.url}v2/", server.cacert)))
    assert touched(device) == before
    kept.unlink()
    done = ota("update", "--root", device, *at(f"{server.url}v2/", server.cacert))
    assert done.code == 0, done.err


def test_what_goes_makes_room_first_where_there_is_none_beside_it(
    device: Path, small_slot: Path, server: Server, images: Images
) -> None:
    before, now = images.trees / "v1", images.trees / "v2"
    files = (path for path in sorted(now.rglob("*")) if path.is_file() and not path.is_symlink())
    names = (path.relative_to(now) for path in files if path.stat().st_size)
    here = ((before / name, now / name, small_slot / name) for name in names)
    old = next(there for a, b, there in here if a.is_file() and a.read_bytes() != b.read_bytes())
    old.parent.mkdir(parents=True)
    with suppress(OSError), old.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    done = ota("update", "--root", device, *at(f"{server.url}v2/", server.cacert))
    assert done.code == 0, done.err


def test_names_of_one_persistent_file_take_its_room_once(
    device: Path, small_slot: Path, server: Server
) -> None:
    """As backups have them that keep each state of a file that did not change (rsnapshot)."""
    kept = device / "slots/a/etc/ota/kept"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(os.urandom(3 * 1024 * 1024))
    for number in range(5):
        os.link(kept, kept.with_name(f"kept.{number}"))
    done = ota("update", "--root", device, *at(f"{server.url}v2/", server.cacert))
    assert done.code == 0, done.err
    assert (small_slot / "etc/ota/kept").stat().st_nlink == 6


def test_directories_that_do_not_fit_are_told_before_the_slot_is_touched(
    attempt: Attempt, tmp_path: Path
) -> None:
    with (attempt.publisher.directory / "dirs.txt").open("a") as table:
        table.writelines(f"0755,0,0,'/srv/{number}'\n" for number in range(4000))
    attempt.publisher.sign()
    slot = disk_image(tmp_path / "slot", "16M", formatted=False)
    run("mkfs.ext4", "-q", "-F", "-b", 4096, "-N", 6000, slot)
    with mounted(slot, attempt.device / "slots/b", "loop"):
        is_refused(attempt.fails(13))


def test_a_sparse_file_in_the_slot_makes_no_room(device: Path, server: Server) -> None:
    """Of the system that had the slot before: /var/log/lastlog has the size of the highest uid."""
    with mounted("slot-b", device / "slots/b", "size=4M", kind="tmpfs") as slot:
        (slot / "lastlog").touch()
        os.truncate(slot / "lastlog", 1024**4)
        words = ("update", "--root", device, *at(f"{server.url}v2/", server.cacert))
        is_refused(ota(*words))
        assert "the update would not fit: the slot needs" in ota(*words, "--dry-run").err


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_an_update_takes_of_a_slot_is_what_check_told(
    device: Path, server: Server, tmp_path: Path, version: str
) -> None:
    """Into an empty slot, and into one that holds the image before."""
    kept = device / "slots/a/etc/ota/many"
    kept.mkdir(parents=True)
    for number in range(100):
        (kept / f"{number}").write_bytes(b"x" * 5000)
    to = at(f"{server.url}v2/", server.cacert)
    slot = disk_image(tmp_path / "slot", "64M", formatted=False)
    run("mkfs.ext4", "-q", "-F", "-b", 4096, slot)
    with mounted(slot, device / "slots/b", "loop") as place:
        if version == "v1":
            unpack_first(device, place, server)
        told = ota("check", "--root", device, *to, "--json").result["bytes"]["space"]
        before = used_bytes(place)
        assert ota("update", "--root", device, *to, "--stage-only").code == 0
        taken = used_bytes(place) - before
    assert taken <= told + 16 * 1024  # a directory or two of its own, and the list of what it kept
    if version == "v2":
        assert told < taken * 1.1


def used_bytes(place: Path) -> int:
    disk = os.statvfs(place)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


@pytest.fixture
def two_kernels(tmp_path: Path, images: Images, server: Server) -> Iterator[Path]:
    """A device, v1 in slot a, whose boot partition has room for two slots' kernels and no third."""
    device = make_device(tmp_path / "device", [images.anchor], loader="grub")
    partition = tmp_path / "boot.img"
    run("truncate", "-s", "420K", partition)
    lean = ("-O", "^has_journal", "-m", "0", "-b", "1024", "-N", "64")
    run("mkfs.ext4", "-q", "-F", *lean, "-d", device / "boot", partition)
    with mounted(partition, device / "boot", "loop"):
        provision(device, device / "slots/a", server)
        yield device


def test_the_kernel_that_is_replaced_counts_as_room_on_the_boot_partition(
    two_kernels: Path, server: Server
) -> None:
    for version, slot in (("v2", "b"), ("v1", "a"), ("v2", "b")):
        more = ("--no-self-confirm", "--allow-downgrade")
        words = at(f"{server.url}{version}/", server.cacert)
        done = ota("update", "--root", two_kernels, *words, *more)
        assert done.code == 0, done.err
        assert next_boot(probe(two_kernels)).slot == slot
        assert ota("commit", "--root", two_kernels).code == 0


def test_a_boot_partition_too_small_for_a_kernel_is_said_before_the_slot_is_touched(
    two_kernels: Path, server: Server
) -> None:
    (two_kernels / "boot/other").write_bytes(b"x" * 100_000)
    words = at(f"{server.url}v2/", server.cacert)
    done = ota("update", "--root", two_kernels, *words, "--no-self-confirm")
    assert done.code == 13
    assert "boot partition needs" in done.err
    assert "Nothing on this device was changed." in done.err


def test_a_kernel_of_packages_that_has_no_room_takes_none(two_kernels: Path) -> None:
    boot, refreshed = two_kernels / "boot", two_kernels / "boot/ota/slot-a/refreshed"
    (two_kernels / "slots/a/lib/modules/9.9").mkdir(parents=True)
    (boot / "vmlinuz-9.9").write_bytes(b"k" * 60_000)
    (boot / "initrd.img-9.9").write_bytes(b"i" * 120_000)
    refreshed.mkdir()
    free_bytes = room_on(boot)
    (refreshed / "initrd").write_bytes(b"what an earlier try left" * 1000)
    done = ota("setup", "--refresh", "--root", two_kernels)
    assert done.code == 13, done.err
    assert "boot partition needs" in done.err
    assert room_on(boot) == free_bytes
    assert next_boot(probe(two_kernels)).slot == "a"
    (boot / "initrd.img-9.9").write_bytes(b"smaller")
    assert ota("setup", "--refresh", "--root", two_kernels).code == 0
    assert (refreshed / "initrd").read_bytes() == b"smaller"


def test_check_warns_of_a_kernel_that_has_no_room(grub_device: Path, server: Server) -> None:
    with full(grub_device / "boot"):
        done = ota("check", "--root", grub_device, *at(f"{server.url}v2/", server.cacert))
        assert done.code == 20
        assert "the update would not fit: the boot partition" in done.err


def room_on(boot: Path) -> int:
    disk = os.statvfs(boot)
    return disk.f_bavail * disk.f_frsize


@pytest.mark.parametrize("kind", ["device", "grub_device"])
def test_what_is_armed_is_taken_back_on_a_full_boot_partition(
    request: pytest.FixtureRequest, kind: str, server: Server
) -> None:
    device = request.getfixturevalue(kind)
    words = ("--no-self-confirm", *at(f"{server.url}v2/", server.cacert))
    done = ota("update", "--root", device, *words)
    assert done.code == 0, done.err
    with full(device / "boot/ota"):
        done = ota("rollback", "--root", device)
        assert done.code == 0, done.err
        assert "not on record" in done.err
        assert next_boot(probe(device)).slot == "a"
        found = ota("status", "--root", device, "--json").result
        assert (found["next"], found["slots"]["b"]["state"]) == ("a", "staged")


@pytest.fixture
def on_trial(grub_device: Path, server: Server) -> Path:
    """v2 runs on trial in b."""
    words = ("--no-self-confirm", *at(f"{server.url}v2/", server.cacert))
    assert ota("update", "--root", grub_device, *words).code == 0
    assert next_boot(probe(grub_device)).slot == "b"
    return grub_device


def test_a_trial_is_confirmed_on_a_full_boot_partition(on_trial: Path) -> None:
    with full(on_trial / "boot/ota"):
        done = ota("commit", "--root", on_trial)
        assert done.code == 0, done.err
        assert "not on record" in done.err
        found = ota("status", "--root", on_trial, "--json").result
        assert (found["next"], found["verdict"]["code"]) == ("b", "confirmed")
        again = ota("commit", "--root", on_trial)
        assert again.code == 0, again.err
    assert next_boot(probe(on_trial)).slot == "b"
    assert ota("commit", "--root", on_trial).code == 0
    assert load_record(probe(on_trial)).slots["b"].state == "good"
    assert (on_trial / "boot/ota/slot-b/good").read_bytes()


def test_a_failed_check_ends_the_trial_on_a_full_boot_partition(on_trial: Path) -> None:
    check = on_trial / "etc/ota/health.d/10-camera"
    check.parent.mkdir()
    check.write_text("#!/bin/sh\nexit 3\n")
    check.chmod(0o755)
    with full(on_trial / "boot/ota"):
        done = ota("commit", "--root", on_trial)
        assert done.code == 18, done.err
        assert "10-camera" in done.err
        assert "not on record" in done.err
        assert next_boot(probe(on_trial)).slot == "a"
        found = ota("status", "--root", on_trial, "--json").result["verdict"]
        assert found["code"] == "fell_back"
        assert "/boot too full to note it" in found["text"]
