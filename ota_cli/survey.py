"""What content the device has that an image wants: scan, then hash as little as possible.

Order, cheapest first, each step only for what is still missing: standby files under the same
name and size, the staging directory, other standby files of a wanted size, running files under
the same name and size, other running files of a wanted size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, Optional

from .core import delta
from .core.delta import Content, LocalTree
from .events import Emit, Meter, Phase, PhaseStarted
from .host.content import digest_files, digest_of, made_readable
from .host.tree import is_own_file, scan
from .model import Digest, Tables

METADATA = ".ota"
STAGING = f"{METADATA}/staging"
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Survey:
    """The standby slot as it is, and all wanted content found by sha256 on the device."""

    standby: LocalTree
    content: Content


def survey(
    tables: Tables, standby: Optional[Path], running: Optional[Path], emit: Emit, *, unlock: bool
) -> Survey:
    """Looks through the standby slot (None: will be made empty) and the running one (None: none).

    `unlock`: see `host.tree.scan`; True only when the standby slot is about to be filled.
    """
    emit(PhaseStarted(Phase.COMPARE, "comparing the image with what the device has"))
    local = scan(standby, emit, unlock=unlock) if standby else LocalTree()
    staged = staged_digests(standby) if standby else frozenset()
    known: Dict[str, Digest] = {}
    if standby:
        known = _hash(standby, delta.keep_candidates(tables, local), local, emit, unlock)
        missing = delta.missing_files(tables, {*known.values(), *staged})
        others = delta.size_candidates(missing, local, known)
        known.update(_hash(standby, others, local, emit, unlock))
    found: Dict[Digest, str] = {}
    if running:
        missing = delta.missing_files(tables, {*known.values(), *staged})
        if missing:
            found = _search(running, tables, {*known.values(), *staged}, emit)
    return Survey(local, Content(known, staged, found))


def staged_digests(standby: Path) -> FrozenSet[Digest]:
    """Content an earlier, interrupted run left in the staging directory, verified again."""
    directory = standby / STAGING
    if any((standby / path).is_symlink() for path in (METADATA, STAGING)):
        return frozenset()
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return frozenset()
    candidates = (name for name in names if len(name) == 64 and _HEX_DIGITS.issuperset(name))
    return frozenset(
        Digest(bytes.fromhex(name)) for name in candidates if _holds(directory / name, name)
    )


def _holds(path: Path, wanted: str) -> bool:
    """Whether a staged file is what its name says; one that can not be read, or that has another
    name through which it may change, is not."""
    try:
        if not is_own_file(path):
            return False
        with made_readable(str(path)):
            return digest_of(str(path)).hex() == wanted
    except OSError:
        return False


def _search(
    running: Path, tables: Tables, at_hand: Iterable[Digest], emit: Emit
) -> Dict[Digest, str]:
    """One running path for each digest of the image that is there and not `at_hand`."""
    have = set(at_hand)
    local = scan(running, emit)
    missing = delta.missing_files(tables, have)
    known = _hash(running, delta.same_path_candidates(missing, local), local, emit)
    have.update(known.values())
    missing = delta.missing_files(tables, have)
    known.update(_hash(running, delta.size_candidates(missing, local, known), local, emit))
    found: Dict[Digest, str] = {}
    for path, digest in known.items():
        found.setdefault(digest, path)
    return found


def _hash(
    root: Path, paths: Iterable[str], local: LocalTree, emit: Emit, unlock: bool = False
) -> Dict[str, Digest]:
    chosen = {path: local.files[path].size for path in paths}
    meter = Meter(emit, Phase.COMPARE, sum(chosen.values()))
    return digest_files(root, chosen, emit, meter.add, unlock=unlock)
