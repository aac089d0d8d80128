"""Disk-image files and loop devices for tests that run as root; always given back."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Sequence, Tuple

import pytest

from tests.support.bench import make_device
from tests.support.trees import Snapshot, snapshot, without

if TYPE_CHECKING:
    from tests.conftest import Images

#: Of an ext4 made here for a boot partition.
BLOCK_BYTES = 4096

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def run(*argv: object) -> str:
    """Runs a command that must succeed; what it printed."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def disk_image(path: Path, size: str, *, formatted: bool = True) -> Path:
    """A sparse file, with an ext4 in it if `formatted`."""
    run("truncate", "-s", size, path)
    if formatted:
        run("mkfs.ext4", "-q", "-F", path)
    return path


def boot_image(path: Path, tree: Path) -> Path:
    """A file with an ext4 that holds `tree`; nothing but what is done there writes to it later."""
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    run("mke2fs", "-q", "-t", "ext4", "-b", BLOCK_BYTES, "-E", lazy, "-d", tree, path, "8M")
    return path


def written_in_any_order(image: Path, states: Sequence[bytes]) -> Iterator[None]:
    """Has `image`, an ext4, hold all that a power cut may leave of a change that went through
    `states`: of each block any version, whatever those of the others are.

    The journal stays as it is: GRUB does not read it.
    """
    journal = set(map(int, run("debugfs", "-R", "blocks <8>", image).split()))
    versions = {}
    for number in range(len(states[0]) // BLOCK_BYTES):
        start = number * BLOCK_BYTES
        found = dict.fromkeys(state[start : start + BLOCK_BYTES] for state in states)
        if len(found) > 1 and number not in journal:
            versions[start] = list(found)
    image.write_bytes(states[0])
    for blocks in itertools.product(*versions.values()):
        with open(image, "r+b") as file:
            for start, block in zip(versions, blocks):
                file.seek(start)
                file.write(block)
        yield


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A loop device for `image`."""
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        run("losetup", "-d", device)


@contextmanager
def mounted(
    source: object, target: Path, options: str = "rw", kind: str = "auto"
) -> Iterator[Path]:
    """`source` mounted on `target`."""
    target.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", kind, "-o", options, source, target)
    try:
        yield target
    finally:
        run("umount", target)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """`directory` on a file system of its own on which nothing new has room, and then on the old
    one again, with what it holds by then."""
    before = directory.with_name(f"{directory.name}-before")
    after = directory.with_name(f"{directory.name}-after")
    shutil.copytree(directory, before, symlinks=True)
    with mounted("full", directory, "size=16M", kind="tmpfs"):
        shutil.copytree(before, directory, symlinks=True, dirs_exist_ok=True)
        fillers = [directory / f"filler-{size}" for size in (4096, 1)]
        for filler, size in zip(fillers, (4096, 1)):
            with suppress(OSError), open(filler, "wb", buffering=0) as stream:
                while stream.write(b"\0" * size):
                    pass
        yield
        for filler in fillers:
            filler.unlink()
        shutil.copytree(directory, after, symlinks=True)
    shutil.rmtree(directory)
    after.rename(directory)


def leftovers() -> str:
    """Mounts below /run/ota, which no `ota` may leave behind."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if " /run/ota" in line)


def attached(directory: Path) -> List[str]:
    """Loop devices of files below `directory`; others may come and go meanwhile."""
    lines = run("losetup", "-l", "-n", "-O", "NAME,BACK-FILE").splitlines()
    return sorted(line for line in lines if str(directory) in line)


def left_behind(directory: Path, patience_s: float = 5) -> Tuple[str, List[str]]:
    """Mounts of an `ota`, and loop devices of files below `directory`, that stay for `patience_s`.

    The kernel takes down what a killed one had a moment after its end, and a loop device a moment
    after its unmount where somebody just looks at all of them.
    """
    until_s = time.monotonic() + patience_s
    while True:
        left = leftovers(), attached(directory)
        if left == ("", []) or time.monotonic() > until_s:
            return left
        time.sleep(0.02)


def inside(found: Snapshot) -> Snapshot:
    """What an image brings, of all that is in a slot."""
    return without(found, "/etc", "/lost+found")


def tree_of(image: Path, scratch: Path) -> Snapshot:
    """What an image has brought into the slot in the file `image`, looked at below `scratch`."""
    with mounted(image, scratch / "look", "loop,ro,noload") as slot:
        return inside(snapshot(slot, owners=True, mtimes=True))


def block_device(root: Path, images: Images, settings: str = "persist: [/etc/ota]\n") -> Path:
    """A GRUB device whose slots are image files with an empty ext4, inside of the device."""
    slots = "slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n"
    make_device(root, [images.anchor], loader="grub", settings=settings, slots=slots)
    for name in ("a.img", "b.img"):
        disk_image(root / name, "64M")
    return root
