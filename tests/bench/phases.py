"""Where the time of an update goes, by what `ota --output jsonl` says while it works."""

from __future__ import annotations

import json
from typing import Dict, List, Optional, Tuple

from tests.bench.measure import Run

DOWNLOAD = "download"
_BEFORE = "start-up"


def phase_seconds(run: Run) -> Dict[str, float]:
    """Seconds of each phase, in order, from its start to the next one's; the last to the end.

    Copying goes on beside the downloads: their phase lasts until both are done, and the work
    that follows in the slot is in it, too. A phase that comes again is added up.
    """
    starts = [(_BEFORE, run.start), *_starts(run)]
    ends = [when for _, when in starts[1:]] + [run.end]
    seconds: Dict[str, float] = {}
    for (name, start), end in zip(starts, ends):
        seconds[name] = seconds.get(name, 0.0) + end - start
    return seconds


def download_seconds(run: Run, last_answer: float) -> Optional[float]:
    """From the start of the downloads until the server's last answer; None without any."""
    starts = [when for name, when in _starts(run) if name == DOWNLOAD]
    return last_answer - starts[0] if starts else None


def _starts(run: Run) -> List[Tuple[str, float]]:
    events = ((json.loads(line.text), line.when) for line in run.lines)
    return [(event["phase"], when) for event, when in events if event.get("event") == "phase"]
