"""`ota` beside what it is measured against, in turns, from cold caches, in one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List

from tests.bench.contenders import contenders
from tests.bench.measure import Cost
from tests.bench.report import Race, table, write_json
from tests.bench.stage import stage
from tests.bench.trees import make_images

YARDSTICK = "sha256 of the slot, 2 processes"
RESULTS = Path("bench-results")


def main(size: str, rounds: int) -> None:
    """Makes what is missing, races `rounds` times, and prints and keeps the outcome."""
    cache = Path(os.environ.get("OTA_TEST_CACHE") or ".cache").resolve()
    cache.mkdir(exist_ok=True)
    images = make_images(size, cache)
    costs: Dict[str, List[Cost]] = {}
    with stage(images, size, cache / f"bench-{size}-stage") as place:
        for number in range(rounds):
            for contender in contenders():
                contender.prepare(place)
                cost = contender.run(place)
                costs.setdefault(contender.name, []).append(cost)
                print(f"{number + 1}/{rounds}  {cost.wall_s:7.1f} s  {contender.name}", flush=True)
    lines = (images.served / "new" / "regulars.txt").read_bytes().count(b"\n")
    race = Race(size, lines, costs)
    write_json(race, RESULTS / f"{size}.json")
    text = "\n".join(table(race, YARDSTICK))
    (RESULTS / f"{size}.md").write_text(f"{text}\n")
    print(f"\n{race.files} files\n\n{text}")
