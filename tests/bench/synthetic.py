"""Made-up trees that grow: a release of up to half a million files and the one after it.

Sizes, paths and the share of directories and symlinks are those of a Debian. Everything follows
from `SEED`. Contents are random, so that nothing is compressed: what grows is the work for files.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from tests.bench.publish import build_image
from tests.bench.trees import Images, Trees, make_keys
from tests.support.blocks import run

SEED = 20261125
#: A tree is so many files at a time: whole collections, of whole packages.
COLLECTION_FILES = 10_000
_PACKAGE_FILES, _PACKAGE_PARTS = 100, 11
_FILES_A_SYMLINK = 28
_CHANGED = 0.027
_MEDIAN_BYTES, _SPREAD, _MOST_BYTES = 2600, 1.65, 8 * 1024 * 1024
_WORDS = ("interface", "control", "resource", "transform", "schedule", "registry", "filter")
_SUFFIXES = (".py", ".so", ".h", ".json", ".png", ".txt")
_SYSTEM = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
}
_TIME_S = 1_700_000_000


@dataclass(frozen=True)
class _File:
    """A file of either release; `path` is relative to the tree's root."""

    path: str
    size: int
    is_changed: bool

    def content(self, release: str) -> bytes:
        """Other bytes for every path, and another release's only where the file changed."""
        name = f"{SEED} {self.path} {release if self.is_changed else 'both'}"
        return hashlib.shake_128(name.encode()).digest(self.size)


def make_growth(files: int, cache: Path) -> Images:
    """Trees and a signed image, `new`, of the first `files` files, made once below `cache`.

    The trees are shared by all sizes: there may be more in them.
    """
    base = cache / "bench-growth"
    trees = Trees(base / "old", base / "new")
    for number in range(files // COLLECTION_FILES):
        if not (base / f"{_name(number)}.complete").exists():
            _make_collection(trees, number)
            (base / f"{_name(number)}.complete").touch()
    for tree in (trees.old, trees.new):
        _make_system(tree)
    images = Images(trees, base / f"served-{files}", make_keys(cache))
    ignore = base / f"ignore-{files}"
    ignore.write_text("".join(f"/{path}/\n" for path in _others(trees.new, files)))
    build_image(images, "new", trees.new, "--ignore", ignore)
    return images


def changed_bytes(files: int) -> int:
    """Bytes of the files of the first `files` that another release has with other content."""
    numbers = range(files // COLLECTION_FILES)
    return sum(file.size for number in numbers for file in _files(number) if file.is_changed)


def _parts(files: int) -> List[str]:
    """What of a tree belongs to its first `files` files, as paths below its root."""
    return ["etc", *(_path(number) for number in range(files // COLLECTION_FILES))]


def _others(tree: Path, files: int) -> List[str]:
    present = [f"usr/lib/{name}" for name in sorted(os.listdir(tree / "usr/lib"))]
    return sorted(set(present) - set(_parts(files)))


def _name(number: int) -> str:
    return f"collection-{number:02}"


def _path(number: int) -> str:
    return f"usr/lib/{_name(number)}"


def _make_system(tree: Path) -> None:
    """What any root file system has that `ota` brings up to date on its device."""
    for path, text in _SYSTEM.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        _write(tree / path, text.encode())


def _make_collection(trees: Trees, number: int) -> None:
    """One collection in both releases; what did not change is on the disk once."""
    for tree in (trees.old, trees.new):
        shutil.rmtree(tree / _path(number), ignore_errors=True)
        for package in range(COLLECTION_FILES // _PACKAGE_FILES):
            for part in range(_PACKAGE_PARTS):
                (tree / _directory(number, package, part)).mkdir(parents=True)
    for index, file in enumerate(_files(number)):
        _write(trees.old / file.path, file.content("old"))
        if file.is_changed:
            _write(trees.new / file.path, file.content("new"))
        else:
            os.link(trees.old / file.path, trees.new / file.path)
        if index % _FILES_A_SYMLINK == 0:
            for tree in (trees.old, trees.new):
                os.symlink(Path(file.path).name, f"{tree / file.path}.link")


def _files(number: int) -> Iterator[_File]:
    chance = random.Random(f"{SEED} {number}")
    for index in range(COLLECTION_FILES):
        package, rest = divmod(index, _PACKAGE_FILES)
        directory = _directory(number, package, rest % _PACKAGE_PARTS)
        name = f"{chance.choice(_WORDS)}-{index:05}{chance.choice(_SUFFIXES)}"
        size = int(chance.lognormvariate(0, _SPREAD) * _MEDIAN_BYTES)
        changed = chance.random() < _CHANGED
        yield _File(f"{directory}/{name}", min(size, _MOST_BYTES), changed)


def _directory(number: int, package: int, part: int) -> str:
    return f"{_path(number)}/package-{package:04}/component-{part:02}"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (_TIME_S, _TIME_S))


def copy_parts(tree: Path, files: int, target: Path) -> None:
    """The first `files` files of `tree` into the root file system at `target`."""
    for part in _parts(files):
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-a", tree / part, (target / part).parent)
