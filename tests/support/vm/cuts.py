"""What a power cut can leave of the writes since the last flush."""

from __future__ import annotations

import random
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from tests.support.vm.recorder import Write

#: A disk writes a sector whole or not at all; nothing larger is sure.
SECTOR_BYTES = 512


class Cut(NamedTuple):
    """`pieces` reached the disk, in this order; whatever else was not flushed is lost.

    `torn`: some of them are only sectors of a write.
    """

    kind: str
    pieces: Tuple[Write, ...]
    torn: bool = False


def cuts(unflushed: Sequence[Write], seed: str) -> Iterator[Cut]:
    """A cut at each write: all up to it, the same with that one torn, and some of them shuffled,
    every other time with a few of these torn as well."""
    rng = random.Random(seed)
    for count in range(1, len(unflushed) + 1):
        begun = tuple(unflushed[:count])
        yield Cut("in order", begun)
        yield Cut("torn", (*begun[:-1], *_torn(begun[-1], rng)), torn=True)
        torn = count % 2 == 0
        yield Cut("shuffled", _shuffled(begun, rng, 3 if torn else 0), torn)


def _torn(write: Write, rng: random.Random) -> Iterator[Write]:
    """Some sectors of a write, as runs of neighbours; often none or nearly all."""
    sectors = len(write.data) // SECTOR_BYTES
    chance = rng.choice((0.1, 0.5, 0.9))
    kept = [number for number in range(sectors) if rng.random() < chance]
    for first, last in _runs(kept):
        start, end = first * SECTOR_BYTES, (last + 1) * SECTOR_BYTES
        yield Write(write.offset + start, write.data[start:end])


def _runs(numbers: Sequence[int]) -> Iterator[Tuple[int, int]]:
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def _shuffled(begun: Sequence[Write], rng: random.Random, torn: int) -> Tuple[Write, ...]:
    """Some of the writes, in another order; the first `torn` of them torn."""
    chance = rng.choice((0.2, 0.5, 0.8, 0.95))
    chosen = [write for write in begun if rng.random() < chance]
    rng.shuffle(chosen)
    pieces: List[Write] = []
    for number, write in enumerate(chosen):
        pieces.extend(_torn(write, rng) if number < torn else [write])
    return tuple(pieces)
