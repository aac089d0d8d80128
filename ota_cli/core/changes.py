"""What carrying out a plan would change, for people: counts, downloads, the kernel. Pure."""

from __future__ import annotations

import heapq
from typing import Callable, FrozenSet, Iterator, NamedTuple, Optional, Tuple

from ..entries import FileEntry
from ..packed import PackedFiles
from .local import LocalFile, LocalOther, LocalTree
from .plan import FileStep, Plan, Source

_LARGEST = 10
_WRITTEN = tuple(set(Source) - {Source.KEPT, Source.MOVED})


class Counts(NamedTuple):
    """How many entries of a slot are `new` there, get other content or become something else
    (`changed`), are `moved` to a new name, get other modes, owners, times or names (`metadata`),
    are `removed`, or stay as they are (`kept`)."""

    new: int = 0
    changed: int = 0
    moved: int = 0
    metadata: int = 0
    removed: int = 0
    kept: int = 0


class Download(NamedTuple):
    """A file to fetch. `wire_bytes`: what the server sends for it, at most."""

    path: str
    wire_bytes: int


class KernelChange(NamedTuple):
    """The versions of the running kernel and of that of the image, as far as they have one.

    `kernel`, `initrd`: whether the file is another one; None where only hashing could tell.
    """

    old: Optional[str]
    new: Optional[str]
    kernel: Optional[bool]
    initrd: Optional[bool]


class Changes(NamedTuple):
    """What an update changes. `files`: regular ones, hard-linked names count as one. `others`:
    directories, symlinks and nodes. `downloads`: the largest. `persisted`: what is carried over;
    None where only root may look."""

    files: Counts
    others: Counts
    downloads: Tuple[Download, ...]
    kernel: Optional[KernelChange]
    persisted: Optional[Tuple[str, ...]]


def count_files(plan: Plan, files: PackedFiles, local: LocalTree, *, owners: bool) -> Counts:
    """The regular files. `owners`: they are applied. Extended attributes are not looked at."""
    places = files.paths.matched(local.files.paths)

    def is_there(row: int) -> bool:
        return places[row] >= 0 or files.paths[row] in local.others

    written = [is_there(row) for row in plan.steps.rows(*_WRITTEN)]
    moved = [is_there(row) for row in plan.steps.rows(Source.MOVED)]
    named = {step.entry.path for step in plan.steps.linked() if step.source is Source.KEPT}
    dressed = sum(
        entry.path in named or _is_dressed_otherwise(entry, have, owners)
        for entry, have in plan.steps.kept(local.files)
    )
    stashed = frozenset(plan.stash.values())
    gone = (path for path in _gone(plan, files) if local.files.paths.find(path) is not None)
    return Counts(
        new=written.count(False), changed=written.count(True) + moved.count(True),
        moved=moved.count(False), metadata=dressed,
        removed=sum(path not in stashed for path in gone),
        kept=plan.files(Source.KEPT) - dressed,
    )  # fmt: skip


def count_others(plan: Plan, files: PackedFiles, local: LocalTree, *, owners: bool) -> Counts:
    """Directories, symlinks and nodes."""
    found = [_kind_of_change(each, local, owners) for each in _others(plan)]
    removed = sum(path in local.others for path in _gone(plan, files))
    return Counts(
        new=found.count("new"), changed=found.count("changed"), metadata=found.count("metadata"),
        removed=removed, kept=found.count("kept"),
    )  # fmt: skip


def largest(plan: Plan, wire_bytes: Callable[[FileStep], int]) -> Tuple[Download, ...]:
    """The downloads that the server sends most for, the largest first."""
    steps = plan.steps.of(Source.DOWNLOADED)
    all_of_them = (Download(step.entry.path, wire_bytes(step)) for step in steps)
    return tuple(heapq.nsmallest(_LARGEST, all_of_them, key=lambda d: (-d.wire_bytes, d.path)))


def is_other_file(
    step: Optional[FileStep], booted: Optional[str], is_other_version: bool
) -> Optional[bool]:
    """Whether the boot file of `step` differs from the one in use, of sha256 `booted` in hex.

    Where that is not known, the plan may tell: what the running slot has under the same name is
    copied from there. None where nothing tells.
    """
    if step is None:
        return None
    if booted is not None:
        return step.entry.digest.hex() != booted
    if step.source is Source.COPIED and step.origin == step.entry.path:
        return False
    return True if is_other_version or step.source is Source.DOWNLOADED else None


class _Other(NamedTuple):
    path: str
    kind: str
    target: str
    mode: Optional[int]
    owner: Tuple[int, int]


def _others(plan: Plan) -> Iterator[_Other]:
    for entry in plan.directories:
        yield _Other(entry.path, "d", "", entry.mode, (entry.uid, entry.gid))
    for link in plan.symlinks:
        yield _Other(link.path, "l", link.target, None, (link.uid, link.gid))
    for node in plan.nodes:
        yield _Other(node.path, node.kind, "", node.mode, (node.uid, node.gid))


def _kind_of_change(wanted: _Other, local: LocalTree, owners: bool) -> str:
    have: Optional[LocalOther] = local.others.get(wanted.path)
    if have is None:
        return "new" if local.files.paths.find(wanted.path) is None else "changed"
    if (have.kind, have.target) != (wanted.kind, wanted.target):
        return "changed"
    is_same_mode = wanted.mode in (None, have.mode)
    is_same_owner = not owners or (have.uid, have.gid) == wanted.owner
    return "kept" if is_same_mode and is_same_owner else "metadata"


def _gone(plan: Plan, files: PackedFiles) -> Iterator[str]:
    """What is removed with nothing in its place."""
    others: FrozenSet[str] = frozenset(each.path for each in _others(plan))
    for path in plan.removals:
        if path not in others and files.paths.find(path) is None:
            yield path


def _is_dressed_otherwise(entry: FileEntry, have: LocalFile, owners: bool) -> bool:
    is_same_owner = not owners or (have.uid, have.gid) == (entry.uid, entry.gid)
    is_same_time = entry.mtime_ns in (None, have.mtime_ns)
    return not (is_same_owner and is_same_time and have.mode == entry.mode)
