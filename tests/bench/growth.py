"""How `ota` grows with the number of files: the same race on larger and larger trees."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Sequence

from tests.bench import synthetic
from tests.bench.contenders import SHA256, growing
from tests.bench.goals import goal_table, growth_goals
from tests.bench.plot import Panel, svg
from tests.bench.race import run_in_turns
from tests.bench.report import MIB, Race, markdown, phase_table, table, write_json
from tests.bench.stage import Slots, Stage, stage
from tests.bench.trees import Images

DEFAULT_STEPS = tuple(range(100_000, 500_001, 100_000))
#: For each file: how large a slot is, and how much of it is filled.
_SLOT_BYTES_A_FILE, _FILLED_BYTES_A_FILE = 17_000, 14_000
_LEAST_SLOT_BYTES = 512 * MIB


def steps(text: str) -> Sequence[int]:
    """`1` for the usual numbers of files, or a list of others with commas between.

    Raises ValueError.
    """
    if text == "1":
        return DEFAULT_STEPS
    chosen = sorted(int(word) for word in text.split(","))
    if any(files <= 0 or files % synthetic.COLLECTION_FILES for files in chosen):
        raise ValueError(f"multiples of {synthetic.COLLECTION_FILES} are wanted")
    return chosen


def main(chosen: Sequence[int], rounds: int, cache: Path, results: Path) -> None:
    """Races on trees of each number of files, and prints, keeps and plots the outcome."""
    made = [synthetic.make_growth(files, cache) for files in chosen]
    _require_space(cache, 2 * max(chosen) * _FILLED_BYTES_A_FILE)
    races: List[Race] = []
    for files, images in zip(chosen, made):
        print(f"\n{files} files", flush=True)
        races.append(_race(files, images, rounds, cache))
        write_json(races, results / "growth.json")
    text = "\n".join(report(races))
    (results / "growth.md").write_text(f"{text}\n")
    (results / "growth.svg").write_text(plot(races))
    print(f"\n{text}\n\nplot: {results / 'growth.svg'}")


def _race(files: int, images: Images, rounds: int, cache: Path) -> Race:
    size = max(_LEAST_SLOT_BYTES, files * _SLOT_BYTES_A_FILE)
    slots = Slots(str(size), ("-N", str(files * 3 // 2)))

    def fill(made: Stage) -> None:
        with made.mounted_running("rw") as place:
            synthetic.copy_parts(images.trees.old, files, place)

    with stage(images, slots, cache / "bench-growth-stage", fill) as place:
        costs = run_in_turns(place, growing, rounds)
    return Race(str(files), files, synthetic.changed_bytes(files), costs)


def _require_space(cache: Path, needed: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise SystemExit(f"{cache}: {needed / MIB:.0f} MiB are needed, {free / MIB:.0f} are free")


def report(races: Sequence[Race]) -> List[str]:
    """What a growth has shown, in Markdown."""
    lines = ["Growth with the number of files; medians.", "", *_ratios(races)]
    goals = growth_goals(races)
    if goals:
        lines += ["", *goal_table(goals)]
    for race in races:
        lines += ["", f"{race.files} files, {race.changed_bytes / MIB:.0f} MiB changed:", ""]
        lines += [*table(race, SHA256), "", *phase_table(race)]
    return lines


def plot(races: Sequence[Race]) -> str:
    """Time and memory over the number of files, as SVG."""
    medians = [(race.files, race.medians()) for race in races]
    time = {n: [(f, m[n].wall_s) for f, m in medians] for n in medians[0][1]}
    memory = {
        n: [(f, m[n].peak_pss_bytes / MIB) for f, m in medians]
        for n in medians[0][1]
        if n != SHA256
    }
    return svg([Panel("wall time", "s", time), Panel("peak memory (PSS)", "MiB", memory)], "files")


def _ratios(races: Sequence[Race]) -> List[str]:
    """Each contender's time and memory at every step, and how the last compares to the first."""
    names = list(races[0].medians())
    rows = [["", *(f"{race.files} files" for race in races), "last / first"]]
    for name in names:
        costs = [race.medians()[name] for race in races]
        rows.append([f"{name}, s", *(f"{cost.wall_s:.1f}" for cost in costs),
                     f"{costs[-1].wall_s / costs[0].wall_s:.2f}"])  # fmt: skip
    for name in names:
        peaks = [race.medians()[name].peak_pss_bytes for race in races]
        rows.append([f"{name}, MiB", *(f"{peak / MIB:.0f}" for peak in peaks),
                     f"{peaks[-1] / peaks[0]:.2f}"])  # fmt: skip
    more = f"{races[-1].files / races[0].files:.2f}"
    rows.append(["number of files", *("" for _ in races), more])
    return markdown(rows)
