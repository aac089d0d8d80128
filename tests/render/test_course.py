"""Progress on one scale: nothing moves back, only the end is 100, and half of the work is half."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.core.text import duration
from ota_cli.events import Ahead, Alive, Done, Note, Phase, PhaseStarted, Plain, Progress
from ota_cli.render.course import Course
from ota_cli.render.pace import Pace

MB = 1_000_000
PHASES = st.sampled_from(Phase)
BYTES = st.one_of(st.integers(0, 10), st.integers(0, 2**63 - 1))


def far(phase: Phase, total: int, share: float) -> Progress:
    return Progress(phase, min(total, int(total * share)), total)


EVENTS = st.one_of(
    st.builds(PhaseStarted, PHASES, st.just("so")),
    st.builds(far, PHASES, BYTES, st.floats(0, 1)),
    st.builds(Ahead, st.lists(st.tuples(PHASES, BYTES), max_size=8).map(tuple)),
    st.just(Note("so")),
    st.just(Alive()),
)


def percents(events: List[Plain]) -> List[int]:
    course, found = Course(), []
    for event in events:
        course = course.after(event)
        found.append(course.percent)
    return found


@given(st.lists(EVENTS, max_size=60), st.lists(EVENTS, max_size=3))
def test_whatever_happens_nothing_moves_back_and_only_the_end_is_100(
    before: List[Plain], after: List[Plain]
) -> None:
    found = percents([*before, Done(), *after])
    assert found == sorted(found)
    assert all(0 <= each < 100 for each in found[: len(before)])
    assert all(each == 100 for each in found[len(before) :])


def an_update(
    compare: int, copy: int, download: int, read_back: int, guess: int, pieces: int = 10
) -> List[Plain]:
    """What the engine sends, in its order."""

    def piece(phase: Phase, total: int, number: int) -> Progress:
        return Progress(phase, total * number // pieces, total)

    steps = range(1, pieces + 1)
    found: List[Plain] = [PhaseStarted(Phase.METADATA, ""), PhaseStarted(Phase.COMPARE, "")]
    found += [Ahead(((Phase.COMPARE, compare), (Phase.FILL, guess)))]
    found += [piece(Phase.COMPARE, compare, n) for n in steps]
    found += [Ahead(((Phase.FILL, copy), (Phase.DOWNLOAD, download), (Phase.FINISH, 0),
                     (Phase.VERIFY, read_back), (Phase.BOOT, 0)))]  # fmt: skip
    found += [PhaseStarted(Phase.FILL, ""), PhaseStarted(Phase.DOWNLOAD, "")]
    found += [piece(*each, n) for n in steps
              for each in ((Phase.FILL, copy), (Phase.DOWNLOAD, download))]  # fmt: skip
    found += [PhaseStarted(Phase.FINISH, ""), PhaseStarted(Phase.VERIFY, "")]
    found += [piece(Phase.VERIFY, read_back, n) for n in steps]
    return [*found, PhaseStarted(Phase.BOOT, ""), Done()]


SIZES = st.integers(0, 10**10)


@given(st.builds(an_update, SIZES, SIZES, SIZES, SIZES, SIZES, pieces=st.integers(1, 30)))
def test_the_events_of_an_update_end_at_100_and_nowhere_before(update: List[Plain]) -> None:
    found = percents(update)
    assert found == sorted(found)
    assert found[-2] < 100 == found[-1]


def percent_at(events: List[Plain], event: Plain) -> int:
    return percents(events)[events.index(event)]


def test_where_everything_is_kept_half_of_the_reading_is_half_of_the_way() -> None:
    update = an_update(5000 * MB, 0, 0, 60 * MB, guess=0)
    assert percent_at(update, Progress(Phase.COMPARE, 2500 * MB, 5000 * MB)) in range(49, 53)
    assert percent_at(update, Progress(Phase.COMPARE, 5000 * MB, 5000 * MB)) in range(96, 100)


def test_where_the_slot_is_empty_half_of_the_copying_is_half_of_the_way() -> None:
    update = an_update(0, 5000 * MB, 10 * MB, 70 * MB, guess=5000 * MB)
    assert percent_at(update, Progress(Phase.FILL, 2500 * MB, 5000 * MB)) in range(49, 55)


def test_a_download_takes_the_larger_part_of_the_way() -> None:
    update = an_update(100 * MB, 100 * MB, 1000 * MB, 1000 * MB, guess=100 * MB)
    assert percent_at(update, Progress(Phase.COMPARE, 100 * MB, 100 * MB)) < 40
    assert percent_at(update, Progress(Phase.DOWNLOAD, 500 * MB, 1000 * MB)) in range(45, 70)


def test_more_to_read_than_was_thought_slows_down_and_does_not_go_back() -> None:
    reading: List[Plain] = [
        Ahead(((Phase.COMPARE, 10 * MB),)),
        Progress(Phase.COMPARE, 10 * MB, 10 * MB),
        Progress(Phase.COMPARE, 10 * MB, 1000 * MB),
        Progress(Phase.COMPARE, 1000 * MB, 1000 * MB),
    ]
    before, same, after = percents(reading)[1:]
    assert before == same < after < 100


def test_another_ecus_older_program_that_announces_nothing_still_moves_on() -> None:
    told = [e for e in an_update(100, 100, 100, 100, guess=0) if not isinstance(e, Ahead)]
    assert len(set(percents(told))) > 10


def test_the_download_is_named_while_it_is_under_way_beside_the_copying() -> None:
    course = Course()
    for event in an_update(0, 100, 100, 0, guess=0)[:-5]:
        course = course.after(event)
        if isinstance(event, Progress) and event.phase is Phase.FILL and event.done_bytes > 10:
            assert course.phase is Phase.DOWNLOAD
    course = Course().after(PhaseStarted(Phase.DOWNLOAD, ""))
    course = course.after(Progress(Phase.DOWNLOAD, 5, 5)).after(Progress(Phase.FILL, 1, 5))
    assert course.phase is Phase.FILL


def downloading(seconds: int, bytes_a_second: int, total: int) -> Pace:
    course, pace = Course().after(Ahead(((Phase.DOWNLOAD, total),))), Pace()
    for second in range(seconds + 1):
        course = course.after(Progress(Phase.DOWNLOAD, second * bytes_a_second, total))
        pace = pace.after(course, second)
    return pace


def test_speed_and_time_left_of_an_even_download() -> None:
    pace = downloading(100, MB, 200 * MB)
    assert pace.speed(100.0) == pytest.approx(MB)
    assert pace.seconds_left(100.0) == pytest.approx(100, rel=0.03)


def test_nothing_is_said_before_it_can_be_told() -> None:
    pace = downloading(0, MB, 200 * MB)
    assert pace.speed(0.5) is None
    assert pace.seconds_left(2.0) is None


def test_a_download_that_stalls_shows_it() -> None:
    pace = downloading(100, MB, 200 * MB)
    assert pace.speed(105.0) == pytest.approx(MB / 2, rel=0.1)
    assert pace.speed(200.0) == 0
    assert pace.seconds_left(200.0) is None


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (3725, "1:02:05")])
def test_times_as_people_read_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
