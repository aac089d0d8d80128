"""Slots that are disk-image files and block devices, as root on loop devices."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Mapping, Optional, Tuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server
from tests.support.bench import (
    Ran,
    environment,
    make_device,
    ota,
    ota_argv,
    provision,
    unpack_first,
)
from tests.support.blocks import (
    attached,
    disk_image,
    inside,
    left_behind,
    leftovers,
    loop_device,
    mounted,
    needs_root,
    run,
)
from tests.support.trees import snapshot

pytestmark = [needs_root, pytest.mark.xdist_group("blocks")]

#: Where an update has its slot mounted, in a namespace of its own.
LEFT = "/run/ota/standby"


@pytest.fixture
def two_files(tmp_path: Path, images: Images, server: Server) -> Tuple[Path, Path, Path]:
    """A GRUB device whose slots are files, with v1 in a; and these files."""
    a, b = disk_image(tmp_path / "a.img", "64M"), disk_image(tmp_path / "b.img", "64M")
    slots = "slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n"
    root = make_device(tmp_path / "device", [images.anchor], loader="grub", slots=slots)
    (root / "a.img").symlink_to(a)
    (root / "b.img").symlink_to(b)
    provision(root, a, server)
    return root, a, b


@pytest.fixture(params=["file", "device"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, images: Images, server: Server
) -> Iterator[Tuple[Path, Path, Path]]:
    """A GRUB device whose slots are files or loop devices; and the files behind them."""
    if request.param == "file":
        yield request.getfixturevalue("two_files")
        return
    a, b = disk_image(tmp_path / "a.img", "64M"), disk_image(tmp_path / "b.img", "64M")
    root = tmp_path / "device"
    with loop_device(a) as first, loop_device(b) as second:
        slots = f"slots:\n  a: {{device: {first}}}\n  b: {{device: {second}}}\n"
        make_device(root, [images.anchor], loader="directory", slots=slots)
        provision(root, Path(first), server)
        yield root, Path(first), Path(second)


def update(root: Path, server: Server, *words: str, env: Optional[Mapping[str, str]] = None) -> Ran:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    return ota("update", "--root", root, *at, "--no-self-confirm", *words, env=env)


def test_a_block_slot_is_filled_armed_and_left_unmounted(
    bench: Tuple[Path, Path, Path], server: Server, images: Images, tmp_path: Path
) -> None:
    root, _, second = bench
    loops = attached(tmp_path)
    done = update(root, server)
    assert done.code == 0, done.err
    assert next_boot(probe(root)).slot == "b"
    assert leftovers() == ""
    assert attached(tmp_path) == loops
    options = "ro" if second.is_block_device() else "ro,loop"
    with mounted(second, tmp_path / "look", options) as slot:
        found = inside(snapshot(slot, owners=True, mtimes=True))
    assert found == inside(snapshot(images.trees / "v2", owners=True, mtimes=True))
    run("e2fsck", "-f", "-n", second)


def test_a_slot_in_use_is_refused(
    bench: Tuple[Path, Path, Path], server: Server, tmp_path: Path
) -> None:
    root, _, second = bench
    options = "rw" if second.is_block_device() else "rw,loop"
    with mounted(second, tmp_path / "busy", options):
        done = update(root, server)
    assert done.code == 14
    assert "in use" in done.err
    assert "Nothing on this device was changed." in done.err


def test_a_slot_without_a_file_system_is_formatted_like_the_running_one(
    bench: Tuple[Path, Path, Path], server: Server
) -> None:
    root, first, second = bench
    run("wipefs", "-a", second)
    assert update(root, server, "--no-format").code == 14
    assert update(root, server, "--no-format", "--dry-run").code == 14
    update(root, server)
    assert features(second) == features(first)


@pytest.mark.skipif(
    not Path("/sys/fs/ext4/features/casefold").exists(), reason="this kernel folds no case"
)
def test_nothing_is_unpacked_where_names_that_differ_in_case_are_one(
    images: Images, tmp_path: Path
) -> None:
    run("truncate", "-s", "64M", tmp_path / "disk")
    run("mkfs.ext4", "-q", "-O", "casefold", tmp_path / "disk")
    with mounted(tmp_path / "disk", tmp_path / "mnt", "loop") as place:
        (place / "target").mkdir()
        run("chattr", "+F", place / "target")
        anchors = ("--anchors", images.keys)
        done = ota("image", "unpack", images.directory / "v1", place / "target", *anchors)
        found = [path.name for path in (place / "target").iterdir()]
    assert done.code == 14, done.err
    assert "upper from lower case" in done.err
    assert found == [".ota"]


def features(image: Path) -> str:
    lines = run("dumpe2fs", "-h", image).splitlines()
    return next(line for line in lines if line.startswith("Filesystem features"))


def test_a_slot_too_small_is_refused_before_it_is_touched(
    tmp_path: Path, images: Images, server: Server
) -> None:
    a, b = disk_image(tmp_path / "a.img", "64M"), disk_image(tmp_path / "b.img", "600K")
    root = tmp_path / "device"
    slots = "slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n"
    make_device(root, [images.anchor], loader="grub", slots=slots)
    (root / "a.img").symlink_to(a)
    (root / "b.img").symlink_to(b)
    provision(root, a, server)
    done = update(root, server)
    assert done.code == 13, done.err
    assert "Nothing on this device was changed." in done.err
    assert ota("status", "--root", root, "--json").result["next"] == "a"
    assert leftovers() == ""


def test_a_device_no_kernel_could_find_is_refused_by_setup(
    tmp_path: Path, images: Images, server: Server
) -> None:
    a, b = disk_image(tmp_path / "a.img", "64M"), disk_image(tmp_path / "b.img", "64M")
    with loop_device(a) as first, loop_device(b) as second:
        slots = f"slots:\n  a: {{device: {first}}}\n  b: {{device: {second}}}\n"
        root = make_device(tmp_path / "device", [images.anchor], loader="grub", slots=slots)
        unpack_first(root, first, server)
        done = ota("setup", "--root", root)
    assert done.code == 14
    assert "PARTUUID" in done.err


@pytest.mark.parametrize("content", ["text", "other system", "partition table", "swap"])
def test_unpack_never_writes_over_what_no_unpack_began(
    tmp_path: Path, images: Images, content: str
) -> None:
    target, keys = disk_image(tmp_path / "target", "64M", formatted=False), images.keys
    if content == "text":
        target.write_bytes(b"precious\n" * 4_000_000)
    elif content == "other system":
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").write_text("precious")
        run("mkfs.ext4", "-q", "-d", tmp_path / "tree", target)
    elif content == "partition table":
        run("sh", "-c", f"echo 'label: gpt' | sfdisk -q {target}")
    else:
        run("mkswap", "-q", target)
    before = run("blkid", "-p", target) if content != "text" else target.read_bytes()
    done = ota("image", "unpack", images.directory / "v1", target, "--anchors", keys, "--json")
    assert done.code == 14
    assert done.document["error"]["slug"] == "not-empty"
    assert before == (run("blkid", "-p", target) if content != "text" else target.read_bytes())


def test_unchanged_files_are_trusted_only_while_nobody_else_mounts_the_slot(
    bench: Tuple[Path, Path, Path], server: Server, tmp_path: Path
) -> None:
    root, _, second = bench
    (root / "etc/ota/ota.yml").write_text("verify_local: stat\n")

    def level() -> str:
        done = update(root, server, "--stage-only", "--json")
        assert done.code == 0, done.out
        return str(done.result["verify_local"])

    assert [level(), level(), level()] == ["full", "stat", "stat"]
    with mounted(str(second), tmp_path / "look", "ro"):
        pass
    assert level() == "stat"
    with mounted(str(second), tmp_path / "look"):
        pass
    assert [level(), level()] == ["full", "stat"]


@pytest.mark.parametrize("tool", ["e2fsck", "mkfs.ext4"])
def test_what_a_killed_ota_left_at_work_on_a_slot_keeps_others_away(
    two_files: Tuple[Path, Path, Path], server: Server, tmp_path: Path, tool: str
) -> None:
    root, _, second = two_files
    if tool == "mkfs.ext4":
        run("wipefs", "-a", second)
    real, fake, going = shutil.which(tool), tmp_path / "bin" / tool, tmp_path / "going"
    os.mkfifo(going)
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nkill -9 $PPID\ncat {going}\nexec {real} "$@"\n')
    fake.chmod(0o755)
    killed = update(root, server, env={"PATH": f"{fake.parent}:{os.environ['PATH']}"})
    assert killed.code == -signal.SIGKILL
    with open(going, "w"):
        refused = update(root, server, "--json")
    assert (refused.code, refused.document["error"]["slug"]) == (14, "slot-in-use")

    with open(second) as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # until the one that was left at work is done
    assert update(root, server).code == 0
    assert next_boot(probe(root)).slot == "b"
    run("e2fsck", "-f", "-n", second)


@pytest.mark.parametrize("how", ["mounted", "viewed"])
def test_a_failure_is_told_also_while_a_thread_is_busy_in_the_slot(
    tmp_path: Path, how: str
) -> None:
    """Not that the slot can not be unmounted: one that still connects has its file open."""
    image = disk_image(tmp_path / "slot.img", "16M")
    opened = {
        "mounted": "mounted(sys.argv[1], Path(sys.argv[2]), ['loop'])",
        "viewed": "read_only_view(Path('/'), Path(sys.argv[2]))",
    }
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ota_cli.errors import Unreachable\n"
        "from ota_cli.host.mounts import enter_private_namespace, mounted, read_only_view\n"
        "enter_private_namespace()\n"
        "try:\n"
        f"    with {opened[how]} as root:\n"
        "        busy = os.open(root, os.O_RDONLY)\n"
        "        raise Unreachable('the server is gone')\n"
        "except Unreachable:\n"
        "    print(os.path.ismount(sys.argv[2]))\n"
    )
    words = [sys.executable, "-c", code, str(image), str(tmp_path / "place")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert left_behind(tmp_path) == ("", [])


def test_killed_without_mercy_nothing_stays_mounted(
    two_files: Tuple[Path, Path, Path], server: Server
) -> None:
    root, _, b = two_files
    argv = ["update", "--root", str(root), "--version", f"{server.url}v2/", "--no-self-confirm"]
    argv += ["--cacert", str(server.cacert), "--limit-rate", "20K", "--output", "plain"]
    process = subprocess.Popen(
        [*ota_argv(), *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "downloading" in line:
            break
    process.kill()
    process.communicate(timeout=60)

    assert leftovers() == ""
    assert str(b) not in run("losetup", "-l", "-n"), "the kernel took the loop device down"
    assert ota("status", "--root", root, "--json").result["next"] == "a"
    again = update(root, server, "--json")
    assert again.code == 0, again.out
    assert next_boot(probe(root)).slot == "b"


@pytest.fixture
def broken_other(two_files: Tuple[Path, Path, Path], server: Server) -> Tuple[Path, Path]:
    """A GRUB device whose v2 in slot b is confirmed; then slot a, known to be good, breaks."""
    root, a, _ = two_files
    assert update(root, server).code == 0
    assert next_boot(probe(root)).slot == "b"
    assert ota("commit", "--root", root).code == 0
    run("debugfs", "-w", "-R", "clri <2>", a)  # without its root directory e2fsck -p gives up
    run("debugfs", "-w", "-R", "ssv state 2", a)
    return root, a


def test_a_damaged_slot_is_withdrawn_before_a_new_file_system_is_made(
    broken_other: Tuple[Path, Path], server: Server, tmp_path: Path
) -> None:
    root, first = broken_other
    fake = tmp_path / "bin/mkfs.ext4"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nls {root}/boot/ota/slot-a >{tmp_path}/seen\nexit 1\n")
    fake.chmod(0o755)
    words = ("--version", f"{server.url}v1/", "--cacert", server.cacert, "--allow-downgrade")
    path = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = ota("update", "--root", root, *words, "--no-self-confirm", "--json", env=path)
    assert done.code == 14, done.out
    assert done.document["error"]["footprint"] == "standby"
    seen = (tmp_path / "seen").read_text().split()
    assert "ready" not in seen
    assert "good" not in seen
    assert ota("rollback", "--root", root).code == 14
    assert next_boot(probe(root)).slot == "b"
    done = ota("update", "--root", root, *words, "--no-self-confirm")
    assert done.code == 0, done.err
    assert next_boot(probe(root)).slot == "a"
    run("e2fsck", "-f", "-n", first)


@pytest.mark.parametrize("words", [("rollback",), ("switch-slot", "--trust-record")])
def test_a_slot_whose_file_system_broke_is_not_armed(
    broken_other: Tuple[Path, Path], words: Tuple[str, ...]
) -> None:
    root, _ = broken_other
    done = ota(*words, "--root", root, "--json")
    assert done.code == 14, done.out
    assert done.document["error"]["slug"] == "slot-damaged"
    assert ota("status", "--root", root, "--json").result["next"] == "b"


def test_a_check_does_not_mount_what_an_update_is_working_on(
    bench: Tuple[Path, Path, Path], server: Server
) -> None:
    root, _, _ = bench
    new, own = (
        ("--root", root, "--version", f"{server.url}{name}/", "--cacert", server.cacert)
        for name in ("v2", "v1")
    )
    with open(root / "run/ota.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ota("check", *new).code == 75
        assert ota("check", *own).code == 0, "no slot need be looked at"
    assert ota("check", *new).code == 20


def test_a_check_looks_through_both_slots(bench: Tuple[Path, Path, Path], server: Server) -> None:
    root, _, second = bench
    run("mkfs.ext4", "-q", "-F", second)
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    told = ota("check", "--root", root, *at, "--json").result
    done = update(root, server, "--json").result
    assert told["files"] == done["files"]
    assert told["files"]["copied"] > 0
    assert told["bytes"]["download"] == done["bytes"]["downloaded"]


def test_a_block_slot_is_verified_and_not_a_byte_of_it_changes(
    bench: Tuple[Path, Path, Path], server: Server, tmp_path: Path
) -> None:
    root, first, second = bench
    assert ota("verify", "--root", root).code == 14, "there is no image yet"
    assert update(root, server, "--stage-only").code == 0
    before = [first.read_bytes(), second.read_bytes()]
    for slot in ("a", "b"):
        done = ota("verify", slot, "--root", root)
        assert done.code == 0, done.out + done.err
    assert [first.read_bytes(), second.read_bytes()] == before
    options = "rw" if second.is_block_device() else "rw,loop"
    with mounted(second, tmp_path / "harm", options) as slot:
        (slot / "opt/not-of-the-image").mkdir(parents=True)
    done = ota("verify", "--root", root)
    assert done.code == 12
    assert "not in the image  /opt/not-of-the-image" in done.out
    assert leftovers() == ""


def test_doctor_names_a_mount_that_keeps_updates_from_their_slot(
    bench: Tuple[Path, Path, Path], tmp_path: Path
) -> None:
    root, _, second = bench
    look = tmp_path / "look"
    with mounted(second, look, "ro" if second.is_block_device() else "ro,loop"):
        done = ota("doctor", "--root", root, "--json")
        assert done.code == 14, done.out
        found = {each["name"]: each for each in done.result["findings"]}["mounts"]
        assert f"slot b is mounted on {look}" in found["text"]
        assert found["hint"] == f"umount {look}"
    assert ota("doctor", "--root", root).code == 0


def test_doctor_names_what_an_ota_left_mounted(bench: Tuple[Path, Path, Path]) -> None:
    root, _, _ = bench
    script = f'mkdir -p {LEFT} && mount -t tmpfs none {LEFT} && exec "$@"'
    alone = ["unshare", "--mount", "sh", "-c", script, "sh"]  # other tests do not see it
    argv = [*alone, *ota_argv(), "doctor", "--root", str(root)]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 14, done.stderr
    assert f"umount {LEFT}" in done.stdout


def test_cron_searches_few_places_and_finds_all_that_is_needed(
    bench: Tuple[Path, Path, Path], server: Server
) -> None:
    root, _, _ = bench
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--stage-only")
    argv = [*ota_argv(), "update", "--root", root, *at, "--no-self-confirm"]
    env = {**environment(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(list(map(str, argv)), env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_slot_that_was_not_unmounted_is_not_taken_for_what_lies_in_its_journal(
    bench: Tuple[Path, Path, Path], server: Server, tmp_path: Path
) -> None:
    """What a read-only mount shows of it is older than what the next boot, or fsck, will see."""
    root, _, second = bench
    assert update(root, server, "--stage-only").code == 0
    lose_power_after_a_write(second, tmp_path)
    done = ota("verify", "--root", root, "--json")
    assert (done.code, done.document["error"]["slug"]) == (14, "slot-damaged")
    assert "e2fsck -p" in done.document["error"]["hint"]
    done = ota("activate", "--root", root, "--json")
    assert done.code == 12, done.out
    assert "/opt/not-of-the-image" in done.document["error"]["message"]
    assert ota("status", "--root", root, "--json").result["next"] == "a"
    done = ota("verify", "--root", root)
    assert done.code == 12, "that was the check of its file system, which wrote the journal out"
    assert leftovers() == ""


def lose_power_after_a_write(slot: Path, tmp_path: Path) -> None:
    """Leaves a directory in `slot` that only its journal knows of."""
    is_device = slot.is_block_device()
    with mounted(slot, tmp_path / "harm", "rw" if is_device else "rw,loop") as root:
        (root / "opt/not-of-the-image").mkdir(parents=True)
        descriptor = os.open(root / "opt/not-of-the-image", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        shutil.copyfile(slot, tmp_path / "as-it-was")
    with open(slot, "r+b") as target, open(tmp_path / "as-it-was", "rb") as source:
        shutil.copyfileobj(source, target)


def test_a_good_block_slot_is_repaired_and_known_to_be_good_again(
    bench: Tuple[Path, Path, Path], server: Server, images: Images, tmp_path: Path
) -> None:
    root, first, _ = bench
    assert update(root, server).code == 0
    assert next_boot(probe(root)).slot == "b"
    assert ota("commit", "--root", root).code == 0
    loops = attached(tmp_path)
    options = "rw" if first.is_block_device() else "rw,loop"
    with mounted(first, tmp_path / "harm", options) as slot:
        next((slot / "boot").glob("vmlinuz-*")).write_text("rotten")
        (slot / "opt/not-of-the-image").mkdir(parents=True)
        os.chown(slot / "usr", 12345, 12345)
        harmed = snapshot(slot, owners=True, mtimes=True)
    done = ota("verify", "--repair", "--root", root, "--json")
    assert (done.code, done.document["error"]["slug"]) == (12, "content-missing")
    assert done.document["error"]["footprint"] == "nothing"
    with mounted(first, tmp_path / "harm", options) as slot:
        assert snapshot(slot, owners=True, mtimes=True) == harmed
    at = ("--version", f"{server.url}v1/", "--cacert", server.cacert)
    done = ota("verify", "--repair", "--root", root, *at, "--json")
    assert (done.code, done.result["state"]) == (0, "adopted"), done.out
    assert ota("verify", "--root", root).code == 0
    assert leftovers() == ""
    assert attached(tmp_path) == loops
    with mounted(first, tmp_path / "look", options.replace("rw", "ro")) as slot:
        found = inside(snapshot(slot, owners=True, mtimes=True))
    assert found == inside(snapshot(images.trees / "v1", owners=True, mtimes=True))
    run("e2fsck", "-f", "-n", first)
    assert ota("status", "--root", root, "--json").result["next"] == "b"
    assert ota("rollback", "--root", root).code == 0
    assert next_boot(probe(root)).slot == "a"


def test_a_repair_makes_no_new_file_system(broken_other: Tuple[Path, Path]) -> None:
    root, first = broken_other
    before = created(first)
    done = ota("verify", "--repair", "--root", root, "--json")
    assert done.code == 14, done.out
    assert "`ota update`" in done.document["error"]["hint"]
    assert created(first) == before
    assert ota("status", "--root", root, "--json").result["next"] == "b"


def created(image: Path) -> str:
    """When the file system was made."""
    header = run("dumpe2fs", "-h", image).splitlines()
    return next(line for line in header if line.startswith("Filesystem created:"))
