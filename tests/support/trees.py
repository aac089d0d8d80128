"""File trees for tests: described as text, made on disk, and read back without the program."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path
from typing import Dict, List, Tuple

#: What one path is: everything an image fixes, as one comparable value.
Snapshot = Dict[str, Tuple[object, ...]]


def snapshot(root: Path, *, owners: bool = False, mtimes: bool = False) -> Snapshot:
    """All paths below `root` (`/.ota` apart): kind, mode, content or target, link group."""
    found: Snapshot = {}
    groups: Dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names[:] = sorted(n for n in names if Path(directory, n) != root / ".ota")
        for name in sorted([*names, *files]):
            path = os.path.join(directory, name)
            shown = path[len(str(root)) :]
            status = os.lstat(path)
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                value: Tuple[object, ...] = ("l", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                value = ("d", mode)
            elif stat.S_ISREG(status.st_mode):
                digest = hashlib.sha256(_content(Path(path), mode)).hexdigest()
                first = groups.setdefault(status.st_ino, shown)
                value = ("f", mode, digest, first, status.st_nlink)
            else:
                value = (stat.S_IFMT(status.st_mode), mode, status.st_rdev)
            if owners:
                value += (status.st_uid, status.st_gid)
            if mtimes and not stat.S_ISLNK(status.st_mode):
                value += (status.st_mtime_ns,)
            found[shown] = value
    return found


def without(found: Snapshot, *paths: str) -> Snapshot:
    """`found` without the given paths and what is below them."""
    tops = tuple(f"{path}/" for path in paths)
    return {p: v for p, v in found.items() if p not in paths and not p.startswith(tops)}


def _content(path: Path, mode: int) -> bytes:
    """Also of a file whose mode denies it to its owner."""
    try:
        return path.read_bytes()
    except PermissionError:
        path.chmod(mode | 0o400)
        try:
            return path.read_bytes()
        finally:
            path.chmod(mode)


def random_tree(root: Path, rng: random.Random, size: int = 40) -> None:
    """A small tree of everything that can go wrong: few names, so that types clash."""
    root.mkdir()
    names = ["a", "b", "c", "d e", "f'g", "-h", "ü,", "%41"]
    contents = [b"", b"one", b"two", b"six", b"longer content", b"x" * 20_000, b"y" * 20_000]
    directories: List[Path] = [root]
    files: List[Path] = []
    for _ in range(size):
        path = rng.choice(directories) / rng.choice(names)
        if os.path.lexists(path):
            continue
        kind = rng.choice("fffffdddllh")
        if kind == "d" and len(path.parts) - len(root.parts) < 5:
            path.mkdir()
            path.chmod(rng.choice([0o755, 0o700, 0o1777, 0o2775]))
            directories.append(path)
        elif kind == "l":
            path.symlink_to(rng.choice(["a", "../b", "/etc/passwd", "no/such", "."]))
        elif kind == "h" and files:
            os.link(rng.choice(files), path)
        else:
            path.write_bytes(rng.choice(contents))
            path.chmod(rng.choice([0o644, 0o600, 0o4755, 0o2711, 0o664, 0o400]))
            files.append(path)
