"""Some states that a cut can leave of a recorded disk, made into disks that can be booted."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, NamedTuple, Tuple, Union

from tests.support.vm.cuts import Cut, cuts
from tests.support.vm.disk import Partition
from tests.support.vm.recorder import Flush, Write

#: The record of a disk from its start, as often as asked for.
Record = Callable[[], Iterable[Union[Write, Flush]]]


class State(NamedTuple):
    """Cut number `index` behind so many flushes, counted from 0 in both; see `cuts`."""

    flushes: int
    index: int


def choose(record: Record, seed: str, part: Partition, count: int) -> List[State]:
    """`count` states of all, and `count` of those in which the cut hit writes to `part`.

    States with torn writes are left out: Linux may refuse a superblock that tore when it was
    mounted, whoever wrote to the file system.
    """
    anywhere: List[State] = []
    inside: List[State] = []
    for state, cut in _states(record(), seed):
        if not cut.torn:
            anywhere.append(state)
            if any(part.start <= piece.offset < part.start + part.size for piece in cut.pieces):
                inside.append(state)
    rng = random.Random(f"{seed}/sample")
    return sorted({*rng.sample(anywhere, count), *rng.sample(inside, count)})


def make_disk_of(state: State, start: Path, record: Record, seed: str, disk: Path) -> Path:
    """Makes `disk` what a cut in `state` leaves of one that began as `start`."""
    subprocess.run(["cp", "--sparse=always", start, disk], check=True)
    with open(disk, "r+b") as file:
        for flushes, epoch in _epochs(record()):
            pieces: Iterable[Write] = epoch
            if flushes == state.flushes:
                pieces = list(cuts(epoch, f"{seed}/{flushes}"))[state.index].pieces
            for piece in pieces:
                file.seek(piece.offset)
                file.write(piece.data)
            if flushes == state.flushes:
                return disk
    raise AssertionError(f"the record ends before {state}")


def _states(
    record: Iterable[Union[Write, Flush]], seed: str
) -> Iterator[Tuple[State, Cut]]:  # fmt: skip
    for flushes, epoch in _epochs(record):
        for index, cut in enumerate(cuts(epoch, f"{seed}/{flushes}")):
            yield State(flushes, index), cut


def _epochs(record: Iterable[Union[Write, Flush]]) -> Iterator[Tuple[int, List[Write]]]:
    """The writes between two flushes, with how many flushes came before."""
    epoch: List[Write] = []
    flushes = 0
    for entry in record:
        if isinstance(entry, Write):
            epoch.append(entry)
        else:
            yield flushes, epoch
            epoch, flushes = [], flushes + 1
    yield flushes, epoch
