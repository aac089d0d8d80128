"""Proving that what was brought into a slot reached the disk (DESIGN section 4.4): written out,
dropped from the page cache, read again and hashed.

Large files are read back one by one while the network brings more; the others, kernel and initrd
at the end, when the whole file system has been written out. Copies as well where that is asked for
(`--verify-writes`), or the kernel does not tell whether they were written.
"""

from __future__ import annotations

import errno
import re
from array import array
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Container, Deque, FrozenSet, Iterable, Iterator, List, Optional

from .core.plan import Plan, Source
from .entries import FileEntry
from .errors import NoSpace, SlotUnusable
from .events import Emit, Meter, Note, Phase, PhaseStarted
from .host.content import digest_files, digest_of, drop_from_cache, made_readable
from .host.files import fsync, syncfs
from .host.interrupts import deferred
from .packed import PackedFiles

#: From this size on a file is worth a flush of its own, which commits the journal as well: half of
#: what a point release brings is in the 1 % of its files that are that large.
LARGE_BYTES = 1024 * 1024
#: What a fill brings from elsewhere in the device, or brought in an earlier run.
_LOCAL = (Source.COPIED, Source.DUPLICATED, Source.MOVED, Source.STAGED)
#: From this Linux on syncfs(2) fails where a file could not be written, says its man page.
_SYNCFS_TELLS = (5, 8)


class EarlyReader:
    """Reads large files back, beside whoever brings them; made by `reading_early`.

    A failure of the disk is told by `check`.
    """

    def __init__(self, slot: Path, pool: ThreadPoolExecutor) -> None:
        self._slot = slot
        self._pool = pool
        self._begun: Deque[Future[str]] = deque()
        self._proven: List[str] = []

    def note(self, entry: FileEntry) -> None:
        """`entry` is in its place, and its content stays as it is."""
        if (entry.size or 0) >= LARGE_BYTES:
            with deferred():
                self._begun.append(self._pool.submit(self._read_back, entry))

    def check(self) -> None:
        """Raises SlotUnusable, NoSpace or OSError if a file could not be read back."""
        while self._begun and self._begun[0].done():
            self._proven.append(self._begun.popleft().result())

    def proven(self) -> FrozenSet[str]:
        """The paths that were read back, once all are. Raises like `check`."""
        wait(self._begun)
        self.check()
        return frozenset(self._proven)

    def give_up(self) -> None:
        """Nothing more is begun."""
        for begun in self._begun:
            begun.cancel()

    def _read_back(self, entry: FileEntry) -> str:
        path = f"{self._slot}{entry.path}"
        with made_readable(path):
            with _storage():
                fsync(path)
            drop_from_cache(path)
            if digest_of(path) != entry.digest:
                raise _not_as_written(entry.path)
        return entry.path


@contextmanager
def reading_early(slot: Path) -> Iterator[EarlyReader]:
    """Large files of `slot` are read back meanwhile; none is any more after the block."""
    with ThreadPoolExecutor(1) as pool:
        reader = EarlyReader(slot, pool)
        try:
            yield reader
        finally:
            reader.give_up()


def syncfs_tells(release: str) -> bool:
    """Whether syncfs(2) of the kernel `release`, as uname(2) has it, reports lost writes."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= _SYNCFS_TELLS


def reads_copies(wanted: Optional[bool], release: str, emit: Emit) -> bool:
    """Whether copies are to be read back: as is `wanted`; None: where the kernel `release` would
    not tell that they did not reach the disk."""
    if wanted is not None:
        return wanted
    if syncfs_tells(release):
        return False
    emit(Note(f"copies are read back, too: Linux {release} does not tell of writes that failed"))
    return True


def read_back_bytes(files: PackedFiles, plan: Plan, *, copies: bool) -> int:
    """How much is read back, carried files included. `copies`: see `flush_and_read_back`."""
    return _bytes_of(files, _worth_reading(files, plan, (), (), copies=copies))


def flush_and_read_back(
    standby: Path,
    files: PackedFiles,
    plan: Plan,
    carried: Iterable[str],
    proven: Container[str],
    emit: Emit,
    *,
    fallen_back: Iterable[str] = (),
    copies: bool = False,
) -> None:
    """Everything on the disk, and what matters most read again from there.

    Downloaded files, those that had `fallen_back` to it too, kernel and initrd are re-hashed with
    the page cache dropped, but for those `proven` already; with `copies` all files that were not in
    their place before. Raises OSError, NoSpace, and SlotUnusable where the disk gives something
    else than was written.
    """
    emit(PhaseStarted(Phase.VERIFY, "writing out and reading back"))
    with _storage():
        syncfs(standby)
    rows = array("I", _worth_reading(files, plan, carried, fallen_back, copies=copies))
    unread = array("I", (row for row in rows if files.paths[row] not in proven))
    meter = Meter(emit, Phase.VERIFY, _bytes_of(files, rows))
    meter.add(_bytes_of(files, rows) - _bytes_of(files, unread))
    for row in unread:
        with made_readable(f"{standby}{files.paths[row]}"):
            drop_from_cache(f"{standby}{files.paths[row]}")
    sizes = ((files.paths[row], files.size(row) or 0) for row in unread)
    with closing(digest_files(standby, sizes, emit, meter.add, unlock=True)) as digests:
        for row, digest in zip(unread, digests):
            if digest != files.digest(row):
                raise _not_as_written(files.paths[row])


def _worth_reading(
    files: PackedFiles, plan: Plan, carried: Iterable[str], fallen_back: Iterable[str], *,
    copies: bool,
) -> Iterator[int]:  # fmt: skip
    """The rows of what was downloaded and of what boots, where that is what the image has; with
    `copies` also of what came from elsewhere in the device."""
    sources = (Source.DOWNLOADED, *(_LOCAL if copies else ()))
    left_out = set(carried)
    below = tuple(f"{each}/" for each in left_out)
    brought = bytearray(len(files))
    for row in plan.steps.rows(*sources):
        brought[row] = 1
    fetched = (row for row in map(files.paths.find, fallen_back) if row is not None)
    others = {row for row in (*fetched, *files.paths.below("/boot")) if not brought[row]}
    for row in chain(plan.steps.rows(*sources), sorted(others)):
        path = files.paths[row]
        if path not in left_out and not path.startswith(below):
            yield row


def _bytes_of(files: PackedFiles, rows: Iterable[int]) -> int:
    return sum(files.size(row) or 0 for row in rows)


@contextmanager
def _storage() -> Iterator[None]:
    """A file system that is full says so before; what lies below it only when it is written to."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(
            "the storage below the standby slot has no room for what was written there",
            hint="make room: a disk is full, or a quota used up, below a directory, a thin volume "
            "or a sparse file",
            slug="storage-full",
        ) from error


def _not_as_written(path: str) -> SlotUnusable:
    return SlotUnusable(
        f"{path} does not read back as it was written",
        hint="the slot's storage is failing; see the kernel log",
        slug="read-back",
    )
