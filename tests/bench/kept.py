"""What the last runs have shown, again: the README's section, without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import List

from tests.bench import growth
from tests.bench.race import report
from tests.bench.report import read_json
from tests.bench.trees import SIZES

#: Where the README shows the plot from.
PLOT = Path("tests/bench/growth.svg")


def main(results: Path) -> None:
    """Prints Markdown, and puts the plot of the growth where the README shows it from."""
    lines: List[str] = []
    for size in SIZES:
        for race in read_json(results / f"{size}.json"):
            lines += [f"### A {size} Debian and its point release", "", *report(race), ""]
    races = read_json(results / "growth.json")
    if races:
        PLOT.write_text(growth.plot(races))
        lines += ["### Growth", "", f"![time and memory]({PLOT})", "", *growth.report(races), ""]
    print("\n".join(lines) or f"nothing is kept in {results}")
