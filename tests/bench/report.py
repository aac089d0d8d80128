"""What came of a race: medians, ratios, JSON and Markdown tables."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from tests.bench.measure import Cost

MIB = 1024 * 1024
_HEAD = ["", "wall s", "x sha256", "CPU s", "peak MiB", "wire MiB", "written MiB"]


@dataclass(frozen=True)
class Race:
    """All costs by the contender's name, in the order of the runs.

    `files`: of the new release. `changed_bytes`: its content that the old one lacks.
    """

    size: str
    files: int
    changed_bytes: int
    costs: Mapping[str, Sequence[Cost]]

    def medians(self) -> Dict[str, Cost]:
        """One cost for each contender; each figure is the median of its runs."""
        return {name: _median(costs) for name, costs in self.costs.items()}


def table(race: Race, yardstick: str) -> List[str]:
    """The medians as a Markdown table, wall times also as multiples of the yardstick's."""
    medians = race.medians()
    base = medians[yardstick].wall_s
    return markdown([_HEAD, *([name, *_cells(cost, base)] for name, cost in medians.items())])


def phase_table(race: Race) -> List[str]:
    """Seconds of each phase, of those contenders that tell them, as a Markdown table."""
    told = {name: cost for name, cost in race.medians().items() if cost.phases}
    names = list(dict.fromkeys(phase for cost in told.values() for phase in cost.phases))
    rows = [["seconds", *names, "until the last answer", "requests"]]
    for name, cost in told.items():
        seconds = [_seconds(cost.phases.get(phase)) for phase in names]
        rows.append([name, *seconds, _seconds(cost.download_s), str(cost.requests)])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> List[str]:
    """A table of Markdown: the first row is its head, the first column text, the others numbers."""
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]


def write_json(races: Sequence[Race], path: Path) -> None:
    """Every run, for later comparison."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(race) for race in races], indent=1) + "\n")


def read_json(path: Path) -> List[Race]:
    """The races kept in a file; none where there is no file."""
    if not path.exists():
        return []
    return [_race(document) for document in json.loads(path.read_text())]


def _race(document: Dict[str, Any]) -> Race:
    costs = {name: [Cost(**run) for run in runs] for name, runs in document["costs"].items()}
    return Race(document["size"], document["files"], document["changed_bytes"], costs)


def _cells(cost: Cost, base_s: float) -> List[str]:
    return [
        f"{cost.wall_s:.1f}", f"{cost.wall_s / base_s:.2f}", f"{cost.cpu_s:.1f}",
        f"{cost.peak_pss_bytes / MIB:.0f}", f"{cost.wire_bytes / MIB:.1f}",
        f"{cost.written_bytes / MIB:.0f}",
    ]  # fmt: skip


def _seconds(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.1f}"


def _median(costs: Sequence[Cost]) -> Cost:
    def middle(figure: Callable[[Cost], float]) -> float:
        return statistics.median(map(figure, costs))

    downloads = [cost.download_s for cost in costs if cost.download_s is not None]
    names = list(dict.fromkeys(name for cost in costs for name in cost.phases))
    return Cost(
        wall_s=middle(lambda c: c.wall_s),
        cpu_s=middle(lambda c: c.cpu_s),
        peak_pss_bytes=int(middle(lambda c: c.peak_pss_bytes)),
        written_bytes=int(middle(lambda c: c.written_bytes)),
        load=middle(lambda c: c.load),
        wire_bytes=int(middle(lambda c: c.wire_bytes)),
        requests=int(middle(lambda c: c.requests)),
        phases={name: statistics.median(c.phases.get(name, 0.0) for c in costs) for name in names},
        download_s=statistics.median(downloads) if downloads else None,
    )
