"""Signed images of trees, as a server hands them out."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from ota_cli.core.tables import parse_regulars
from ota_cli.entries import Digest, FileEntry
from tests.bench.trees import Images
from tests.support.bench import ota_argv
from tests.support.blocks import run


def build_image(images: Images, name: str, tree: Path, *options: object) -> None:
    """An image of `tree` called `name`, unless it is there.

    The plain files are then served from the tree itself: a disk holds them once.
    """
    image = images.served / name
    if (image / "metadata.jwt").exists():
        return
    _ota("build", tree, image, "--version", name, *options)
    shutil.rmtree(image / "rootfs")
    (image / "rootfs").symlink_to(os.path.relpath(tree, image))
    _ota("sign", image, "--key", images.keys / "sign.key", "--cert", images.keys / "sign.crt")


def _ota(*words: object) -> None:
    run(*ota_argv(), "image", *words)


def regulars(images: Images, name: str) -> List[FileEntry]:
    """The files of an image."""
    return list(parse_regulars((images.served / name / "regulars.txt").read_bytes()))


def changed_bytes(old: Sequence[FileEntry], new: Sequence[FileEntry]) -> int:
    """Bytes of content that `new` has more often than `old`: somebody has to write them.

    The names of one file count once.
    """
    before, after = Counter(_contents(old)), Counter(_contents(new))
    return sum(size * count for (_, size), count in (after - before).items())


def _contents(files: Sequence[FileEntry]) -> Iterator[Tuple[Digest, int]]:
    seen = set()
    for entry in files:
        if entry.inode is None or entry.inode not in seen:
            seen.add(entry.inode)
            yield entry.digest, entry.size or 0
