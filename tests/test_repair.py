"""`ota verify --repair` makes the standby slot equal to its own image again, and what it was."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from ota_cli.boot.base import backend_for
from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.support.bench import Ran, ota, touched
from tests.support.publisher import Publisher
from tests.support.trees import Snapshot, snapshot, without

#: What belongs to the device and not to the image, and what is put there changes the time of.
_OWN = ("/etc", "/etc/hostname", "/etc/fstab", "/etc/ota")


def repair(device: Path, *words: object) -> Ran:
    return ota("verify", "--repair", "--root", device, *words)


def repaired(device: Path, *words: object) -> Dict[str, Any]:
    """The result of a repair that had something to do; the slot is as its image says."""
    done = repair(device, "--json", *words)
    assert done.code == 0, done.out
    assert (done.result["repaired"], done.result["equal"]) == (True, True)
    again = ota("verify", "--root", device)
    assert again.code == 0, again.out
    return done.result


def refused(device: Path, *words: object) -> Dict[str, Any]:
    """The error document of a repair that has touched nothing."""
    before = footprint(device)
    done = repair(device, "--json", *words)
    assert done.code != 0, done.out
    error: Dict[str, Any] = done.document["error"]
    assert error["footprint"] == "nothing"
    assert error["hint"]
    assert footprint(device) == before
    return {**error, "code": done.code}


def status(device: Path) -> Dict[str, Any]:
    return ota("status", "--root", device, "--json").result


def state(device: Path, slot: str = "b") -> str:
    found: str = status(device)["slots"][slot]["state"]
    return found


def at(server: Server, version: str = "v2") -> tuple[str, ...]:
    return ("--version", f"{server.url}{version}/", "--cacert", str(server.cacert))


def do(device: Path, verb: str, *words: object) -> None:
    done = ota(verb, "--root", device, *words)
    assert done.code == 0, done.err


def reboot(device: Path) -> str:
    return next_boot(probe(device)).slot


def known_good(device: Path) -> bool:
    """Whether the boot loader takes slot b for one that works, and whole."""
    facts = probe(device)
    boot = backend_for(facts).read(facts).slots["b"]
    return boot.good and boot.ready


def footprint(device: Path) -> Dict[str, Any]:
    """What the whole device holds, but for the lock, and when it was written."""
    return {
        str(path): (status.st_ino, status.st_mode, status.st_mtime_ns)
        for path in device.rglob("*")
        if device / "run" not in (path, *path.parents) and not path.is_dir()
        for status in [path.lstat()]
    }


def holds(slot: Path) -> Snapshot:
    return without(snapshot(slot, mtimes=True), *_OWN)


def a_shared_file(device: Path) -> Path:
    """One of slot b whose content the running slot has, too."""
    for path in sorted((device / "slots/b/usr").rglob("*")):
        other = device / "slots/a" / path.relative_to(device / "slots/b")
        if path.is_symlink() or not path.is_file() or not path.stat().st_size:
            continue
        is_single = path.stat().st_nlink == 1 and other.is_file()
        if is_single and other.read_bytes() == path.read_bytes():
            return path
    raise AssertionError("the versions share nothing")


def own_kernel(device: Path) -> Path:
    """A file of slot b that only its own image has."""
    [kernel] = (device / "slots/b/boot").glob("vmlinuz-*")
    return kernel


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module", params=["grub", "directory"])
def first_good(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
    first_grub_device: Path, first_directory_device: Path, server: Server,
) -> Path:  # fmt: skip
    """What `good` is a copy of; nobody changes it."""
    first = first_grub_device if request.param == "grub" else first_directory_device
    device = copy_tree(first, tmp_path_factory.mktemp("good") / "device")
    do(device, "update", *at(server), "--no-self-confirm")
    assert reboot(device) == "b"
    do(device, "commit")
    do(device, "rollback")
    assert reboot(device) == "a"
    do(device, "commit")
    return device


@pytest.fixture
def good(tmp_path: Path, first_good: Path) -> Path:
    """A device that runs v1 in slot a; v2 in slot b was confirmed, and then left."""
    return copy_tree(first_good, tmp_path / "device")


@pytest.fixture
def staged(grub_device: Path, server: Server) -> Path:
    """v2 is staged in slot b; v1 runs in a."""
    do(grub_device, "update", *at(server), "--no-self-confirm", "--stage-only")
    return grub_device


def test_a_slot_that_equals_its_image_is_left_alone(good: Path) -> None:
    before = footprint(good)
    done = repair(good)
    assert done.code == 0
    assert done.out.endswith("files were read. Nothing is to be repaired.\n")
    assert repair(good, "b", "--json").result["repaired"] is False
    assert footprint(good) == before


def test_a_good_slot_is_good_again_without_a_server_and_nothing_is_armed(
    good: Path, images: Images
) -> None:
    slot, path = good / "slots/b", a_shared_file(good)
    running = touched(good)
    flip_a_bit(path)
    (slot / "usr/more/deep").mkdir(parents=True)
    (slot / "boot").chmod(0o700)
    next(each for each in sorted(slot.rglob("*")) if each.is_symlink()).unlink()
    found = repaired(good)
    assert len(found["differences"]) == 5
    assert {"path": f"/{path.relative_to(slot)}", "what": "content"} in found["differences"]
    assert (found["state"], found["bytes"]["downloaded"]) == ("good", 0)
    assert holds(slot) == holds(images.trees / "v2")
    assert {name: held for name, held in touched(good).items() if name in running} == running
    assert status(good)["next"] == "a"
    assert (state(good), known_good(good)) == ("good", True)
    assert reboot(good) == "a"
    do(good, "rollback")
    assert reboot(good) == "b"
    do(good, "commit")


def test_what_a_repair_did_is_told_in_lines_and_in_the_history(good: Path) -> None:
    a_shared_file(good).chmod(0o777)
    done = repair(good)
    assert done.code == 0, done.err
    first, second, third, cost = done.out.splitlines()
    assert first.startswith("mode  /usr/")
    assert second.startswith("Slot b differs from its image v2 in 1 place; ")
    assert third == "Slot b is repaired: it equals its image v2, and is good."
    assert cost.startswith("  bytes: 0 B downloaded, ")
    newest = ota("history", "--root", good, "--json").result["updates"][0]
    assert (newest["kind"], newest["outcome"], newest["version"]) == ("repair", "repaired", "v2")
    assert (newest["from"], newest["to"]) == ("a", "b")
    assert status(good)["last_update"]["kind"] == "repair"
    assert status(good)["verdict"]["code"] == "confirmed"


def test_content_that_is_nowhere_is_refused_before_anything_is_touched_and_fetched_on_request(
    good: Path, server: Server
) -> None:
    kernel = own_kernel(good)
    size = kernel.stat().st_size
    flip_a_bit(kernel)
    error = refused(good)
    assert (error["code"], error["slug"]) == (12, "content-missing")
    assert f"1 file ({size} bytes) is neither in slot b nor in slot a" in error["message"]
    assert "ota verify --repair --version URL" in error["hint"]
    assert known_good(good)
    found = repaired(good, *at(server))
    assert 0 < found["bytes"]["downloaded"] <= size
    assert found["bytes"]["downloaded"] + found["bytes"]["reused"] <= found["bytes"]["total"]
    assert (found["state"], known_good(good)) == ("good", True)


def test_where_another_image_or_nothing_is_published_nothing_is_touched(
    good: Path, server: Server
) -> None:
    flip_a_bit(own_kernel(good))
    error = refused(good, *at(server, "v1"))
    assert (error["code"], error["slug"]) == (11, "another-image")
    assert refused(good, *at(server, "v3"))["code"] == 12
    assert refused(good, "--version", f"{server.url}v2/")["code"] == 69, "its CA is not known"
    assert known_good(good)


def test_no_server_is_asked_for_what_the_device_has(good: Path) -> None:
    flip_a_bit(a_shared_file(good))
    nobody = "https://127.0.0.1:9/v2/"
    assert repaired(good, "--version", nobody)["bytes"]["downloaded"] == 0


def test_the_server_may_be_named_in_the_settings(good: Path, server: Server) -> None:
    settings = f"persist: [/etc/ota]\nserver: {server.url}\ncacert: {server.cacert}\n"
    (good / "etc/ota/ota.yml").write_text(settings)
    flip_a_bit(own_kernel(good))
    assert repaired(good, "--version", "v2")["bytes"]["downloaded"] > 0


def test_boot_files_that_broke_are_installed_anew(staged: Path) -> None:
    flip_a_bit(staged / "boot/ota/slot-b/kernel")
    assert ota("activate", "--root", staged).code == 14
    assert repaired(staged)["differences"] == []
    do(staged, "activate")
    assert reboot(staged) == "b"


def test_a_staged_slot_is_staged_again_and_lost_trials_still_count(staged: Path) -> None:
    do(staged, "activate")
    reboot(staged)
    assert reboot(staged) == "a", "the trial never reached user space"
    a_shared_file(staged).unlink()
    assert repaired(staged)["state"] == "staged"
    verdict = status(staged)["verdict"]
    assert "v2 is staged in slot b." in verdict["text"]
    assert verdict["hint"] == "`ota activate` arms it"
    for _ in range(2):
        do(staged, "activate")
        reboot(staged)
        assert reboot(staged) == "a"
    assert state(staged) == "bad"


def test_an_armed_slot_is_refused_until_that_is_taken_back(staged: Path) -> None:
    do(staged, "activate")
    a_shared_file(staged).unlink()
    assert "hint: `ota rollback` takes it back; then" in ota("verify", "--root", staged).out
    error = refused(staged)
    assert (error["code"], error["slug"]) == (14, "slot-armed")
    assert status(staged)["next"] == "b"
    do(staged, "rollback")
    assert repaired(staged)["state"] == "staged"


def test_an_image_that_failed_is_not_brought_back(staged: Path) -> None:
    do(staged, "activate")
    reboot(staged)
    do(staged, "rollback")
    assert reboot(staged) == "a"
    assert state(staged) == "bad"
    assert repair(staged).out.endswith("Nothing is to be repaired.\n")
    a_shared_file(staged).unlink()
    assert "ota verify --repair" not in ota("verify", "--root", staged).out
    error = refused(staged)
    assert (error["code"], error["slug"]) == (18, "failed-before")


def test_a_slot_without_an_image_or_with_that_of_somebody_else_is_refused(
    staged: Path,
) -> None:
    slots = staged / "slots"
    shutil.rmtree(slots / "b/.ota")
    assert refused(staged)["slug"] == "no-image"
    shutil.rmtree(slots / "b")
    subprocess.run(["cp", "-a", slots / "a", slots / "b"], check=True)
    assert repair(staged).code == 0, "it equals its image"
    a_shared_file(staged).unlink()
    error = refused(staged)
    assert (error["code"], error["slug"]) == (14, "unknown-image")


def test_an_image_that_is_not_trusted_any_more_brings_nothing_back(staged: Path) -> None:
    a_shared_file(staged).unlink()
    for path in (staged / "etc/ota/certs").iterdir():
        path.unlink()
    assert refused(staged)["code"] == 10


def test_only_the_standby_slot_is_repaired(staged: Path) -> None:
    error = refused(staged, "a")
    assert (error["code"], error["slug"]) == (14, "running-slot")


@pytest.mark.parametrize(
    "words",
    [
        ("--version", "https://127.0.0.1:9/"),
        ("--cacert", "file"),
        ("--repair", "--limit-rate", "1M"),
        ("--repair", "--cookie", "a=b"),
        ("--repair", "--insecure-http"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(staged: Path, words: tuple[str, ...]) -> None:
    done = ota("verify", "--root", staged, *words)
    assert done.code == 2
    assert "Nothing on this device was changed." in done.err


def test_neither_during_a_trial_nor_beside_another_ota(staged: Path) -> None:
    with (staged / "run/ota.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert refused(staged)["code"] == 75
    do(staged, "activate")
    assert reboot(staged) == "b"
    (staged / "slots/a/usr/more").mkdir()
    error = refused(staged)
    assert (error["code"], error["slug"]) == (75, "unconfirmed-trial")


@pytest.fixture
def cut_off(good: Path, publisher: Publisher) -> Path:
    """The repair of slot b ended in the middle of its fill."""
    for path in (own_kernel(good), a_shared_file(good)):
        flip_a_bit(path)
    for name in ("rootfs", "rootfs.zst"):
        shutil.rmtree(publisher.directory / name, ignore_errors=True)
    done = repair(good, *publisher.at(), "--json")
    assert done.code == 12, done.out
    assert done.document["error"]["footprint"] == "standby"
    assert not known_good(good)
    return good


def test_a_repair_that_was_cut_off_is_told_and_gone_on_with(cut_off: Path, server: Server) -> None:
    told = status(cut_off)
    assert (told["slots"]["b"]["state"], told["next"]) == ("staging", "a")
    assert "The repair of slot b was interrupted." in told["verdict"]["text"]
    assert "`ota verify --repair`" in told["verdict"]["hint"]
    looked = ota("verify", "--root", cut_off, "--json").document["error"]
    assert (looked["slug"], "repair" in looked["message"]) == ("no-image", True)
    assert refused(cut_off)["slug"] == "content-missing"
    for verb in ("rollback", "switch-slot", "activate"):
        assert ota(verb, "--root", cut_off).code == 14
    assert repaired(cut_off, *at(server))["state"] == "good"
    assert known_good(cut_off)
    kinds = [each["kind"] for each in ota("history", "--root", cut_off, "--json").result["updates"]]
    assert kinds.count("repair") == 1


def test_an_update_after_a_repair_that_was_cut_off_works_as_ever(
    cut_off: Path, server: Server
) -> None:
    do(cut_off, "update", *at(server), "--no-self-confirm")
    assert reboot(cut_off) == "b"
    do(cut_off, "commit")
    record = json.loads((cut_off / "boot/ota/state.json").read_text())
    assert (record["slots"]["b"]["state"], record["transaction"]["kind"]) == ("good", "update")


def test_what_an_unfinished_update_left_is_not_repaired(staged: Path, publisher: Publisher) -> None:
    flip_a_bit(own_kernel(staged))
    for name in ("rootfs", "rootfs.zst"):
        shutil.rmtree(publisher.directory / name, ignore_errors=True)
    assert ota("update", "--root", staged, *publisher.at(), "--no-self-confirm").code == 12
    assert refused(staged)["slug"] == "no-image"
