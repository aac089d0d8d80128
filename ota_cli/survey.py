"""What content the device has that an image wants: scan, then hash as little as possible.

Order, cheapest first, each step only for what is still missing: standby files under the same
name and size, the staging directory, other standby files of a wanted size, running files under
the same name and size, other running files of a wanted size.
"""

from __future__ import annotations

import os
from array import array
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, FrozenSet, Iterable, Iterator, Optional, Sequence, Tuple

from .core import delta
from .core.local import Content, Known, LocalFiles, LocalTree, Origins
from .core.plan import Plan
from .entries import EMPTY_DIGEST, Digest
from .events import Ahead, Emit, Meter, Phase, PhaseStarted
from .host.content import digest_files, digest_of, made_readable
from .host.index import index_bytes, remembered
from .host.tree import is_own_file, look_at, scan, scan_files
from .model import Tables, VerifyLocal
from .packed import PackedFiles

METADATA = ".ota"
STAGING = f"{METADATA}/staging"
#: So few files are looked for at their own places before the whole running slot is scanned.
_FEW = 100
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Survey:
    """The standby slot as it is, and all wanted content found by sha256 on the device."""

    standby: LocalTree
    content: Content


def survey(
    files: PackedFiles,
    standby: Optional[Path],
    running: Optional[Path],
    emit: Emit,
    *,
    unlock: bool,
    level: VerifyLocal = "full",
) -> Survey:
    """Looks through the standby slot (None: will be made empty) and the running one (None: none).

    `unlock`: see `host.tree.scan`; True only when the standby slot is about to be filled.
    `level`: `stat` takes what the standby slot's index says of unchanged files for `KEPT` ones.
    What is to be copied may come from the running slot's index: it is hashed while it is copied.
    """
    emit(PhaseStarted(Phase.COMPARE, "comparing the image with what the device has"))
    local = scan(standby, emit, unlock=unlock) if standby else LocalTree()
    staged = staged_digests(standby) if standby else frozenset()
    known = Known(local.files)
    meter = Meter(emit, Phase.COMPARE, 0)
    if standby:
        pairs = delta.same_place(files, range(len(files)), local.files)
        if level == "stat":
            pairs = _not_trusted(standby, files, pairs, local.files, known)
        unread = array("I", (there for _, there in pairs))
        emit(_ahead(files, known, unread, will_fill=unlock))
        _hash(standby, unread, known, meter, emit, unlock)
    missing = delta.missing_rows(files, local.files, known, staged)
    if standby and missing:
        others = array("I", delta.size_candidates(files, missing, local.files, known))
        _hash(standby, others, known, meter, emit, unlock)
        found = {known.digest(row) for row in others}
        missing = _those(missing, lambda row: files.digest(row) not in found)
    if running and missing:
        return Survey(local, Content(known, staged, _search(running, files, missing, meter, emit)))
    return Survey(local, Content(known, staged))


def planned(
    tables: Tables,
    standby: Optional[Path],
    running: Optional[Path],
    emit: Emit,
    *,
    unlock: bool,
    level: VerifyLocal = "full",
) -> Tuple[Plan, LocalTree]:
    """The plan that gives the standby slot the tree of `tables`, and that slot as it is; see
    `survey`. What was learnt of content, which is much, is let go of here."""
    seen = survey(tables.regulars, standby, running, emit, unlock=unlock, level=level)
    return delta.make_plan(tables, seen.standby, seen.content), seen.standby


def _ahead(files: PackedFiles, known: Known, unread: Sequence[int], *, will_fill: bool) -> Ahead:
    """What a first look tells: this is to be read, and what is not there must be brought."""
    there = sum(map(known.files.size, unread))
    if not will_fill:
        return Ahead(((Phase.COMPARE, there),))
    trusted = sum(map(known.files.size, known.rows()))
    wanted = sum(size for size in files.sizes() if size > 0)
    return Ahead(((Phase.COMPARE, there), (Phase.FILL, max(wanted - there - trusted, 0))))


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


def _not_trusted(
    standby: Path, files: PackedFiles, pairs: Iterable[Tuple[int, int]], local: LocalFiles,
    known: Known,
) -> Iterator[Tuple[int, int]]:  # fmt: skip
    """The pairs whose file must be read; takes over the right ones that nobody changed.

    What the boot loader gets is always read.
    """
    hints = remembered(standby / METADATA, local)
    for row, there in pairs:
        hint = hints.digest(there)
        if hint == files.digest(row) and not files.paths[row].startswith("/boot/"):
            known.trust(there, hint)
        else:
            yield row, there


def _search(
    running: Path, files: PackedFiles, missing: array[int], meter: Meter, emit: Emit
) -> Origins:
    """Where in the running slot the content of the `missing` rows is, if it is there."""
    origins, unreadable = Origins(len(files)), []
    if len(missing) <= _FEW:  # that slot need not be looked through, mostly
        found = look_at(running, (files.paths[row] for row in missing))
        known = _cheapest(running / METADATA, found)
        _search_same_places(running, files, missing, known, origins, meter, emit)
        missing = _those(missing, lambda row: row not in origins)
        unreadable = known.unreadable()
    if missing:
        found = scan_files(running, emit, delta.wanted_sizes(files, missing))
        known = remembered(running / METADATA, found)
        known.give_up_all(unreadable)
        _search_same_places(running, files, missing, known, origins, meter, emit)
        missing = _those(missing, lambda row: row not in origins)
        _search_elsewhere(running, files, missing, known, origins, meter, emit)
    return origins


def _those(rows: Iterable[int], wanted: Callable[[int], bool]) -> array[int]:
    """The `wanted` ones, four bytes each."""
    return array("I", filter(wanted, rows))


def _cheapest(directory: Path, files: LocalFiles) -> Known:
    """What the index below `directory` says of a few `files`, unless reading them is less."""
    is_less = sum(files.sizes()) <= index_bytes(directory)
    return Known(files) if is_less else remembered(directory, files)


def _search_same_places(
    running: Path, files: PackedFiles, missing: Sequence[int], known: Known, origins: Origins,
    meter: Meter, emit: Emit,
) -> None:  # fmt: skip
    """Notes which of the `missing` rows have their content under their own name."""
    rows, places = array("I"), array("I")
    for row, there in delta.same_place(files, missing, known.files):
        rows.append(row)
        places.append(there)
    _hash(running, filter(known.is_unread, places), known, meter, emit)
    for row, there in zip(rows, places):
        if known.digest(there) == files.digest(row):
            origins.here(row)


def _search_elsewhere(
    running: Path, files: PackedFiles, missing: Sequence[int], known: Known, origins: Origins,
    meter: Meter, emit: Emit,
) -> None:  # fmt: skip
    """Notes where the content of the `missing` rows is under other names."""
    wanted = {files.digest(row): row for row in missing}

    def look(rows: Iterable[int]) -> None:
        for there in rows:
            row = wanted.pop(known.digest(there) or EMPTY_DIGEST, None)
            if row is not None:
                origins.elsewhere(row, known.files.paths[there])

    look(known.rows())
    others = array("I", delta.size_candidates(files, wanted.values(), known.files, known))
    _hash(running, others, known, meter, emit)
    look(others)


def _hash(
    root: Path, rows: Iterable[int], known: Known, meter: Meter, emit: Emit, unlock: bool = False
) -> None:
    """Learns what the files of `rows` hold."""
    files, chosen = known.files, array("I")
    for row in rows:
        if files.size(row):
            chosen.append(row)
        else:
            known.learn(row, EMPTY_DIGEST)
    meter.expect(sum(map(files.size, chosen)))
    sizes = ((files.paths[row], files.size(row)) for row in chosen)
    with closing(digest_files(root, sizes, emit, meter.add, unlock=unlock)) as digests:
        for row, digest in zip(chosen, digests):
            if digest is None:
                known.give_up(row)
            else:
                known.learn(row, digest)
