"""What `ota` is to reach, each with its limit and the measured value. Pure."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tests.bench import contenders as c
from tests.bench.measure import Cost
from tests.bench.report import MIB, Race, markdown
from tests.bench.stage import ROUND_TRIP_S

_CONNECTIONS = 32
_MEMORY_MIB, _MEMORY_FULLY_GROWN_MIB = 80, 250
_GROWN, _FULLY_GROWN, _MOST_GROWTH = 100_000, 500_000, 5.5


class Goal(NamedTuple):
    """`measured` is to be at most `limit`, both in `unit`; None: this run does not show it."""

    text: str
    measured: Optional[float]
    limit: float
    unit: str

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self.measured <= self.limit else "not met"


def race_goals(race: Race) -> List[Goal]:
    """Those of one race."""
    medians = race.medians()
    goals = [*_time_goals(medians), *_far_goal(medians), *_weight_goals(race, medians)]
    if race.size == "small" and c.OSTREE in medians:
        limit = medians[c.OSTREE].wall_s
        for name in (c.IN_PLACE, c.EMPTY):
            goals.append(Goal(f"{name} ≤ {c.OSTREE}", medians[name].wall_s, limit, "s"))
    return goals


def growth_goals(races: Sequence[Race]) -> List[Goal]:
    """Those of a growth from 100,000 to 500,000 files."""
    by_files = {race.size: race.medians() for race in races}
    few, many = by_files.get(str(_GROWN)), by_files.get(str(_FULLY_GROWN))
    if few is None or many is None:
        return []
    goals = [
        Goal(f"{name}: time of 500,000 files ≤ {_MOST_GROWTH} x that of 100,000",
             many[name].wall_s / few[name].wall_s, _MOST_GROWTH, "x")
        for name in many
        if name in few and name.startswith("ota,")
    ]  # fmt: skip
    limit = _MEMORY_FULLY_GROWN_MIB
    return [*goals, Goal("most memory at 500,000 files", _most_memory(many), limit, "MiB")]


def goal_table(goals: Sequence[Goal]) -> List[str]:
    """Each goal with limit, measured value and verdict, as a Markdown table."""
    rows = [["goal", "limit", "measured", ""]]
    for goal in goals:
        rows.append([goal.text, _figure(goal.limit, goal.unit),
                     "" if goal.measured is None else _figure(goal.measured, goal.unit),
                     goal.verdict])  # fmt: skip
    return markdown(rows)


def _time_goals(medians: Dict[str, Cost]) -> Iterator[Goal]:
    sha256, copy = medians[c.SHA256].wall_s, medians[c.COPY].wall_s
    download = medians[c.DOWNLOAD].wall_s
    limits: Tuple[Tuple[str, float, str], ...] = (
        (c.IN_PLACE, 1.3 * sha256 + download, "1.3 x sha256 + download"),
        (c.EMPTY, 1.15 * copy + download, "1.15 x cp -a + download"),
        (c.UNCHANGED, 1.25 * sha256, "1.25 x sha256"),
        (c.TRUSTING, 0.15 * sha256, "0.15 x sha256"),
    )
    for name, limit, text in limits:
        measured = medians[name].wall_s if name in medians else None
        yield Goal(f"{name} ≤ {text}", measured, limit, "s")


def _far_goal(medians: Dict[str, Cost]) -> Iterator[Goal]:
    near, far = medians[c.EMPTY].download_s, medians[c.EMPTY_FAR]
    if near is None:
        return
    limit = 1.2 * near + far.requests * ROUND_TRIP_S / _CONNECTIONS
    text = "downloads 40 ms away ≤ 1.2 x those nearby + requests x 40 ms / 32"
    yield Goal(text, far.download_s, limit, "s")


def _weight_goals(race: Race, medians: Dict[str, Cost]) -> Iterator[Goal]:
    yield Goal("most memory of all runs of ota", _most_memory(medians), _MEMORY_MIB, "MiB")
    written = medians[c.IN_PLACE].written_bytes / MIB
    limit = 1.1 * race.changed_bytes / MIB
    yield Goal(f"{c.IN_PLACE}: written ≤ 1.1 x changed content", written, limit, "MiB")


def _most_memory(medians: Dict[str, Cost]) -> float:
    return max(
        cost.peak_pss_bytes for name, cost in medians.items() if name.startswith("ota,")
    ) / MIB  # fmt: skip


def _figure(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if unit == "MiB" else f"{value:.1f} {unit}"
