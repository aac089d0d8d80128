"""What must happen so that a slot holds an image: facts in, a `Plan` out. Pure.

Every file of the image (all names of a hard-link group are one file) gets exactly one source:
kept, staged, moved, copied or downloaded. The plan's parts are carried out in this order, which
makes every type change and every swap of names safe:

    stash     displaced content that is needed elsewhere moves to the staging directory
    removals  what the image does not have at that place, children first
    make      directories, files, hard links, symlinks, nodes
    finish    metadata, directories last and deepest first
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..model import EMPTY_DIGEST, Digest, DirEntry, FileEntry, LinkEntry, NodeEntry, Tables
from .tree import implied_directories

IMPLIED_DIRECTORY_MODE = 0o755


class LocalFile(NamedTuple):
    """A regular file found in a slot. Several names of one inode are several of these."""

    path: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    inode: int
    links: int


class LocalOther(NamedTuple):
    """A directory, symlink, node, fifo or socket found in a slot.

    `kind`: `d`, `l`, `b`, `c`, `p` or `s`. `target` of symlinks; `device` number of nodes.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: str = ""
    device: int = 0


@dataclass(frozen=True)
class LocalTree:
    """All that lies in one slot, by path; `/.ota` and an ext4's `/lost+found` left out."""

    files: Mapping[str, LocalFile] = field(default_factory=dict)
    others: Mapping[str, LocalOther] = field(default_factory=dict)


class Source(enum.Enum):
    """Where the content of one file of the image comes from."""

    KEPT = "kept"
    STAGED = "staged"
    MOVED = "moved"
    DUPLICATED = "duplicated"
    COPIED = "copied"
    DOWNLOADED = "downloaded"
    EMPTY = "empty"


class FileStep(NamedTuple):
    """One file: `entry` is its first name, `links` are the others.

    `origin`: the name that already is right (KEPT), the path in the standby slot to copy from
    once that file is made (DUPLICATED), or the path in the running slot (COPIED).
    """

    source: Source
    entry: FileEntry
    links: Tuple[FileEntry, ...]
    origin: str = ""


@dataclass(frozen=True)
class Plan:
    """How a standby slot becomes an image. `stash`: digest to the displaced standby path."""

    steps: List[FileStep]
    stash: Mapping[Digest, str]
    removals: List[str]
    directories: List[DirEntry]
    symlinks: List[LinkEntry]
    nodes: List[NodeEntry]

    def files(self, *sources: Source) -> int:
        """How many files come from `sources`."""
        counts = Counter(step.source for step in self.steps)
        return sum(counts[source] for source in sources)

    def size_bytes(self, *sources: Source) -> int:
        """Content bytes of all files that come from `sources`; unknown sizes count as 0."""
        return sum(step.entry.size or 0 for step in self.steps if step.source in sources)

    @property
    def downloads(self) -> List[FileStep]:
        """One step for each digest that must be fetched."""
        return [step for step in self.steps if step.source is Source.DOWNLOADED]


@dataclass(frozen=True)
class Content:
    """Which verified content is at hand, from cheap to dear.

    `standby`: digests of standby files by path. `staged`: digests in the staging directory.
    `running`: one path in the running slot by digest.
    """

    standby: Mapping[str, Digest] = field(default_factory=dict)
    staged: FrozenSet[Digest] = frozenset()
    running: Mapping[Digest, str] = field(default_factory=dict)


# --- what is worth hashing ---------------------------------------------------------------------


def keep_candidates(tables: Tables, local: LocalTree) -> List[str]:
    """Standby paths that may already be right: same path, same size (if known)."""
    return [entry.path for entry in tables.regulars if _may_be(entry, local.files.get(entry.path))]


def same_path_candidates(missing: Iterable[FileEntry], local: LocalTree) -> List[str]:
    """Paths that may hold missing content under the very same name."""
    return [entry.path for entry in missing if _may_be(entry, local.files.get(entry.path))]


def size_candidates(
    missing: Iterable[FileEntry], local: LocalTree, known: Mapping[str, Digest]
) -> List[str]:
    """Paths not hashed yet whose size is that of some missing content.

    A missing file of unknown size makes every file a candidate.
    """
    sizes = {entry.size for entry in missing}
    if not sizes:
        return []
    everything = None in sizes
    seen: Set[int] = set()
    candidates = []
    for file in local.files.values():
        if file.path in known or not file.size or file.inode in seen:
            continue
        if everything or file.size in sizes:
            seen.add(file.inode)
            candidates.append(file.path)
    return candidates


def missing_files(tables: Tables, at_hand: Iterable[Digest]) -> List[FileEntry]:
    """One entry for each digest of the image that is not at hand."""
    have = set(at_hand)
    have.add(EMPTY_DIGEST)
    missing: Dict[Digest, FileEntry] = {}
    for entry in tables.regulars:
        if entry.digest not in have:
            missing.setdefault(entry.digest, entry)
    return list(missing.values())


def _may_be(entry: FileEntry, local: Optional[LocalFile]) -> bool:
    if local is None or not local.size:
        return local is not None and entry.digest == EMPTY_DIGEST
    return entry.size is None or entry.size == local.size


# --- the plan ----------------------------------------------------------------------------------


def make_plan(tables: Tables, local: LocalTree, content: Content) -> Plan:
    """The plan that turns `local` into the tree of `tables` with the `content` at hand."""
    groups = _groups(tables.regulars)
    kept = _kept(groups, local, content)
    steps, stash = _steps(groups, kept, local, content)
    directories = [*tables.directories, *_implied(tables)]
    nodes = list(tables.attributes.nodes) if tables.attributes else []
    staying = {name for names in kept.values() for name in names}
    return Plan(
        steps=steps,
        stash=stash,
        removals=_removals(local, staying, directories, tables.symlinks, nodes),
        directories=sorted(directories),
        symlinks=tables.symlinks,
        nodes=nodes,
    )


Group = Tuple[FileEntry, ...]


def _groups(regulars: Iterable[FileEntry]) -> List[Group]:
    """The files of the image: names with an equal inode are one file."""
    by_inode: Dict[str, List[FileEntry]] = {}
    groups: List[Group] = []
    for entry in regulars:
        if entry.inode is None:
            groups.append((entry,))
        else:
            by_inode.setdefault(entry.inode, []).append(entry)
    groups.extend(tuple(names) for names in by_inode.values())
    return groups


def _kept(groups: List[Group], local: LocalTree, content: Content) -> Dict[int, FrozenSet[str]]:
    """For each group (by index) with content in place: the names that keep their inode.

    An inode belongs to one group only, the one with most of its names. An inode with names we
    can not see can not be kept: a write through them would change the slot.
    """
    names_of_inode = Counter(file.inode for file in local.files.values())
    claims: Dict[int, List[Tuple[int, List[str]]]] = {}
    for index, group in enumerate(groups):
        by_inode: Dict[int, List[str]] = {}
        for entry in group:
            file = local.files.get(entry.path)
            if file is None or content.standby.get(entry.path) != entry.digest:
                continue
            if file.links == names_of_inode[file.inode]:
                by_inode.setdefault(file.inode, []).append(entry.path)
        if by_inode:
            inode, names = max(by_inode.items(), key=lambda item: (len(item[1]), -item[0]))
            claims.setdefault(inode, []).append((index, names))
    kept: Dict[int, FrozenSet[str]] = {}
    for bids in claims.values():
        index, names = max(bids, key=lambda bid: (len(bid[1]), -bid[0]))
        kept[index] = frozenset(names)
    return kept


def _steps(
    groups: List[Group], kept: Mapping[int, FrozenSet[str]], local: LocalTree, content: Content
) -> Tuple[List[FileStep], Dict[Digest, str]]:
    """A step for each group, and which displaced content has to be stashed for them."""
    held = {local.files[name].inode for names in kept.values() for name in names}
    spare = _spare(local, content, held)
    place_of: Dict[Digest, str] = {}
    steps: List[FileStep] = []
    stash: Dict[Digest, str] = {}
    for index, names in kept.items():
        group = groups[index]
        steps.append(_kept_step(group, names))
        place_of[group[0].digest] = min(names)
    for index, group in enumerate(groups):
        if index in kept:
            continue
        entry = group[0]
        source, origin = _source(entry, place_of, spare, content)
        if source is Source.MOVED:
            stash[entry.digest] = spare.pop(entry.digest)
        place_of.setdefault(entry.digest, entry.path)
        steps.append(FileStep(source, entry, group[1:], origin))
    return steps, stash


def _kept_step(group: Group, names: FrozenSet[str]) -> FileStep:
    origin = min(names)
    first = next(entry for entry in group if entry.path == origin)
    return FileStep(Source.KEPT, first, tuple(e for e in group if e.path not in names), origin)


def _source(
    entry: FileEntry, place_of: Mapping[Digest, str], spare: Mapping[Digest, str], content: Content
) -> Tuple[Source, str]:
    digest = entry.digest
    if digest == EMPTY_DIGEST:
        return Source.EMPTY, ""
    if digest in spare:
        return Source.MOVED, ""
    if digest in place_of:
        return Source.DUPLICATED, place_of[digest]
    if digest in content.staged:
        return Source.STAGED, ""
    if digest in content.running:
        return Source.COPIED, content.running[digest]
    return Source.DOWNLOADED, ""


def _spare(local: LocalTree, content: Content, held: Set[int]) -> Dict[Digest, str]:
    """One displaced standby path for each digest, of an inode with no name that stays or hides."""
    names_of_inode = Counter(file.inode for file in local.files.values())
    spare: Dict[Digest, str] = {}
    for path, digest in content.standby.items():
        file = local.files[path]
        free = file.inode not in held and file.links == names_of_inode[file.inode]
        if free and digest != EMPTY_DIGEST:
            spare.setdefault(digest, path)
    return spare


def _implied(tables: Tables) -> List[DirEntry]:
    return [DirEntry(path, IMPLIED_DIRECTORY_MODE, 0, 0) for path in implied_directories(tables)]


def _removals(
    local: LocalTree,
    staying: Set[str],
    directories: Iterable[DirEntry],
    symlinks: Iterable[LinkEntry],
    nodes: Iterable[NodeEntry],
) -> List[str]:
    """Local paths that are not what the image has there, children before their parents."""
    wanted_directories = {entry.path for entry in directories}
    wanted_links = {entry.path: entry.target for entry in symlinks}
    wanted_nodes = {node.path: node.kind for node in nodes}

    def stays(other: LocalOther) -> bool:
        if other.kind == "d":
            return other.path in wanted_directories
        if other.kind == "l":
            return wanted_links.get(other.path) == other.target
        return False if other.kind in "bc" else wanted_nodes.get(other.path) == other.kind

    removals = [path for path in local.files if path not in staying]
    removals += [path for path, other in local.others.items() if not stays(other)]
    return sorted(removals, reverse=True)
