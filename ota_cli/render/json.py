"""One JSON document on stdout; with `jsonl` the events before it, an object a line."""

from __future__ import annotations

import json
import threading
from typing import Dict, Mapping, Tuple, Union

from ..errors import OtaError
from ..events import (
    Ahead,
    Alive,
    Changed,
    Done,
    Event,
    Hello,
    Note,
    OfEcu,
    PhaseStarted,
    Progress,
    Ready,
)
from .course import Course
from .priority import priority
from .stream import NothingToUndo, Stream
from .words import event_line, is_warning, of_ecu


def event_object(event: Event, percent: int = 0) -> Dict[str, object]:
    """An event as a JSON object. `percent`: how far the whole command is after it."""
    if isinstance(event, OfEcu):
        return {**event_object(event.event, percent), "ecu_id": event.ecu_id}
    if isinstance(event, PhaseStarted):
        return {"event": "phase", "phase": event.phase.value, "text": event.text}
    if isinstance(event, Progress):
        return {
            "event": "progress", "phase": event.phase.value,
            "done_bytes": event.done_bytes, "total_bytes": event.total_bytes,
            "percent": percent,
        }  # fmt: skip
    if isinstance(event, Ahead):
        return {"event": "ahead", "work": {phase.value: count for phase, count in event.work}}
    if isinstance(event, Done):
        return {"event": "done", "percent": 100}
    if isinstance(event, Note):
        return {"event": "note", "text": event.text}
    if isinstance(event, Changed):
        return {
            "event": "changed", "state": event.state, "slot": event.slot,
            "version": event.version, "txn": event.txn, "text": event.text,
            "is_bad": event.is_bad,
        }  # fmt: skip
    if isinstance(event, (Hello, Alive, Ready)):
        return _talk_object(event)
    return {"event": "warning", "text": event.text}


def _talk_object(event: Union[Hello, Alive, Ready]) -> Dict[str, object]:
    """What one ECU says to the one above it."""
    if isinstance(event, Hello):
        return {
            "event": "hello", "schema": event.schema, "version": event.version,
            "ecu_id": event.ecu_id,
        }  # fmt: skip
    if isinstance(event, Alive):
        return {"event": "alive"}
    return {"event": "ready", "ecus": list(event.ecus), "trying": list(event.trying)}


class JsonOutput(NothingToUndo):
    """Without events, warnings still go to stderr as lines."""

    def __init__(self, out: Stream, err: Stream, *, with_events: bool, verbosity: int) -> None:
        self._out = out
        self._err = err
        self._with_events = with_events
        self._verbosity = verbosity
        self._courses: Dict[str, Course] = {}
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        with self._lock:
            if self._with_events:
                self._line(event_object(event, self._percent(event)))
            elif is_warning(event) or (self._verbosity > 0 and event_line(event, False)):
                self._err.say(priority(event), event_line(event, False))

    def _percent(self, event: Event) -> int:
        ecu_id, inner = of_ecu(event)
        course = self._courses.get(ecu_id, Course()).after(inner)
        self._courses[ecu_id] = course
        return course.percent

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        self._line(document)

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        self._line(document)

    def _line(self, document: Mapping[str, object]) -> None:
        print(json.dumps(document), file=self._out, flush=True)
