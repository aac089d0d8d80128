"""Speed and time left, from where things stood a while ago. Pure: the clock is the caller's."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from ..events import Phase
from .course import Course, Part

#: How far back the two look: speed is of now, an estimate must not jump.
_SPEED_S, _LEFT_S = 10.0, 60.0
#: Places are kept so far apart, and less than this says nothing yet.
_APART_S, _ENOUGH_S = 1.0, 3.0


class Place(NamedTuple):
    """Where a course was at `at_s`."""

    at_s: float
    left: float
    phase: Optional[Phase]
    part: Part


class Pace(NamedTuple):
    """Where one course was in the last minute, oldest first."""

    places: Tuple[Place, ...] = ()

    def after(self, course: Course, now_s: float) -> Pace:
        """The same, and where `course` is at `now_s`."""
        here = Place(now_s, course.left, course.phase, course.here)
        kept = tuple(each for each in self.places if now_s - each.at_s <= _LEFT_S)
        if len(kept) > 1 and kept[-1].at_s - kept[-2].at_s < _APART_S:
            kept = kept[:-1]
        return Pace((*kept, here))

    def speed(self, now_s: float) -> Optional[float]:
        """Bytes a second of the phase that is under way; None before that can be told, and for a
        phase that has none left."""
        here = self.places[-1]
        if here.part.is_over:
            return None
        since = [
            each
            for each in self.places
            if now_s - each.at_s <= _SPEED_S and each.phase is here.phase
        ]
        if not since:
            return 0.0
        elapsed_s = now_s - since[0].at_s
        if elapsed_s < _APART_S:
            return None
        return (here.part.done_bytes - since[0].part.done_bytes) / elapsed_s

    def seconds_left(self, now_s: float) -> Optional[float]:
        """Until the end, if it goes on like this; None before that can be told.

        At least what the phase under way takes by itself: those before it may have been faster.
        """
        here = self.places[-1]
        since = next(each for each in self.places if each is here or now_s - each.at_s <= _LEFT_S)
        moved, elapsed_s, speed = since.left - here.left, now_s - since.at_s, self.speed(now_s)
        if elapsed_s < _ENOUGH_S or moved <= 0 or not speed:
            return None
        own_s = (here.part.total_bytes - here.part.done_bytes) / speed
        return max(here.left * elapsed_s / moved, own_s)
