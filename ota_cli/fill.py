"""Carrying out a plan on a standby slot.

Invariants: the slot is not bootable while this runs (its `ready` mark is gone); every byte that
ends in the slot was hashed in this run; nothing that is already right is written. Killed
anywhere, the next run finds what is done by content and goes on.
"""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import (
    Callable,
    FrozenSet,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from .core.local import LocalTree
from .core.plan import FileStep, ManySteps, Plan, Source
from .entries import Digest
from .errors import OtaError, SlotUnusable
from .events import Emit, Meter, Phase, PhaseStarted, Warned
from .host import content
from .host.content import in_turn
from .host.interrupts import deferred
from .host.room import no_space
from .host.tree import (
    folds_case,
    is_own_file,
    let_owner_write,
    own_directory,
    remove,
    remove_all,
    thaw_below,
)
from .metadata import ROOT_DIRECTORY, Finisher
from .model import Attributes
from .readback import EarlyReader, reading_early
from .survey import METADATA, STAGING

#: What a fill writes itself, besides what comes from the server.
METERED = (Source.COPIED, Source.DUPLICATED, Source.STAGED)
#: What is renamed into its place.
PLACED = (Source.DOWNLOADED, Source.STAGED, Source.MOVED)
#: So many files are copied by a thread before it is given more.
_BATCH = 64

#: Fetches the content of `steps` into a directory, by hex digest, and yields each whose is there.
#: It calls its third argument every second at least, and ends with what that raises.
#: To be closed: nothing is written there afterwards.
Fetch = Callable[[ManySteps, Path, Callable[[], None]], Generator[FileStep, None, None]]


@dataclass(frozen=True)
class Filled:
    """What a fill did. `fallen_back`: paths of copies that had to be downloaded after all.
    `proven`: paths that were read back from the disk already."""

    plan: Plan
    fallen_back: FrozenSet[str]
    proven: FrozenSet[str]


def fill(
    standby: Path,
    running: Optional[Path],
    plan: Plan,
    local: LocalTree,
    attributes: Optional[Attributes],
    fetch: Fetch,
    emit: Emit,
    *,
    is_roomy: bool,
) -> Filled:
    """Makes `standby` equal to the image that `plan` was made for, persistent files apart.

    `is_roomy`: all that is new has room beside what goes, as `fit.require_room` tells.

    Raises NoSpace, SlotUnusable, and what `fetch` raises; the slot is then incomplete.
    """
    emit(PhaseStarted(Phase.FILL, "filling the standby slot"))
    meter = Meter(emit, Phase.FILL, plan.size_bytes(*METERED))
    finisher = Finisher(standby, local, attributes, owners=os.geteuid() == 0)
    staging = standby / STAGING
    with slot_errors(standby):
        _open_staging(standby, plan)
        let_owner_write(standby, local)
        _stash(standby, plan.stash)
        _remove(standby, _in_the_way(plan, local) if is_roomy else plan.removals)
        _make_directories(standby, plan)
    with reading_early(standby) as reader:
        filling = _Filling(standby, running, finisher, meter, fetch, reader, emit)
        fallen_back = filling.copy_and_download(plan)
        with slot_errors(standby):
            proven = reader.proven()
    with slot_errors(standby):
        _place_staged(standby, plan, finisher, meter)
        _make_empty(standby, plan, finisher)
        _duplicate(standby, plan, finisher, meter)
        _link(standby, plan)
        finisher.keep(plan)
        finisher.symlinks_and_nodes(plan)
        _clear(staging)
        finisher.directories(chain(reversed(plan.directories), [ROOT_DIRECTORY]))
    return Filled(plan, fallen_back, proven)


@contextmanager
def slot_errors(slot: Path) -> Iterator[None]:
    """Turns an OSError of the block into NoSpace or SlotUnusable."""
    try:
        yield
    except OSError as error:
        raise slot_error(slot, error) from error


def slot_error(slot: Path, error: OSError) -> OtaError:
    """The failure of a slot that `error` means."""
    what = error.filename if isinstance(error.filename, str) else str(slot)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(what)
    if error.errno == errno.EPERM and os.geteuid() == 0 and thaw_below(slot):
        return SlotUnusable(
            f"{what} of the standby slot, or something beside it, was immutable or append-only "
            "(chattr); such flags were cleared there",
            hint="run the same command again",
            slug="slot-was-immutable",
        )
    return SlotUnusable(
        f"the standby slot can not be written: {what}: {error.strerror}",
        hint="the kernel log (`dmesg`) tells more about the device",
    )


def _open_staging(standby: Path, plan: Plan) -> None:
    """Leaves only what the plan wants there, in files that nobody reaches by another name: they
    are written to. The rest was counted as room."""
    own_directory(standby / METADATA)
    _require_case(standby)
    own_directory(standby / STAGING)
    leftovers = list(os.scandir(standby / STAGING))
    wanted = plan.digests(Source.STAGED, Source.DOWNLOADED) if leftovers else frozenset()
    for leftover in leftovers:
        if leftover.name.partition(".")[0] not in wanted or not is_own_file(Path(leftover.path)):
            remove_all(leftover.path)


def _require_case(standby: Path) -> None:
    """Raises SlotUnusable where names of the image could overwrite or join each other."""
    if folds_case(standby / METADATA):
        raise SlotUnusable(
            f"the file system of {standby} does not tell upper from lower case",
            hint="use ext4 without `casefold`, or another one that does",
            slug="slot-folds-case",
        )


def _stash(standby: Path, stash: Mapping[Digest, str]) -> None:
    for digest, path in stash.items():
        os.rename(f"{standby}{path}", standby / STAGING / digest.hex())


def _in_the_way(plan: Plan, local: LocalTree) -> Iterator[str]:
    """The removals but for files that others are renamed over: where they go first, their
    directories and inodes are written to the journal twice."""
    is_file = local.files.paths.find
    files = (path for path in plan.removals if is_file(path) is not None)
    others = (path for path in plan.removals if is_file(path) is None)
    return chain(plan.steps.unclaimed(files, *PLACED), others)


def _remove(standby: Path, removals: Iterable[str]) -> None:
    for path in removals:
        try:
            remove(standby, path)
        except FileNotFoundError:
            continue  # stashed


def _make_directories(standby: Path, plan: Plan) -> None:
    for entry in plan.directories:
        try:
            os.mkdir(f"{standby}{entry.path}", 0o700)
        except FileExistsError:
            continue


def _write_copy(
    standby: Path, step: FileStep, source: str, finisher: Finisher, arrived: content.Arrived
) -> Optional[str]:
    """Makes the file of `step` from `source`; where that does not have its content, what is wrong
    with it, and nothing is left. `arrived` is told of bytes copied, and may end it."""
    target = f"{standby}{step.entry.path}"
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            copied = content.copy_hashed(source, descriptor, arrived)
        except OSError as error:
            if error.filename != source:
                raise
            os.unlink(target)
            return f"can not be read ({error.strerror})"
        if copied.digest != step.entry.digest:
            os.unlink(target)
            return "changed while it was copied"
        finisher.new_file(descriptor, step.entry, copied.mtime_ns)
        return None
    finally:
        os.close(descriptor)


class _Unmade(NamedTuple):
    """A copy that could not be made, and what is wrong with its source."""

    step: FileStep
    why: str


@dataclass(frozen=True)
class _Filling:
    """The two long works of a fill, side by side: the disk copies while the network brings."""

    standby: Path
    running: Optional[Path]
    finisher: Finisher
    meter: Meter
    fetch: Fetch
    reader: EarlyReader
    emit: Emit
    stop: threading.Event = field(default_factory=threading.Event)

    def copy_and_download(self, plan: Plan) -> FrozenSet[str]:
        """Copies and downloads what `plan` says; which copies had to be downloaded, too.

        The first failure of either ends the other.
        """
        with ThreadPoolExecutor(1) as aside:
            try:
                with deferred():
                    copying = aside.submit(self._copy, plan)

                def attend() -> None:
                    with slot_errors(self.standby):
                        self.reader.check()
                        if copying.done():
                            copying.result()

                self._download(plan.downloads, attend)
                with slot_errors(self.standby):
                    unmade = copying.result()
            finally:
                self.stop.set()
        for step, why in unmade:
            self.emit(Warned(f"{step.origin} {why}; it is downloaded instead"))
        self._download([step for step, _ in unmade], attend)
        return frozenset(step.entry.path for step, _ in unmade)

    def _copy(self, plan: Plan) -> List[_Unmade]:
        """Copies what the running slot has, on all cores; returns what it has no more."""
        steps = plan.steps.of(Source.COPIED)
        with closing(in_turn(self._copy_batch, steps, _BATCH, self.stop)) as batches:
            return [step for unmade in batches for step in unmade]

    def _copy_batch(self, batch: Sequence[FileStep]) -> List[_Unmade]:
        unmade = []
        try:
            for step in batch:
                if self.stop.is_set():
                    break
                source = f"{self.running}{step.origin}"
                why = _write_copy(self.standby, step, source, self.finisher, self._copied)
                if why is not None:
                    unmade.append(_Unmade(step, why))
        except content.Stopped:
            pass  # the file stays as it is, half: nobody goes on with the slot
        except OSError:
            self.stop.set()  # no other thread goes on writing to a disk that is full or broken
            raise
        return unmade

    def _copied(self, count: int) -> None:
        """So many bytes of a file more; a large one is not waited for by whoever ends the fill."""
        self.meter.add(count)
        if self.stop.is_set():
            raise content.Stopped

    def _download(self, steps: ManySteps, attend: Callable[[], None]) -> None:
        """Fetches the content of `steps` and puts each file in its place as it arrives."""
        if not steps:
            return
        self.emit(PhaseStarted(Phase.DOWNLOAD, f"downloading {len(steps)} files"))
        with closing(self.fetch(steps, self.standby / STAGING, attend)) as arriving:
            for step in arriving:
                with slot_errors(self.standby):
                    _place(self.standby, step, self.finisher)
                self.reader.note(step.entry)


def _place(standby: Path, step: FileStep, finisher: Finisher) -> None:
    staged, target = standby / STAGING / step.entry.digest.hex(), f"{standby}{step.entry.path}"
    try:
        os.rename(staged, target)
    except PermissionError:
        with suppress(FileNotFoundError):  # not it is frozen but its directory: told below
            remove(standby, step.entry.path)
        os.rename(staged, target)
    finisher.file(step.entry, mtime_ns=None)


def _place_staged(standby: Path, plan: Plan, finisher: Finisher, meter: Meter) -> None:
    """Stashed content keeps its inode, so its old extended attributes must go."""
    for step in plan.steps.of(Source.STAGED, Source.MOVED):
        _place(standby, step, finisher)
        meter.add(step.entry.size or 0 if step.source is Source.STAGED else 0)


def _make_empty(standby: Path, plan: Plan, finisher: Finisher) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    for step in plan.steps.of(Source.EMPTY):
        os.close(os.open(f"{standby}{step.entry.path}", flags, 0o600))
        finisher.file(step.entry, mtime_ns=None)


def _duplicate(standby: Path, plan: Plan, finisher: Finisher, meter: Meter) -> None:
    for step in plan.steps.of(Source.DUPLICATED):
        source = f"{standby}{step.origin}"
        with content.made_readable(source):
            wrong = _write_copy(standby, step, source, finisher, meter.add)
        if wrong is not None:
            raise SlotUnusable(
                f"{source} does not read back as it was verified",
                hint="the slot's storage is failing; see the kernel log",
            )


def _link(standby: Path, plan: Plan) -> None:
    for step in plan.steps.linked():
        for other in step.links:
            os.link(f"{standby}{step.entry.path}", f"{standby}{other.path}", follow_symlinks=False)


def _clear(staging: Path) -> None:
    """Empties and removes the staging directory: nothing in the slot may link to it."""
    for leftover in list(os.scandir(staging)):
        os.unlink(leftover.path)
    staging.rmdir()
