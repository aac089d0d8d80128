"""Whole updates as a user runs them, on directory slots, without root."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Callable

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server
from tests.support.bench import ota
from tests.support.independent_reader import materialise
from tests.support.systems import make_system
from tests.support.trees import snapshot, without


def reboot(device: Path) -> str:
    """A simulated reboot; the slot that came up."""
    return next_boot(probe(device)).slot


def test_the_whole_story_from_check_to_rollback(
    device: Path, server: Server, images: Images
) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)

    checked = ota("check", *at, "--json")
    assert checked.code == 20
    assert checked.result["available"] is True
    assert checked.result["bytes"]["exact"] is True

    updated = ota("update", *at, "--json")
    assert updated.code == 0, updated.out
    assert updated.result["version"] == "v2"
    assert updated.result["slot"] == "b"
    assert updated.result["bytes"]["downloaded"] == checked.result["bytes"]["download"]
    assert updated.result["files"]["copied"] > 20

    assert ota("status", "--root", device, "--json").result["verdict"]["code"] == "armed"
    assert reboot(device) == "b"
    assert ota("status", "--root", device, "--json").result["verdict"]["code"] == "trial"
    assert ota("update", *at).code == 75, "no update while a trial is unconfirmed"
    assert ota("commit", "--root", device).code == 0
    status = ota("status", "--root", device, "--json").result
    assert (status["running"], status["next"], status["verdict"]["code"]) == ("b", "b", "confirmed")
    assert status["slots"]["b"]["version"] == "v2"

    assert ota("check", *at).code == 0, "up to date"
    again = ota("update", *at, "--json")
    assert (again.code, again.result["up_to_date"]) == (0, True)

    assert ota("rollback", "--root", device).code == 0
    assert reboot(device) == "a"
    assert ota("commit", "--root", device).code == 0
    assert ota("status", "--root", device, "--json").result["running"] == "a"


def test_the_slot_equals_the_image(device: Path, server: Server, images: Images) -> None:
    done = ota(
        "update", "--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert
    )
    assert done.code == 0, done.err
    own = ("/etc/hostname", "/etc/fstab", "/etc/ota")
    slot = without(snapshot(device / "slots/b", mtimes=True), *own, "/etc")
    tree = without(snapshot(images.trees / "v2", mtimes=True), *own, "/etc")
    assert slot == tree


def test_persistent_files_and_device_lines_come_from_the_running_system(
    device: Path, server: Server
) -> None:
    running = device / "slots/a"
    (running / "etc/hostname").write_text("this-very-device\n")
    (running / "etc/site").mkdir()
    (running / "etc/site/key").write_text("secret")
    (running / "etc/fstab").write_text("LABEL=slot-a / ext4 ro 0 1\nLABEL=boot /boot ext4 ro 0 2\n")

    done = ota(
        "update", "--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert
    )

    assert done.code == 0, done.err
    new = device / "slots/b"
    assert (new / "etc/hostname").read_text() == "this-very-device\n"
    assert (new / "etc/site/key").read_text() == "secret"
    fstab = (new / "etc/fstab").read_text()
    assert "LABEL=boot /boot ext4 ro 0 2\n" in fstab
    assert "/dev/sdz /data ext4 nofail\n# kept\n" in fstab
    assert "LABEL=other" not in fstab


@pytest.mark.parametrize(
    ("first", "second"), [("v1", "v2"), ("v2", "v1"), ("v2", "v2"), ("v1", "v1")]
)
def test_images_of_the_field_update_in_place(
    legacy_device: Path,
    legacy_server: Server,
    legacy: Path,
    tmp_path: Path,
    first: str,
    second: str,
) -> None:
    for version in (first, second):
        done = ota(
            "update", "--root", legacy_device, "--version", f"{legacy_server.url}{version}",
            "--cacert", legacy_server.cacert, "--json",
        )  # fmt: skip
        assert done.code == 0, done.out
        assert done.result["version"] == version, "named by the URL's last part"
    if second == "v1":
        return  # runs already: nothing was brought
    materialise(legacy / second, tmp_path / "tree")
    own = ("/etc/hosts", "/etc/hostname", "/etc/machine-id", "/home/svc", "/etc/fstab", "/etc/ota")
    slot = without(snapshot(legacy_device / "slots/b"), *own)
    assert slot == without(snapshot(tmp_path / "tree"), *own)


def test_an_image_is_activated_later(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at, "--stage-only").code == 0
    assert ota("status", "--root", device, "--json").result["next"] == "a"
    done = ota("activate", "--root", device)
    assert done.code == 0, done.err
    assert ota("status", "--root", device, "--json").result["next"] == "b"
    assert ota("rollback", "--root", device).code == 0
    assert ota("status", "--root", device, "--json").result["next"] == "a"


def test_a_staged_slot_that_was_changed_is_not_activated(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at, "--stage-only").code == 0
    (device / "slots/b/usr/bin/sh").write_bytes(b"\x7fELF other")
    done = ota("activate", "--root", device)
    assert done.code == 12
    assert "/usr/bin/" in done.err
    assert ota("status", "--root", device, "--json").result["next"] == "a"


@pytest.mark.parametrize("mount_point", ["/boot", "/boot/"])
def test_a_system_that_mounts_boot_can_confirm_itself_however_the_line_is_written(
    grub_device: Path, server: Server, images: Images, mount_point: str
) -> None:
    running = grub_device / "slots/a/etc"
    (running / "ota/certs").mkdir(parents=True)
    shutil.copy(images.anchor, running / "ota/certs")
    (running / "fstab").write_text(f"LABEL=a / ext4 ro 0 1\nLABEL=boot\t{mount_point} ext4\n")
    at = ("--root", grub_device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", *at)
    assert done.code == 0, done.err
    assert reboot(grub_device) == "b"


def one_name_gets_a_file_of_its_own(slot: Path) -> None:
    (slot / "usr/bin/dash").unlink()
    shutil.copy2(slot / "usr/bin/sh", slot / "usr/bin/dash")


def a_file_gets_an_attribute(slot: Path) -> None:
    try:
        os.setxattr(slot / "usr/bin/su", "user.foreign", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")


def a_fifo_is_replaced(slot: Path) -> None:
    (slot / "srv/fifo").unlink()
    (slot / "srv/fifo").write_bytes(b"")


def a_fifo_is_opened_to_all(slot: Path) -> None:
    (slot / "srv/fifo").chmod(0o666)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (one_name_gets_a_file_of_its_own, "/usr/bin/sh: hard link"),
        (a_file_gets_an_attribute, "/usr/bin/su: extended attributes"),
        (a_fifo_is_replaced, "/srv/fifo: missing"),
        (a_fifo_is_opened_to_all, "/srv/fifo: mode"),
    ],
)
def test_a_staged_slot_is_compared_in_all_that_an_image_fixes(
    device: Path, images: Images, server: Server, tmp_path: Path,
    change: Callable[[Path], None], where: str,
) -> None:  # fmt: skip
    tree, image = tmp_path / "tree", images.directory / tmp_path.name
    make_system(tree, 2)
    os.mkfifo(tree / "srv/fifo", 0o600)
    keys = ("--key", images.keys / "sign.key", "--cert", images.keys / "sign.crt")
    for words in (("build", tree, image, "--version", "fifo"), ("sign", image, *keys)):
        assert ota("image", *words).code == 0
    at = ("--version", f"{server.url}{image.name}/", "--cacert", server.cacert)
    assert ota("update", "--root", device, *at, "--stage-only").code == 0
    change(device / "slots/b")
    done = ota("activate", "--root", device)
    assert done.code == 12
    assert where in done.err
    assert ota("update", "--root", device, *at, "--stage-only").code == 0
    done = ota("activate", "--root", device)
    assert done.code == 0, done.err


def test_a_dry_run_changes_nothing(device: Path, server: Server) -> None:
    before = snapshot(device, mtimes=True)
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", *at, "--dry-run", "--json")
    assert done.code == 0, done.out
    assert done.result["bytes"]["download"] > 0
    assert snapshot(device, mtimes=True) == before


def test_switch_slot_boots_the_other_good_slot(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("switch-slot", "--root", device).code == 14, "slot b is empty"
    assert ota("update", *at).code == 0
    assert reboot(device) == "b"
    assert ota("commit", "--root", device).code == 0
    assert ota("switch-slot", "a", "--root", device).code == 0
    assert reboot(device) == "a"
    assert ota("switch-slot", "b", "--root", device).code == 75, "first confirm what runs"
    assert ota("commit", "--root", device).code == 0
    assert ota("switch-slot", "a", "--root", device).code == 0, "runs already"


def test_a_trial_that_is_not_confirmed_falls_back_and_is_remembered(
    device: Path, server: Server
) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    check = device / "etc/ota/health.d/10-no"
    check.parent.mkdir()
    check.write_text("#!/bin/sh\necho no good\nexit 3\n")
    check.chmod(0o755)
    assert ota("update", *at).code == 0
    assert reboot(device) == "b"
    failed = ota("commit", "--root", device, "--json")
    assert failed.code == 18
    assert "10-no" in failed.document["error"]["message"]
    assert reboot(device) == "a"
    status = ota("status", "--root", device, "--exit-code", "--json")
    assert status.code == 18
    assert status.result["verdict"]["code"] == "fell_back"
    assert "10-no" in status.result["verdict"]["text"]
    assert status.document["error"]["slug"] == "fell-back"
    assert status.document["ok"] is False
    assert ota("update", *at).code == 18, "not tried again by itself"
    assert ota("update", *at, "--retry-failed").code == 0


def test_a_trial_lost_before_user_space_is_activated_again(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at).code == 0
    for _ in range(2):
        assert reboot(device) == "b"
        assert reboot(device) == "a", "power cut during the trial"
        assert ota("status", "--root", device, "--json").result["slots"]["b"]["state"] == "staged"
        assert ota("activate", "--root", device).code == 0
    assert reboot(device) == "b"
    assert reboot(device) == "a"
    assert ota("status", "--root", device, "--json").result["slots"]["b"]["state"] == "bad"
    assert ota("activate", "--root", device).code == 14
    history = (device / "boot/ota/history.jsonl").read_text().splitlines()
    ends = [(end["outcome"], end["attempts"]) for end in map(json.loads, history)]
    assert ends == [("fell_back", 1), ("fell_back", 2), ("fell_back", 3)]


def test_the_last_line_of_jsonl_is_the_document(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    lines = ota("update", *at, "--output", "jsonl").out.splitlines()
    assert json.loads(lines[-1])["result"]["version"] == "v2"
    assert {json.loads(line)["event"] for line in lines[:-1]} >= {"phase", "progress"}
