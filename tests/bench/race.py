"""`ota` beside what it is measured against, in turns, from cold caches, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Sequence

from tests.bench.contenders import SHA256, Contender, contenders
from tests.bench.goals import goal_table, race_goals
from tests.bench.measure import Cost
from tests.bench.publish import build_image, changed_bytes, regulars
from tests.bench.report import Race, phase_table, table, write_json
from tests.bench.stage import Slots, Stage, stage, unpack_old
from tests.bench.trees import SIZES, Images, make_keys, make_trees


def main(size: str, rounds: int, cache: Path, results: Path) -> None:
    """Makes what is missing, races `rounds` times, and prints and keeps the outcome."""
    images = Images(make_trees(size, cache), cache / f"bench-{size}-served", make_keys(cache))
    build_image(images, "old", images.trees.old)
    build_image(images, "new", images.trees.new)
    old, new = regulars(images, "old"), regulars(images, "new")
    slots = Slots(SIZES[size].slot)
    with stage(images, slots, cache / f"bench-{size}-stage", unpack_old) as place:
        costs = run_in_turns(place, contenders, rounds)
    race = Race(size, len(new), changed_bytes(old, new), costs)
    write_json([race], results / f"{size}.json")
    text = "\n".join(report(race))
    (results / f"{size}.md").write_text(f"{text}\n")
    print(f"\n{text}")


def run_in_turns(
    place: Stage, choose: Callable[[Stage], Sequence[Contender]], rounds: int
) -> Dict[str, List[Cost]]:
    """Every contender in every round, so that noise hits all alike; their costs by name."""
    costs: Dict[str, List[Cost]] = {}
    for number in range(rounds):
        for contender in choose(place):
            contender.prepare(place)
            cost = contender.run(place)
            costs.setdefault(contender.name, []).append(cost)
            print(
                f"{number + 1}/{rounds}  load {cost.load:5.2f}  {cost.wall_s:7.1f} s  "
                f"{contender.name}", flush=True,
            )  # fmt: skip
    return costs


def report(race: Race) -> List[str]:
    """What a race has shown, in Markdown."""
    return [
        f"{race.files} files; medians.", "", *table(race, SHA256), "",
        "Where the time goes; copying goes on beside the downloads:", "", *phase_table(race), "",
        *goal_table(race_goals(race)),
    ]  # fmt: skip
