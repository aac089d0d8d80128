"""What came of a race: medians, ratios, JSON and a Markdown table."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from tests.bench.measure import Cost

_MIB = 1024 * 1024
_HEAD = ["", "wall s", "x sha256", "CPU s", "peak MiB", "wire MiB", "written MiB"]


@dataclass(frozen=True)
class Race:
    """All costs by the contender's name, in the order of the runs."""

    size: str
    files: int
    costs: Mapping[str, Sequence[Cost]]

    def medians(self) -> Dict[str, Cost]:
        """One cost for each contender; each figure is the median of its runs."""
        return {name: _median(costs) for name, costs in self.costs.items()}


def table(race: Race, yardstick: str) -> List[str]:
    """The medians as a Markdown table, wall times also as multiples of the yardstick's."""
    medians = race.medians()
    base = medians[yardstick].wall_s
    rows = [_HEAD, ["---", *["---:"] * (len(_HEAD) - 1)]]
    rows += [[name, *_cells(cost, base)] for name, cost in medians.items()]
    return [f"| {' | '.join(row)} |" for row in rows]


def write_json(race: Race, path: Path) -> None:
    """Every run, for later comparison."""
    runs = {name: [asdict(cost) for cost in costs] for name, costs in race.costs.items()}
    document = {"size": race.size, "files": race.files, "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _cells(cost: Cost, base_s: float) -> List[str]:
    wire = "" if cost.wire_bytes is None else f"{cost.wire_bytes / _MIB:.1f}"
    return [
        f"{cost.wall_s:.1f}", f"{cost.wall_s / base_s:.2f}", f"{cost.cpu_s:.1f}",
        f"{cost.peak_pss_bytes / _MIB:.0f}", wire, f"{cost.written_bytes / _MIB:.0f}",
    ]  # fmt: skip


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(c.wall_s for c in costs),
        statistics.median(c.cpu_s for c in costs),
        int(statistics.median(c.peak_pss_bytes for c in costs)),
        int(statistics.median(c.written_bytes for c in costs)),
        int(statistics.median(c.wire_bytes or 0 for c in costs)),
    )
