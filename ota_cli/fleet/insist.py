"""Telling the ECUs below something that they must hear: asked again until each has answered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Sequence, Tuple, Union

from ..core.protocol import Object
from ..core.requests import AskCommit, AskDisarm
from ..errors import OtaError, Unreachable
from ..events import silent
from ..model import Secondary
from .crew import side_by_side
from .link import Links

#: How long an ECU is asked again: its old session, cut off, takes this long to end.
_PERSIST_S = 60.0
#: The ECU above must hear of one that does not answer before it loses its own patience.
_LEVEL_S = 15.0
_PAUSE_S = 2.0

#: What must be heard.
Demand = Union[AskDisarm, AskCommit]


class Done(NamedTuple):
    """What an ECU that has done it says of that."""

    result: Object


@dataclass(frozen=True)
class Uncertain:
    """It is not known whether this ECU has done it: `why` it did not say so."""

    ecu_id: str
    why: OtaError


def insist(
    links: Links, demand: Demand, secondaries: Sequence[Secondary]
) -> Tuple[List[Done], List[Uncertain]]:
    """What those answered that have done it; and those that did not within about a minute."""
    patience_s = max(_LEVEL_S, _PERSIST_S - _LEVEL_S * (len(demand.above) - 1))
    jobs: List[Callable[[], Union[Done, Uncertain]]] = [
        _Insisting(links, each, demand, time.monotonic() + patience_s).ask for each in secondaries
    ]
    found = side_by_side(jobs, links.abandon)
    done = [each for each in found if isinstance(each, Done)]
    return done, [each for each in found if isinstance(each, Uncertain)]


@dataclass(frozen=True)
class _Insisting:
    """One secondary, to be asked in a thread of its own until `until`, a `time.monotonic()`."""

    links: Links
    secondary: Secondary
    demand: Demand
    until: float

    def ask(self) -> Union[Done, Uncertain]:
        while True:
            try:
                link = self.links.to(self.secondary)
                return link.result(self.demand, silent, self.until, Done)
            except OtaError as error:
                if not _may_pass(error) or time.monotonic() + _PAUSE_S > self.until:
                    return Uncertain(self.secondary.ecu_id, error)
            time.sleep(_PAUSE_S)


def _may_pass(error: OtaError) -> bool:
    """Whether the same question may be answered a little later."""
    return error.exit_code == Unreachable.exit_code or error.slug == "locked"
