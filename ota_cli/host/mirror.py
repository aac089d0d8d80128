"""Making one directory the same as another: what is there already stays, what is not goes."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Iterator

from ..errors import BootRefused
from .content import digest_of, drop_from_cache
from .files import fsync, syncfs
from .tree import remove_all


def mirror(source: Path, target: Path) -> None:
    """Makes `target` hold exactly what `source` holds: names, types, content, modes, owners.

    Nothing that boots may depend on `target` meanwhile. When it returns all of it is on the disk
    and was read back from there. Raises OSError, and BootRefused for what can not be copied or
    reads back differently.
    """
    _mirror(source, target)
    syncfs(target)
    for path in _regular_files(source):
        copy = target / path.relative_to(source)
        drop_from_cache(str(copy))
        if digest_of(str(copy)) != digest_of(str(path)):
            raise BootRefused(
                f"{copy} does not hold what was written to it",
                hint="the disk may be failing: see `dmesg`",
                slug="read-back",
            )


def _mirror(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    wanted = {entry.name: entry for entry in os.scandir(source)}
    for name in os.listdir(target):
        if name not in wanted:
            _remove(target / name)
    for name, entry in sorted(wanted.items()):
        _copy(Path(entry.path), target / name)
    _give(source, target)


def _copy(source: Path, target: Path) -> None:
    kind = stat.S_IFMT(os.lstat(source).st_mode)
    if os.path.lexists(target) and stat.S_IFMT(os.lstat(target).st_mode) != kind:
        _remove(target)
    if kind == stat.S_IFDIR:
        _mirror(source, target)
    elif kind == stat.S_IFLNK:
        _link(source, target)
    elif kind == stat.S_IFREG:
        if not target.exists() or digest_of(str(target)) != digest_of(str(source)):
            _remove(target)  # first: a small partition has no room for two kernels
            shutil.copyfile(source, target)
        _give(source, target)
        fsync(target)
    else:
        raise BootRefused(
            f"{source} is neither file, directory nor link: it can not be copied to where CBoot "
            "reads /boot",
            hint="remove it from the image",
            slug="boot-copy",
        )


def _link(source: Path, target: Path) -> None:
    leads_to = os.readlink(source)
    if os.path.lexists(target) and os.readlink(target) == leads_to:
        return
    _remove(target)
    os.symlink(leads_to, target)


def _give(source: Path, target: Path) -> None:
    """Owner and mode, in the order that keeps all bits of the mode."""
    has, wanted = os.lstat(target), os.lstat(source)
    if (has.st_uid, has.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid)
    os.chmod(target, stat.S_IMODE(wanted.st_mode))


def _remove(path: Path) -> None:
    if os.path.lexists(path):
        remove_all(str(path))


def _regular_files(directory: Path) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        paths = (Path(place, name) for name in names)
        yield from (path for path in paths if path.is_file() and not path.is_symlink())
