"""What an ECU may ask of one below it: the whole list (DESIGN section 8). Pure.

A request is one JSON object. It names no paths and lowers no guard; keys that are not known make
it refused, for what is left out could be what matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Set, Tuple

from ..errors import UsageProblem
from .protocol import SCHEMA, BadLine, Object, number, parse_object, text, texts

_COMMON = {"schema", "verb", "above"}


@dataclass(frozen=True)
class AskStatus:
    """What runs, there and below. `budget_s`: it must answer within so many seconds.

    `above`: the ECUs this came through, the first one first.
    """

    above: Tuple[str, ...]
    budget_s: int

    verb = "status"

    def fields(self) -> Object:
        return {"budget_s": self.budget_s}


Request = AskStatus


def compose_request(request: Request) -> Object:
    """The object that is sent."""
    return {
        "schema": SCHEMA, "verb": request.verb, "above": list(request.above), **request.fields(),
    }  # fmt: skip


def parse_request(line: bytes) -> Request:
    """What the ECU above asks. Raises UsageProblem for all that is not on the list."""
    try:
        found = parse_object(line)
        verb = text(found, "verb")
        if number(found, "schema") != SCHEMA or verb not in _VERBS:
            raise UsageProblem(f"`{verb}` is not what an ECU may ask of this ota", slug="request")
        read, keys = _VERBS[verb]
        unknown = set(found) - _COMMON - keys
        if unknown:
            raise UsageProblem(f"`{verb}` with {sorted(unknown)[0]!r} is not known", slug="request")
        return read(found)
    except BadLine as error:
        raise UsageProblem(f"the request can not be read: {error}", slug="request") from None


def _status(found: Object) -> Request:
    return AskStatus(tuple(texts(found, "above")), number(found, "budget_s"))


_VERBS: Dict[str, Tuple[Callable[[Object], Request], Set[str]]] = {
    AskStatus.verb: (_status, {"budget_s"}),
}
