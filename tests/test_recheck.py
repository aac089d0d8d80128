"""`ota verify` finds what is not as the signed image says, and changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Server
from tests.support.bench import Ran, environment, ota, ota_argv
from tests.support.publisher import Attempt


def verify(device: Path, *words: object) -> Ran:
    return ota("verify", "--root", device, *words)


def update(device: Path, server: Server, *words: str) -> None:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    done = ota("update", "--root", device, *at, *words)
    assert done.code == 0, done.err


@pytest.fixture
def staged(grub_device: Path, server: Server) -> Path:
    """v2 is staged in b; v1 runs in a."""
    update(grub_device, server, "--stage-only")
    return grub_device


def told(device: Path, *words: object) -> List[Tuple[str, str]]:
    done = verify(device, "--json", *words)
    assert done.code == 12, done.out
    assert done.document["error"]["slug"] == "slot-differs"
    assert done.result["equal"] is False
    return [(each["path"], each["what"]) for each in done.result["differences"]]


def footprint(device: Path) -> Dict[str, Any]:
    """Everything a writer would leave a trace in; directories of the lock and mounts aside."""
    return {
        str(path): (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)
        for path in device.rglob("*")
        if device / "run" not in (path, *path.parents)
        for status in [path.lstat()]
    }


def test_the_standby_slot_is_what_is_verified(staged: Path) -> None:
    done = verify(staged, "--json")
    assert done.code == 0, done.out
    assert set(done.result) == {"slot", "version", "image_id", "equal", "files", "differences"}
    assert (done.result["slot"], done.result["version"]) == ("b", "v2")
    assert (done.result["equal"], done.result["differences"]) == (True, [])
    shown = verify(staged, "b")
    files = done.result["files"]
    assert shown.out == f"Slot b equals its image v2: {files} files were read.\n"
    assert "comparing" in shown.err


def test_an_image_without_a_version_has_the_name_it_was_brought_under(
    legacy_device: Path, legacy_server: Server
) -> None:
    update(legacy_device, legacy_server, "--stage-only", "--as", "november")
    assert verify(legacy_device).out.startswith("Slot b equals its image november: ")
    assert verify(legacy_device, "a").out.startswith("Slot a equals its image: ")


def test_nothing_is_changed_by_looking(staged: Path) -> None:
    before = footprint(staged)
    assert verify(staged).code == 0
    assert verify(staged, "a").code == 0
    (staged / "slots/b/etc/site/new").mkdir(parents=True)
    (staged / "slots/b/opt/new").mkdir(parents=True)
    harmed = footprint(staged)
    assert harmed != before
    assert verify(staged).code == 12
    assert footprint(staged) == harmed


def test_a_file_that_its_owner_may_not_read_is_not_opened_up_for_that(
    device: Path, server: Server
) -> None:
    update(device, server, "--stage-only")
    path = a_file(device / "slots/b")
    path.chmod(0)
    drop: List[str] = []
    if os.geteuid() == 0:  # who can read everything, and has no need to
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if subprocess.run([*drop, *ota_argv(), "--version"], check=False).returncode:
            pytest.skip("only root can read the program here")
        subprocess.run(["chown", "-R", "65534:65534", device], check=True)
        for directory in device.parents:
            if not directory.stat().st_mode & 0o001:
                directory.chmod(0o755)
    before = footprint(device)
    done = subprocess.run(
        [*drop, *ota_argv(), "verify", "--root", str(device)],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 12, done.stderr
    assert f"can not be read  /{path.relative_to(device / 'slots/b')}" in done.stdout
    assert footprint(device) == before


def a_file(slot: Path) -> Path:
    """One that belongs to the image alone, with a single name."""
    names = (slot / "usr").rglob("*")
    return next(
        each
        for each in sorted(names)
        if each.is_file() and not each.is_symlink() and each.stat().st_size
        and each.stat().st_nlink == 1
    )  # fmt: skip


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def open_to_all(path: Path) -> None:
    path.chmod(0o777)


def give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (flip_a_bit, "content"),
        (open_to_all, "mode"),
        (give_away, "owner"),
        (os.unlink, "missing"),
    ],
)
def test_what_differs_is_told_with_its_path(
    staged: Path, harm: Callable[[Path], None], what: str
) -> None:
    path = a_file(staged / "slots/b")
    harm(path)
    shown = f"/{path.relative_to(staged / 'slots/b')}"
    assert told(staged) == [(shown, what)]
    done = verify(staged)
    first, last, hint = done.out.splitlines()
    assert first == f"{what}  {shown}"
    assert last.startswith("Slot b differs from its image v2 in 1 place; ")
    assert last.endswith(" files were compared.")
    assert hint.startswith("hint: ")


def test_a_file_of_another_size_differs_without_being_read(staged: Path) -> None:
    """A system that ran leaves a sparse /var/log/lastlog: reading this one would take hours."""
    path = a_file(staged / "slots/b")
    os.truncate(path, 4 * 1024**4)
    assert told(staged) == [(f"/{path.relative_to(staged / 'slots/b')}", "content")]


def test_a_very_long_list_is_told_whole(staged: Path) -> None:
    more = staged / "slots/b/usr/more"
    more.mkdir()
    for number in range(2000):
        (more / f"\x1b[{number}m").touch()
    done = verify(staged, "-q")
    assert (done.code, done.err) == (12, "")
    assert len(done.out.splitlines()) == 2001 + 2
    assert all(line.isprintable() for line in done.out.splitlines())
    assert len(told(staged)) == 2001


def test_the_running_slot_may_be_verified_and_what_it_changed_is_no_alarm(staged: Path) -> None:
    assert verify(staged, "a").code == 0
    (staged / "slots/a/var/log").mkdir(parents=True)
    (staged / "slots/a/var/log/messages").write_text("what a running system writes")
    done = verify(staged, "a")
    assert done.code == 12
    assert "slot a runs: what its system changed since is told as well" in done.err
    assert "a running system changes files" in done.out
    assert ("/var/log/messages", "not in the image") in told(staged, "a")


def test_a_slot_without_an_image_is_unusable(grub_device: Path) -> None:
    done = verify(grub_device, "--json")
    assert (done.code, done.document["error"]["slug"]) == (14, "no-image")
    assert ota("verify", "--root", grub_device, "c").code == 2


def test_a_slot_whose_fill_was_cut_off_is_not_taken_for_the_image_before(
    device: Path, server: Server, attempt: Attempt
) -> None:
    update(device, server, "--stage-only")
    assert verify(device).code == 0
    [kernel] = (device / "slots/b/boot").glob("vmlinuz-*")
    flip_a_bit(kernel)  # v1 has another: it has to be fetched
    for name in ("rootfs", "rootfs.zst"):
        shutil.rmtree(attempt.publisher.directory / name, ignore_errors=True)
    attempt.fails(12)
    done = verify(device, "--json")
    assert (done.code, done.document["error"]["slug"]) == (14, "no-image")
    assert "interrupted" in done.document["error"]["message"]


def test_an_image_that_is_not_trusted_any_more_is_told(staged: Path) -> None:
    for path in (staged / "etc/ota/certs").iterdir():
        path.unlink()
    done = verify(staged)
    assert done.code == 10
    assert "Nothing on this device was changed." in done.err


@pytest.mark.parametrize(
    ("name", "at", "code", "slug"),
    [
        ("metadata.jwt", 9, 12, "bad-metadata"),
        ("metadata.jwt", -9, 10, "bad-signature"),
        ("regulars.txt", 9, 12, "digest-mismatch"),
    ],
)
@pytest.mark.parametrize("verb", ["verify", "activate"])
def test_what_a_slot_keeps_of_its_image_is_mended_by_an_update_not_by_the_publisher(
    verb: str, name: str, at: int, code: int, slug: str, staged: Path
) -> None:
    kept = staged / "slots/b/.ota" / name
    data = bytearray(kept.read_bytes())
    data[at] = ord("B" if data[at] == ord("A") else "A")
    kept.write_bytes(data)
    done = ota(verb, "--root", staged, "--json")
    error = done.document["error"]
    assert (done.code, error["slug"]) == (code, slug)
    assert "publisher" not in error["hint"]
    assert error["hint"].startswith("update the slot again")
    assert "what the slot keeps of its image is damaged" in error["message"]


def test_an_image_that_somebody_else_put_there_is_told(staged: Path) -> None:
    slots = staged / "slots"
    shutil.rmtree(slots / "b")
    subprocess.run(["cp", "-a", slots / "a", slots / "b"], check=True)
    done = verify(staged)
    assert done.code == 0
    assert done.out.startswith("Slot b equals its image v1")
    assert "slot b holds another image than the one ota brought there" in done.err


def test_no_update_is_advised_that_would_find_its_image_running(device: Path) -> None:
    slots = device / "slots"
    (slots / "b").rmdir()
    subprocess.run(["cp", "-a", slots / "a", slots / "b"], check=True)
    assert verify(device).code == 0
    flip_a_bit(a_file(slots / "b"))
    assert "hint: it holds the image that runs as well: " in verify(device).out


def test_nobody_changes_a_slot_while_it_is_verified(staged: Path) -> None:
    with (staged / "run/ota.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = verify(staged)
    assert done.code == 75


def test_a_user_who_may_not_lock_the_device_is_told_that_it_needs_root(staged: Path) -> None:
    drop = ["unshare", "--user"] if os.geteuid() == 0 else []
    if drop and subprocess.run([*drop, "true"], check=False).returncode:
        pytest.skip("user namespaces are not to be had here")
    (staged / "run/ota.lock").chmod(0o444)
    done = subprocess.run(
        [*drop, *ota_argv(), "verify", "--root", str(staged)],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 77, done.stderr
    assert "ota.lock" in done.stderr


def test_a_good_slot_left_behind_is_verified_and_mended_by_an_update_to_its_image(
    grub_device: Path, server: Server
) -> None:
    update(grub_device, server)
    assert next_boot(probe(grub_device)).slot == "b"
    assert ota("commit", "--root", grub_device).code == 0
    done = verify(grub_device, "--json")
    assert (done.code, done.result["slot"], done.result["version"]) == (0, "a", "v1")
    flip_a_bit(a_file(grub_device / "slots/a"))
    assert verify(grub_device).code == 12
    again = ("--version", f"{server.url}v1/", "--allow-downgrade", "--stage-only")
    update(grub_device, server, *again)
    assert verify(grub_device).code == 0
    assert ota("activate", "--root", grub_device).code == 0
    assert next_boot(probe(grub_device)).slot == "a"


def test_a_trial_is_confirmed_before_its_slot_is_read(grub_device: Path, server: Server) -> None:
    """Reading holds the lock that the commit needs, and the commit has a deadline."""
    update(grub_device, server)
    next_boot(probe(grub_device))
    done = verify(grub_device, "b")
    assert done.code == 75
    assert "ota commit" in done.err
    assert ota("commit", "--root", grub_device).code == 0
    assert verify(grub_device, "b", "--json").document["error"] is None
