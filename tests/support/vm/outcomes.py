"""What came of each power cut: kept in a file, so that a long run can be resumed, and printed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional

import pytest

from tests.support.bench import BASE

#: Properties of a test report that belong to a cut.
PROPERTY = "power cut"
#: What a test has to say to whoever runs it; printed when it has ended.
SAID = "said"


class CutOutcome(NamedTuple):
    """A machine whose power was cut `delay_s` behind the sign of `point`.

    `came_up`: what ran then and what `ota status` said of it. `completed`: the same command again
    ended in the new system; None where that was not tried.
    """

    seed: str
    number: int
    point: str
    delay_s: float
    came_up: str = "-"
    bootable: bool = False
    truthful: bool = False
    completed: Optional[bool] = None

    def __str__(self) -> str:
        ended = {None: "", True: ", completed on re-run", False: ", NOT completed on re-run"}
        return (
            f"seed {self.seed} cut {self.number}: {self.point} + {self.delay_s:.2f} s -> "
            f"{self.came_up}{ended[self.completed]}"
        )


class OutcomeFile:
    """The outcomes of one seed and one state of the program, a JSON line each."""

    def __init__(self, directory: Path, seed: str) -> None:
        self._path = directory / f"power-cuts-{seed}-{_fingerprint()}.jsonl"

    def find(self, number: int) -> Optional[CutOutcome]:
        """What came of cut `number` in an earlier run."""
        return {outcome.number: outcome for outcome in self._all()}.get(number)

    def add(self, outcome: CutOutcome) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(outcome._asdict()) + "\n")

    def _all(self) -> List[CutOutcome]:
        if not self._path.exists():
            return []
        lines = self._path.read_text("utf-8").splitlines()
        return [CutOutcome(**json.loads(line)) for line in lines]


def table(outcomes: Iterable[CutOutcome]) -> List[str]:
    """Points and outcomes, counted, and the sums that matter."""
    found = list(outcomes)
    rows = Counter((outcome.point, outcome.came_up) for outcome in found)
    lines = [
        f"{point:20} {came_up:28} {count:4}" for (point, came_up), count in sorted(rows.items())
    ]
    completions = [outcome.completed for outcome in found if outcome.completed is not None]
    sums = {
        "bootable": [outcome.bootable for outcome in found],
        "truthful": [outcome.truthful for outcome in found],
        "completed on re-run": completions,
    }
    said = (f"{sum(answers)}/{len(answers)} {what}" for what, answers in sums.items())
    return [*lines, ", ".join(said)]


class Announcer:
    """Prints what tests have found out as soon as they end, whichever process ran them."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        said = [str(value) for name, value in report.user_properties if name == SAID]
        outcome = outcome_of(report.user_properties)
        for text in [*said, *([str(outcome)] if outcome else [])]:
            self._reporter.ensure_newline()
            self._reporter.line(text)


def outcome_of(properties: Iterable[object]) -> Optional[CutOutcome]:
    """The outcome that a test report carries, if any."""
    found: Dict[str, str] = dict(properties)  # type: ignore[call-overload]
    return CutOutcome(**json.loads(found[PROPERTY])) if PROPERTY in found else None


def _fingerprint() -> str:
    """Changes with the program and with these tests."""
    seen = hashlib.sha256()
    for top in ("ota_cli", "tests/vm", "tests/support/vm"):
        for path in sorted((BASE / top).rglob("*.py")):
            seen.update(path.read_bytes())
    return seen.hexdigest()[:12]
