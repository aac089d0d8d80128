"""How far a command is: one scale from its first event to its last. Pure.

What is left shrinks by the ratio by which the known work shrinks. News about that work (the plan
is there, more has to be hashed) changes how the rest of the scale is divided, never what is done.
So nothing moves back, in whatever order events arrive, and nothing but `Done` is the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Mapping, NamedTuple, Optional

from ..events import Ahead, Done, Phase, PhaseStarted, Plain, Progress

#: What a byte costs, in bytes that are read and hashed: a guess at disks that read and write
#: some 100 MB/s and links that bring some 10 MB/s.
_COST = {Phase.FILL: 2.0, Phase.DOWNLOAD: 10.0}
#: What every phase costs besides its bytes: small files, waiting for the disk, the boot loader.
_PHASE_COST = 1e6
#: The share of the metadata, which is fetched before anybody knows what else there is to do.
_METADATA_SHARE = 0.02
#: Left of a way that has not ended, however small floating point makes it.
_LEAST = 1e-300
#: Phases of one rank run side by side; one that begins ends those of lower rank.
_RANK = {
    Phase.METADATA: 0, Phase.COMPARE: 1, Phase.FILL: 2, Phase.DOWNLOAD: 2, Phase.FINISH: 3,
    Phase.VERIFY: 4, Phase.BOOT: 5, Phase.HEALTH: 6,
}  # fmt: skip


class Part(NamedTuple):
    """A phase of the work. `cost`: of each byte."""

    total_bytes: int
    done_bytes: int = 0
    cost: float = 1.0

    @property
    def is_over(self) -> bool:
        """Whether all its bytes are done."""
        return self.done_bytes == self.total_bytes

    @property
    def left(self) -> float:
        """What it still costs."""
        return _PHASE_COST + self.cost * (self.total_bytes - self.done_bytes)


@dataclass(frozen=True)
class Course:
    """The way of one ECU through a command. `left`: of all, from 1 down to 0, which is the end.

    `phase`: the one to name. `rank`: phases of lower rank are over. `unknown`: the cost of what
    is not announced yet.
    """

    left: float = 1.0
    phase: Optional[Phase] = None
    parts: Mapping[Phase, Part] = field(default_factory=dict)
    rank: int = 0
    unknown: float = _PHASE_COST

    @property
    def percent(self) -> int:
        """0 to 100; 100 only at the end."""
        return 100 if self.left == 0 else min(99, int(100 * (1 - self.left)))

    @property
    def is_measured(self) -> bool:
        """Whether anything is known that a scale could be made of."""
        return bool(self.parts)

    @property
    def here(self) -> Part:
        """The phase to name."""
        return self.done(self.phase) if self.phase else Part(0)

    def done(self, phase: Phase) -> Part:
        """How far `phase` is."""
        return self.parts.get(phase, Part(0))

    def after(self, event: Plain) -> Course:
        """Where things stand after `event`."""
        if self.left == 0:
            return self
        if isinstance(event, PhaseStarted):
            return self._begun(event.phase)
        if isinstance(event, Ahead):
            return self._announced(event)
        if isinstance(event, Progress):
            return self._advanced(event)
        return replace(self, left=0.0) if isinstance(event, Done) else self

    def _begun(self, phase: Phase) -> Course:
        if phase is Phase.METADATA and not self.parts:
            rest = _PHASE_COST / _METADATA_SHARE
            return replace(self, phase=phase, parts={phase: Part(0)}, unknown=rest)
        return self._moved(self.parts, max(self.rank, _RANK.get(phase, 0)), phase)

    def _announced(self, news: Ahead) -> Course:
        """The rest of the scale is divided anew."""
        done = {phase: part.done_bytes for phase, part in self.parts.items()}
        parts = {
            phase: Part(total, min(done.get(phase, 0), total), _COST.get(phase, 1.0))
            for phase, total in news.work
        }
        return replace(self, parts=parts, unknown=_PHASE_COST)

    def _advanced(self, event: Progress) -> Course:
        phase, total = event.phase, event.total_bytes
        if _RANK.get(phase, self.rank) < self.rank:
            return self
        known = self.parts.get(phase) or self._unannounced(total)
        before = known._replace(total_bytes=total, done_bytes=min(known.done_bytes, total))
        after = before._replace(done_bytes=max(before.done_bytes, min(event.done_bytes, total)))
        course = replace(self, parts={**self.parts, phase: before})
        parts = {**self.parts, phase: after}
        return course._moved(parts, self.rank, _shown(parts, phase, self.phase))

    def _unannounced(self, total_bytes: int) -> Part:
        """A phase of which nobody told gets half of what is left."""
        return Part(total_bytes, 0, self._work(self.parts, self.rank) / max(total_bytes, 1))

    def _moved(self, parts: Mapping[Phase, Part], rank: int, phase: Optional[Phase]) -> Course:
        left = self.left * self._work(parts, rank) / self._work(self.parts, self.rank)
        return replace(self, left=max(left, _LEAST), parts=parts, rank=rank, phase=phase)

    def _work(self, parts: Mapping[Phase, Part], rank: int) -> float:
        """What is left to do, never 0: the end is not known to be one before it is told."""
        open_parts = (each for phase, each in parts.items() if _RANK.get(phase, rank) >= rank)
        return self.unknown + sum(each.left for each in open_parts)


def _shown(parts: Mapping[Phase, Part], moving: Phase, before: Optional[Phase]) -> Optional[Phase]:
    """Of phases side by side the download is named, which is slow, as long as it is under way."""
    download: Optional[Part] = parts.get(Phase.DOWNLOAD)
    if {moving, before} != {Phase.FILL, Phase.DOWNLOAD} or download is None:
        return moving
    return Phase.FILL if download.is_over else Phase.DOWNLOAD
