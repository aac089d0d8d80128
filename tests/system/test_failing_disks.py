"""What `ota` does on real file systems that fail: full, unreadable, not writing, read-only."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Iterator

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.support.bench import Ran, make_device, ota, provision
from tests.support.blocks import (
    attached,
    disk_image,
    inside,
    leftovers,
    loop_device,
    mounted,
    needs_root,
    run,
)
from tests.support.failing import (
    CueServer,
    fill_up,
    inside_of,
    limit,
    lose_content,
    thin_store,
    trigger_error,
    use_up_inodes,
)
from tests.support.trees import snapshot

pytestmark = [needs_root, pytest.mark.xdist_group("blocks")]

FILE_SLOTS = "slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n"
#: Of the running slot, what a new system can not do without.
CARRIED = ("hostname", "fstab", "passwd")
#: Of v2, in whole blocks of its boot partition and what these need besides.
KERNEL_BYTES, INITRD_BYTES = 89 * 1024, 50 * 1024
#: v2 needs about so many inodes, with what is asked to be spare; and mkfs keeps some for itself.
INODES = 224


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, images: Images, server: Server) -> Path:
    """A GRUB device, v1 in a disk image, the other one empty; nobody changes it."""
    root = tmp_path_factory.mktemp("first") / "device"
    make_device(root, [images.anchor], loader="grub", slots=FILE_SLOTS)
    for name in ("a.img", "b.img"):
        disk_image(root / name, "64M")
    provision(root, root / "a.img", server)
    return root


@pytest.fixture
def root(first: Path, tmp_path: Path) -> Path:
    return copy_tree(first, tmp_path / "device")


def update(root: Path, url: str, cacert: Path) -> Ran:
    at = ("--version", url, "--cacert", cacert)
    return ota("update", "--root", root, *at, "--no-self-confirm", "--json")


def fails(root: Path, done: Ran, *codes: int, footprint: str = "standby") -> str:
    """The update failed as documented, and the old system is what boots; what was said."""
    assert done.code in codes, done.out
    error = done.document["error"]
    assert error["footprint"] == footprint
    assert error["hint"]
    require_old(root)
    return f"{error['slug']}: {error['message']} ({error['hint']})"


def require_unmarked(root: Path) -> None:
    """Nothing marks the standby slot as one that may boot."""
    assert not (root / "boot/ota/slot-b/ready").exists()


def require_old(root: Path) -> None:
    status = ota("status", "--root", root, "--json").result
    assert (status["running"], status["next"]) == ("a", "a")
    assert status["verdict"]["code"] != "disagree"
    assert status["slots"]["b"]["state"] in ("empty", "staging", "staged")
    assert next_boot(probe(root)).slot == "a"
    assert leftovers() == ""


def completes(root: Path, done: Ran, slot: Path, images: Images) -> None:
    """The update was done: the new system boots, and all of it is on the disk."""
    assert done.code == 0, done.out
    assert next_boot(probe(root)).slot == "b"
    assert leftovers() == ""
    require_whole(slot, root.with_name("look"), images)


def require_whole(slot: Path, look: Path, images: Images) -> None:
    """What is in `slot` is v2, also for who mounts it without repairing anything."""
    with ExitStack() as stack:
        if not slot.is_dir():
            run("e2fsck", "-f", "-n", slot)
            options = "ro,noload" if slot.is_block_device() else "ro,noload,loop"
            slot = stack.enter_context(mounted(slot, look, options))
        found = inside(snapshot(slot, owners=True, mtimes=True))
    assert found == inside(snapshot(images.trees / "v2", owners=True, mtimes=True))


# --- full --------------------------------------------------------------------------------------


def test_a_slot_with_too_few_inodes_is_refused_before_it_is_touched(
    root: Path, server: Server, images: Images
) -> None:
    slot = root / "b.img"
    run("mkfs.ext4", "-q", "-F", "-N", INODES - 128, slot, "16M")
    said = fails(root, update(root, f"{server.url}v2/", server.cacert), 13, footprint="nothing")
    assert "inodes" in said
    run("e2fsck", "-f", "-p", slot)
    run("resize2fs", slot, "64M")
    completes(root, update(root, f"{server.url}v2/", server.cacert), slot, images)


@pytest.mark.parametrize("use_up", [fill_up, use_up_inodes])
def test_a_slot_that_somebody_fills_during_the_download(
    root: Path, images: Images, tmp_path: Path, use_up: Callable[[Path], None]
) -> None:
    slot = root / "b.img"
    run("mkfs.ext4", "-q", "-F", "-N", 512, slot)
    with CueServer(
        tmp_path, images.directory / "v2", lambda: use_up(inside_of(root) / "filler")
    ) as server:
        said = fails(root, update(root, server.url, server.cacert), 13)
        assert ("inodes" in said) == (use_up is use_up_inodes)
        assert attached(tmp_path) == []
        completes(root, update(root, server.url, server.cacert), slot, images)


@pytest.fixture(scope="module")
def small_boot(tmp_path_factory: pytest.TempPathFactory, images: Images, server: Server) -> Path:
    """The home of a device with directory slots and the file of its small boot partition."""
    home = tmp_path_factory.mktemp("boot")
    root = make_device(home / "device", [images.anchor], loader="grub")
    partition = disk_image(home / "boot.img", "1M", formatted=False)
    lean = ("-O", "^has_journal", "-m", "0", "-b", "1024", "-N", "64")
    run("mkfs.ext4", "-q", "-F", *lean, "-d", root / "boot", partition)
    with mounted(partition, root / "boot", "loop"):
        provision(root, root / "slots/a", server)
    return home


def test_a_boot_partition_that_gets_full_meanwhile_at_any_of_its_files(
    small_boot: Path, images: Images, tmp_path: Path
) -> None:
    both = KERNEL_BYTES + INITRD_BYTES
    levels = [0, KERNEL_BYTES, both, both + 2048]
    said = [meet_full_boot(small_boot, images, tmp_path / str(n), n) for n in levels]
    for name in ("slot-b/kernel", "slot-b/initrd", "state.json"):
        assert any(name in each for each in said), said


def meet_full_boot(small_boot: Path, images: Images, place: Path, spare_bytes: int) -> str:
    """An update while somebody leaves `spare_bytes` of the boot partition; what it said of that."""
    root = copy_tree(small_boot, place) / "device"
    filler, slot = root / "boot/filler", root / "slots/b"
    with ExitStack() as stack:
        stack.enter_context(mounted(place / "boot.img", root / "boot", "loop"))
        server = stack.enter_context(
            CueServer(place, images.directory / "v2", lambda: fill_up(filler, spare_bytes))
        )
        done = update(root, server.url, server.cacert)
        said = fails(root, done, 13) if done.code else ""
        filler.unlink()
        if said:
            done = update(root, server.url, server.cacert)
        completes(root, done, slot, images)
    return said


# --- unreadable --------------------------------------------------------------------------------


def test_what_can_not_be_read_of_the_running_slot_is_downloaded(
    root: Path, server: Server, images: Images, tmp_path: Path
) -> None:
    with mounted(root / "a.img", tmp_path / "running", "ro,loop") as running:
        for name in CARRIED:
            (running / "etc" / name).read_bytes()  # and is in the page cache from here on
        lose_content(root / "a.img", "/opt/before")
        with pytest.raises(OSError, match="Input/output error"):
            (running / "opt/before").read_bytes()
        done = update(root, f"{server.url}v2/", server.cacert)
        completes(root, done, root / "b.img", images)
        assert done.result["files"]["downloaded"] > 40
    warned = [line for line in done.err.splitlines() if "opt/before" in line]
    assert len(warned) == 1, "it is read once"


@pytest.mark.parametrize("name", ["hostname", "fstab"])
def test_what_belongs_to_the_device_and_can_not_be_read_is_named(
    root: Path, server: Server, images: Images, tmp_path: Path, name: str
) -> None:
    whole = copy_tree(root / "a.img", tmp_path / "whole.img")
    with mounted(root / "a.img", tmp_path / "running", "ro,loop") as running:
        for other in CARRIED:
            if other != name:
                (running / "etc" / other).read_bytes()
        lose_content(root / "a.img", "/opt/before")
        said = fails(root, update(root, f"{server.url}v2/", server.cacert), 14)
    assert f"/etc/{name}" in said
    copy_tree(whole, root / "a.img")
    completes(root, update(root, f"{server.url}v2/", server.cacert), root / "b.img", images)


def test_what_can_not_be_read_of_the_standby_slot_is_downloaded(
    first: Path, server: Server, images: Images, tmp_path: Path
) -> None:
    a_img, b_img = copy_tree(first / "a.img", tmp_path / "a.img"), tmp_path / "b.img"
    # nothing that e2fsck reads of a clean file system lies behind the files of this one
    plain = ("-b", 4096, "-O", "^has_journal,^flex_bg")
    run("mkfs.ext4", "-q", "-F", *plain, disk_image(b_img, "64M", formatted=False))
    anchors = ("--anchors", first / "etc/ota/certs")
    assert ota("image", "unpack", images.directory / "v1", b_img, *anchors).code == 0
    with loop_device(a_img) as a, loop_device(b_img) as b:
        slots = f"slots:\n  a: {{device: {a}}}\n  b: {{device: {b}}}\n"
        root = make_device(tmp_path / "device", [images.anchor], slots=slots)
        assert ota("setup", "--root", root).code == 0
        lose_content(b_img, "/opt/before")
        done = update(root, f"{server.url}v2/", server.cacert)
        completes(root, done, Path(b), images)
    assert "/run/ota/standby/opt/before can not be read" in done.err


# --- not writing -------------------------------------------------------------------------------


@pytest.fixture
def thin(root: Path, tmp_path: Path) -> Iterator[Path]:
    """`root`, whose standby slot lies in a store of its own; that store."""
    with thin_store(tmp_path / "store") as store:
        run("mv", root / "b.img", store / "b.img")
        (root / "b.img").symlink_to(store / "b.img")
        yield store


@pytest.fixture(scope="module")
def thin_bytes(first: Path, tmp_path_factory: pytest.TempPathFactory, server: Server) -> int:
    """What an update writes to a thin standby slot."""
    root = copy_tree(first, tmp_path_factory.mktemp("thin") / "device")
    with thin_store(root.with_name("store")) as store:
        run("cp", "--sparse=always", root / "b.img", store / "b.img")
        (root / "b.img").unlink()
        (root / "b.img").symlink_to(store / "b.img")
        before = (store / "b.img").stat().st_blocks
        assert update(root, f"{server.url}v2/", server.cacert).code == 0
        return 512 * ((store / "b.img").stat().st_blocks - before)


@pytest.mark.parametrize("short_kib", [8, 400])
def test_a_store_below_the_slot_that_has_no_room_for_what_seemed_written(
    root: Path, thin: Path, thin_bytes: int, server: Server, images: Images, short_kib: int
) -> None:
    limit(thin, max(0, thin_bytes - short_kib * 1024))
    done = update(root, f"{server.url}v2/", server.cacert)
    said = fails(root, done, 13, 14)
    assert "no space left" not in said, "of the slot there is enough"
    require_unmarked(root)
    if short_kib == 400:  # a few KiB may do for what the second run still has to write
        fails(root, update(root, f"{server.url}v2/", server.cacert), 13, 14)
    limit(thin, 64 * 1024 * 1024)
    completes(root, update(root, f"{server.url}v2/", server.cacert), thin / "b.img", images)


# --- read-only ---------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["remount-ro", "continue"])
def test_a_file_system_in_which_the_kernel_finds_an_error_is_not_armed(
    root: Path, images: Images, tmp_path: Path, then: str
) -> None:
    slot = root / "b.img"
    run("tune2fs", "-e", then, slot)
    with CueServer(tmp_path, images.directory / "v2", lambda: trigger_error(slot)) as server:
        fails(root, update(root, server.url, server.cacert), 14)
        require_unmarked(root)
        assert attached(tmp_path) == []
        completes(root, update(root, server.url, server.cacert), slot, images)


def test_a_boot_partition_that_becomes_read_only_meanwhile(
    small_boot: Path, images: Images, tmp_path: Path
) -> None:
    home = copy_tree(small_boot, tmp_path / "home")
    root, boot = home / "device", home / "device/boot"

    def remount(mode: str) -> None:
        run("mount", "-o", f"remount,{mode}", boot)

    with ExitStack() as stack:
        stack.enter_context(mounted(home / "boot.img", boot, "loop"))
        server = stack.enter_context(
            CueServer(tmp_path, images.directory / "v2", lambda: remount("ro"))
        )
        said = fails(root, update(root, server.url, server.cacert), 15)
        assert "writable" in said
        fails(root, update(root, server.url, server.cacert), 15, 78)
        remount("rw")
        completes(root, update(root, server.url, server.cacert), root / "slots/b", images)
