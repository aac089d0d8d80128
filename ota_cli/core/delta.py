"""What must happen so that a slot holds an image: facts in, a `Plan` out. Pure.

Every file of the image (all names of a hard-link group are one file) gets exactly one source:
kept, staged, moved, copied or downloaded. The plan's parts are carried out in this order, which
makes every type change and every swap of names safe:

    stash     displaced content that is needed elsewhere moves to the staging directory
    removals  what the image does not have at that place, children first; a file that another is
              renamed over may stay until then
    make      directories, files, hard links, symlinks, nodes
    finish    metadata, directories last and deepest first

Files are named by row, their number in the image or in the slot: there may be half a million.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import islice
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from ..entries import EMPTY_DIGEST, Digest, DirEntry, NodeEntry
from ..model import Tables
from ..packed import PackedFiles
from ..packedothers import PackedDirectories, PackedLinks
from .local import Content, Known, LocalFiles, LocalOther, LocalTree
from .plan import Plan, Source, Steps
from .tree import implied_directories

IMPLIED_DIRECTORY_MODE = 0o755


# --- what is worth hashing ---------------------------------------------------------------------


def same_place(
    files: PackedFiles, rows: Iterable[int], local: LocalFiles
) -> Iterator[Tuple[int, int]]:
    """For each of `rows`, where the slot has a file of its path and size (if known): its row and
    that one."""
    places, wanted, sizes = files.paths.matched(local.paths), files.sizes(), local.sizes()
    for row in rows:
        there = places[row]
        if there < 0:
            continue
        if wanted[row] == sizes[there] or (wanted[row] < 0 and sizes[there]):
            yield row, there


def right_rows(files: PackedFiles, local: LocalFiles, known: Known) -> array[int]:
    """For each file of the image, the row of the slot that has its path and content; else -1."""
    places = files.paths.matched(local.paths)[:]
    for row, there in enumerate(places):
        if there >= 0 and known.digest(there) != files.digest(row):
            places[row] = -1
    return places


def missing_rows(
    files: PackedFiles, local: LocalFiles, known: Known, staged: Iterable[Digest]
) -> array[int]:
    """The first row of each content of the image that is not at hand.

    Most contents have one file, so that only the others need a set to be told apart by.
    """
    repeated = files.repeated()
    at_hand = {EMPTY_DIGEST, *staged}
    elsewhere = bytearray(b"\1" * len(local))
    wanted = array("I")
    for row, there in enumerate(right_rows(files, local, known)):
        if there < 0:
            wanted.append(row)
            continue
        elsewhere[there] = 0
        if repeated and files.digest(row) in repeated:
            at_hand.add(files.digest(row))
    at_hand.update(known.digest(row) or EMPTY_DIGEST for row in known.rows() if elsewhere[row])
    return _first_rows(files, wanted, at_hand, repeated)


def _first_rows(
    files: PackedFiles, wanted: Iterable[int], at_hand: Set[Digest], repeated: Set[Digest]
) -> array[int]:
    found = array("I")
    for row in wanted:
        digest = files.digest(row)
        if digest in at_hand:
            continue
        if digest in repeated:
            at_hand.add(digest)
        found.append(row)
    return found


def wanted_sizes(files: PackedFiles, rows: Iterable[int]) -> Optional[Set[int]]:
    """The sizes of `rows`, the only ones that can hold their content; None if one is unknown."""
    found = {files.size(row) for row in rows}
    return None if None in found else {size for size in found if size}


def size_candidates(
    files: PackedFiles, missing: Iterable[int], local: LocalFiles, known: Known
) -> Iterator[int]:
    """Rows not hashed yet whose size is that of some missing content; one name of each inode.

    A missing file of unknown size makes every file a candidate.
    """
    sizes = wanted_sizes(files, missing)
    if sizes is not None and not sizes:
        return
    several, seen = set(local.linked()), set()
    for row, size in enumerate(local.sizes()):
        if not size or not (sizes is None or size in sizes) or not known.is_unread(row):
            continue
        if row in several:
            if local[row].inode in seen:
                continue
            seen.add(local[row].inode)
        yield row


# --- the plan ----------------------------------------------------------------------------------


def make_plan(tables: Tables, local: LocalTree, content: Content) -> Plan:
    """The plan that turns `local` into the tree of `tables` with the `content` at hand."""
    files = tables.regulars
    linked, hidden = files.linked(), local.files.half_hidden()
    kept = _kept(files, linked, local.files, content.standby, hidden)
    spare = _spare(local.files, content.standby, kept, hidden)
    steps, stash = _steps(files, linked, kept, spare, content)
    directories = _directories(tables)
    nodes = _nodes(tables)
    return Plan(
        steps=steps,
        stash=stash,
        removals=_removals(local, kept, directories, tables.symlinks, nodes),
        directories=directories,
        symlinks=tables.symlinks,
        nodes=nodes,
    )


def unchanged(tables: Tables) -> Plan:
    """The plan for a slot that has the tree of `tables`: every file is kept."""
    files = tables.regulars
    steps = Steps(files)
    for row, _ in _files(files, files.linked()):
        steps.add(Source.KEPT, row)
    return Plan(steps, {}, [], _directories(tables), tables.symlinks, _nodes(tables))


Linked = Mapping[int, Tuple[int, ...]]


@dataclass(frozen=True)
class _Kept:
    """What stays as it is. `alone`: for each file of the image with one name, whether it does.
    `names`: of the others, the rows that keep their inode, by the first row of their file.
    `staying`: for each file of the slot, whether it stays. `inodes`: those that `names` keep."""

    alone: bytearray
    names: Mapping[int, Tuple[int, ...]]
    staying: bytearray
    inodes: Set[int]


def _kept(
    files: PackedFiles, linked: Linked, local: LocalFiles, known: Known, hidden: Set[int]
) -> _Kept:
    """The names of each file of the image whose content is in place.

    An inode belongs to one file only, the one with most of its names. An inode with names we can
    not see can not be kept: a write through them would change the slot.
    """
    right = right_rows(files, local, known)
    several = set(local.linked())
    kept: Dict[int, Tuple[int, ...]] = {}
    claims: Dict[int, List[Tuple[int, Tuple[int, ...]]]] = {}
    alone = bytearray(len(files))
    for row, names in _files(files, linked):
        if len(names) == 1 and right[row] not in several:
            alone[row] = right[row] >= 0
            continue
        by_inode: Dict[int, List[int]] = {}
        for name in names:
            inode = local[right[name]].inode if right[name] >= 0 else None
            if inode is not None and inode not in hidden:
                by_inode.setdefault(inode, []).append(name)
        if by_inode:
            inode, most = max(by_inode.items(), key=lambda item: (len(item[1]), -item[0]))
            claims.setdefault(inode, []).append((row, tuple(most)))
    for bids in claims.values():
        row, best = max(bids, key=lambda bid: (len(bid[1]), -bid[0]))
        kept[row] = best
    return _Kept(alone, kept, _staying(right, alone, kept, len(local)), set(claims))


def _files(files: PackedFiles, linked: Linked) -> Iterator[Tuple[int, Tuple[int, ...]]]:
    """Each file of the image: its first row, and all its rows."""
    for row in range(len(files)):
        names = linked.get(row, (row,))
        if names[0] == row:
            yield row, names


def _staying(
    right: array[int], alone: bytearray, kept: Mapping[int, Tuple[int, ...]], count: int
) -> bytearray:
    staying = bytearray(count)
    for row, is_kept in enumerate(alone):
        if is_kept:
            staying[right[row]] = 1
    for names in kept.values():
        for name in names:
            staying[right[name]] = 1
    return staying


def _spare(local: LocalFiles, known: Known, kept: _Kept, hidden: Set[int]) -> Dict[Digest, str]:
    """One displaced standby path for each digest, of an inode with no name that stays or hides."""
    bound = kept.inodes | hidden
    spare: Dict[Digest, str] = {}
    for row in known.rows():
        if kept.staying[row] or not known.was_read(row):
            continue
        file, digest = local[row], known.digest(row)
        if digest and digest != EMPTY_DIGEST and file.inode not in bound:
            spare.setdefault(digest, file.path)
    return spare


def _steps(
    files: PackedFiles, linked: Linked, kept: _Kept, spare: Dict[Digest, str], content: Content
) -> Tuple[Steps, Dict[Digest, str]]:
    """A step for each file, kept ones first, and which displaced content is stashed for them."""
    steps, stash = Steps(files), {}
    repeated = files.repeated()
    place_of: Dict[Digest, str] = {}
    for first, names in _kept_names(files, kept):
        others = tuple(row for row in linked.get(first, ()) if row not in names)
        steps.add(Source.KEPT, first, links=others)
        if repeated and files.digest(first) in repeated:
            place_of[files.digest(first)] = files.paths[first]
    for row, names in _files(files, linked):
        if kept.alone[row] or row in kept.names:
            continue
        digest = files.digest(row)
        source, origin = _source(files, row, place_of, spare, content)
        if source is Source.MOVED:
            stash[digest] = spare.pop(digest)
        if digest in repeated:
            place_of.setdefault(digest, files.paths[row])
        steps.add(source, row, origin, names[1:])
    return steps, stash


def _kept_names(files: PackedFiles, kept: _Kept) -> Iterator[Tuple[int, Tuple[int, ...]]]:
    """Each kept file: the row of the name to call it by, and all rows that keep the inode."""
    for row, is_kept in enumerate(kept.alone):
        if is_kept:
            yield row, (row,)
    for names in kept.names.values():
        yield min(names, key=files.paths.__getitem__), names


def _source(
    files: PackedFiles, row: int, place_of: Mapping[Digest, str], spare: Mapping[Digest, str],
    content: Content,
) -> Tuple[Source, str]:  # fmt: skip
    digest = files.digest(row)
    if digest == EMPTY_DIGEST:
        return Source.EMPTY, ""
    if digest in spare:
        return Source.MOVED, ""
    if digest in place_of:
        return Source.DUPLICATED, place_of[digest]
    if digest in content.staged:
        return Source.STAGED, ""
    origin = content.running.of(row, files.paths[row])
    return (Source.DOWNLOADED, "") if origin is None else (Source.COPIED, origin)


def _nodes(tables: Tables) -> List[NodeEntry]:
    return list(tables.attributes.nodes) if tables.attributes else []


def _directories(tables: Tables) -> PackedDirectories:
    """All that there must be, parents before their children."""
    listed = tables.directories
    implied = implied_directories(tables)
    is_sorted = all(
        here < there for here, there in zip(listed.paths, islice(listed.paths, 1, None))
    )
    if is_sorted and not implied:
        return listed
    more = (DirEntry(path, IMPLIED_DIRECTORY_MODE, 0, 0) for path in implied)
    return PackedDirectories(sorted([*listed, *more]))


def _removals(
    local: LocalTree,
    kept: _Kept,
    directories: PackedDirectories,
    symlinks: PackedLinks,
    nodes: Iterable[NodeEntry],
) -> List[str]:
    """Local paths that are not what the image has there, children before their parents."""
    wanted_nodes = {node.path: node.kind for node in nodes}

    def stays(other: LocalOther) -> bool:
        if other.kind == "d":
            return directories.paths.find(other.path) is not None
        if other.kind == "l":
            return symlinks.target(other.path) == other.target
        return False if other.kind in "bc" else wanted_nodes.get(other.path) == other.kind

    paths = local.files.paths
    removals = [paths[row] for row, stays_here in enumerate(kept.staying) if not stays_here]
    removals += [path for path, other in local.others.items() if not stays(other)]
    return sorted(removals, reverse=True)
