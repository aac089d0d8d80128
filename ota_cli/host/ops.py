"""Changes to a boot partition as values, and the one executor that makes them.

Back-ends return lists of ops and touch nothing; `apply` does them in order and stops at the
first failure. What it has done is durable: everything a back-end lists may be cut off after
any op, so the order of the list is the safety argument, not this file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import BinaryIO, Sequence, Tuple, Union

from ..entries import Digest
from ..errors import BootRefused, NoSpace, OtaError
from ..events import Emit, Note, silent
from .files import (
    fsync,
    fsync_directory,
    make_directory_durably,
    remove_durably,
    replace_in_place,
    room_hint,
    syncfs,
    write_durably,
    writing_hint,
)
from .loaderops import LoaderOp
from .room import require_kernel_room
from .run import CommandFailed, is_installed, run

_CHUNK_BYTES = 1024 * 1024
#: What link(2) says where there are none.
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class MakeDirectory:
    """Makes `path` and its missing parents."""

    path: Path


@dataclass(frozen=True)
class WriteFile:
    """Replaces `path` by `data` with a rename; not for what GRUB reads before a Flush."""

    path: Path
    data: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class ReplaceInPlace:
    """Overwrites the start of the existing `path` with one write; its other bytes stay."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class RequireRoom:
    """Checks that the boot partition, which is at `path`, has room for `size_bytes` of a kernel."""

    path: Path
    size_bytes: int


@dataclass(frozen=True)
class CopyVerified:
    """Makes `target` a copy of `source`, whose content must have `digest`.

    A `target` that has it already is left alone.
    """

    source: Path
    target: Path
    digest: Digest


@dataclass(frozen=True)
class Rename:
    """Gives `source` the name of `target`, which it replaces."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Link:
    """Makes `path` a symlink to `target`, replacing a symlink that is there."""

    path: Path
    target: str


@dataclass(frozen=True)
class HardLink:
    """Gives the file `target` the second name `path`: what it holds stays when a Rename replaces
    it. Nothing on a file system that knows no hard links (FAT)."""

    path: Path
    target: Path


@dataclass(frozen=True)
class Remove:
    """Removes the file `path` if it exists."""

    path: Path


@dataclass(frozen=True)
class Flush:
    """Brings `paths`, files and directories of one file system, to where GRUB sees them.

    GRUB replays no journal. The first syncfs commits the journal, which makes its blocks
    writable in place; the second writes them there.
    """

    paths: Tuple[Path, ...]


@dataclass(frozen=True)
class ReadBack:
    """Checks that the disk, not the cache, holds content with `digest` at `path`."""

    path: Path
    digest: Digest


@dataclass(frozen=True)
class ReadBackStart:
    """Checks that the disk, not the cache, holds `data` at the start of `path`."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class CheckEnvironment:
    """Checks that GRUB's own tool reads `lines` (`name=value`) first from the block at `path`."""

    path: Path
    lines: Tuple[str, ...]


Op = Union[
    MakeDirectory,
    WriteFile,
    ReplaceInPlace,
    RequireRoom,
    CopyVerified,
    Rename,
    Link,
    HardLink,
    Remove,
    Flush,
    ReadBack,
    ReadBackStart,
    CheckEnvironment,
    LoaderOp,
]


def apply(ops: Sequence[Op], emit: Emit = silent) -> None:
    """Does `ops` in order. Raises NoSpace or BootRefused, naming the object, at the first that
    fails; the ops after it are not begun."""
    for op in ops:
        try:
            _apply(op, emit)
        except OSError as error:
            raise _refusal(op, error) from error


@singledispatch
def _apply(op: object, emit: Emit) -> None:
    raise TypeError(f"{type(op).__name__} is not an op")


@_apply.register
def _(op: MakeDirectory, emit: Emit) -> None:
    make_directory_durably(op.path)


@_apply.register
def _(op: WriteFile, emit: Emit) -> None:
    write_durably(op.path, op.data, op.mode)


@_apply.register
def _(op: ReplaceInPlace, emit: Emit) -> None:
    replace_in_place(op.path, op.data)


@_apply.register
def _(op: RequireRoom, emit: Emit) -> None:
    require_kernel_room(op.path, op.size_bytes)


@_apply.register
def _(op: CopyVerified, emit: Emit) -> None:
    if _holds(op.target, op.digest):
        return
    # In place of the old file, not beside it: a boot partition rarely has room for a third
    # kernel, and nothing boots this one while its slot is not `ready`.
    remove_durably(op.target)
    if _copied(op) != op.digest:
        remove_durably(op.target)
        raise BootRefused(
            f"{op.source} has changed since it was verified",
            hint="run the same command again",
            slug="boot-file-changed",
        )
    fsync_directory(op.target.parent)


@_apply.register
def _(op: Rename, emit: Emit) -> None:
    os.rename(op.source, op.target)
    fsync_directory(op.target.parent)


@_apply.register
def _(op: Link, emit: Emit) -> None:
    if op.path.is_symlink():
        op.path.unlink()
    op.path.symlink_to(op.target)
    fsync_directory(op.path.parent)


@_apply.register
def _(op: HardLink, emit: Emit) -> None:
    try:
        os.link(op.target, op.path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    fsync_directory(op.path.parent)


@_apply.register
def _(op: Remove, emit: Emit) -> None:
    remove_durably(op.path)


@_apply.register
def _(op: Flush, emit: Emit) -> None:
    for path in op.paths:
        fsync(path)
    for _ in range(2):
        syncfs(op.paths[0])


@_apply.register
def _(op: ReadBack, emit: Emit) -> None:
    with _uncached(op.path) as stream:
        if _digest(stream) != op.digest:
            raise _bad_read(op.path)


@_apply.register
def _(op: ReadBackStart, emit: Emit) -> None:
    with _uncached(op.path) as stream:
        if stream.read(len(op.data)) != op.data:
            raise _bad_read(op.path)


@_apply.register
def _(op: CheckEnvironment, emit: Emit) -> None:
    if is_installed("grub-editenv"):
        listed = _listed_by_grub(op.path)
    else:
        emit(Note("grub-editenv is not installed: the GRUB environment was re-read without it"))
        listed = _listed(op.path.read_bytes())
    if listed.split("\n")[: len(op.lines)] != list(op.lines):
        raise BootRefused(
            f"another reader finds other values in {op.path} than were written",
            hint="run `ota setup --repair`",
            slug="env-disagrees",
        )


@_apply.register
def _(op: LoaderOp, emit: Emit) -> None:
    op.do()


def _listed_by_grub(path: Path) -> str:
    try:
        return run(["grub-editenv", str(path), "list"]).stdout.decode("utf-8", "replace")
    except CommandFailed as error:
        raise BootRefused(
            f"grub-editenv can not read {path}: {error.message}",
            hint="run `ota setup --repair`",
            slug="env-disagrees",
        ) from error


def _listed(block: bytes) -> str:
    """The lines of a block as `grub-editenv list` prints them, as far as they hold no escape."""
    return block.partition(b"\n")[2].rstrip(b"#").decode("utf-8", "replace")


def _holds(path: Path, digest: Digest) -> bool:
    with suppress(FileNotFoundError), _uncached(path) as stream:
        return _digest(stream) == digest
    return False


def _copied(op: CopyVerified) -> Digest:
    """The digest of what was written; a copy that fails half-way leaves nothing, for others need
    the room."""
    try:
        return _copy(op.source, op.target)
    except OSError:
        with suppress(OSError):
            remove_durably(op.target)
        raise


def _copy(source: Path, target: Path) -> Digest:
    """Copies `source` to the new file `target`; the digest of what was written, synced."""
    seen = hashlib.sha256()
    with open(source, "rb", opener=_not_followed) as reader, open(target, "xb") as writer:
        os.fchmod(writer.fileno(), 0o644)
        for chunk in iter(lambda: reader.read(_CHUNK_BYTES), b""):
            seen.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return Digest(seen.digest())


def _digest(stream: BinaryIO) -> Digest:
    seen = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
        seen.update(chunk)
    return Digest(seen.digest())


def _uncached(path: Path) -> BinaryIO:
    """`path`, opened for reading, its clean pages dropped from the cache."""
    stream = open(path, "rb", opener=_not_followed)  # noqa: SIM115
    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return stream


def _not_followed(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW)


def _bad_read(path: Path) -> BootRefused:
    return BootRefused(
        f"{path} does not hold what was written to it",
        hint="the boot partition's disk may be failing: see `dmesg`",
        slug="read-back",
    )


def _refusal(op: Op, error: OSError) -> OtaError:
    name = Path(os.fsdecode(error.filename or _object(op)))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"no space left while writing {name}",
            hint=op.room_hint if isinstance(op, LoaderOp) else room_hint(name),
            slug="no-space-boot",
        )
    return BootRefused(
        f"{name} can not be changed: {error.strerror}",
        hint=op.hint if isinstance(op, LoaderOp) else writing_hint(name),
        slug="boot-partition",
    )


def _object(op: Op) -> Path:
    if isinstance(op, (CopyVerified, Rename)):
        return op.target
    if isinstance(op, LoaderOp):
        return op.concerns
    return op.paths[0] if isinstance(op, Flush) else op.path
