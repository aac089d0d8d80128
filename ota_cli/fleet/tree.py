"""The status of all ECUs below this one: each secondary tells its own and that of its own.

All are asked at once, within a budget of seconds that shrinks on the way down, so that the one
above always hears of an ECU that does not answer. None is dropped.
"""

from __future__ import annotations

import time
from typing import Iterable, Tuple

from ..core.protocol import Complaint, Object, text
from ..core.requests import AskStatus
from ..errors import OtaError
from ..events import silent
from ..model import Device, Secondary
from . import failures
from .crew import side_by_side
from .link import Links
from .report import Ecu, ids_of, parse_ecus, parse_status
from .seen import note_reachable

#: For the whole tree; an ECU that answers does so in a second or two.
BUDGET_S = 20
#: What each level keeps for itself, to tell the one above in time.
_LEVEL_S = 3
_LEAST_S = 2


def read_tree(device: Device, budget_s: int, above: Tuple[str, ...] = ()) -> Tuple[Ecu, ...]:
    """The ECUs below `device`, within about `budget_s` seconds, in the order of `ecu_info.yml`.

    Those that no answer names, but `available_ecu_ids` does, come last. `above`: the ECUs that
    this question went through.
    """
    secondaries = device.ecu.secondaries
    until = time.monotonic() + budget_s
    request = AskStatus((*above, device.ecu.ecu_id), max(0, budget_s - _LEVEL_S))
    with Links(device) as links:
        jobs = [_Question(links, each, request, until) for each in secondaries]
        found = side_by_side([job.put for job in jobs], links.abandon)
    known = note_reachable(device, found)
    return (*known, *_unknown(device, known))


class _Question:
    """The status of one secondary, to be asked in a thread of its own."""

    def __init__(
        self, links: Links, secondary: Secondary, request: AskStatus, until: float
    ) -> None:
        self._links = links
        self._secondary = secondary
        self._request = request
        self._until = until

    def put(self) -> Ecu:
        try:
            return self._ask()
        except OtaError as error:
            trouble = Complaint.about(error)
            return Ecu(self._secondary.ecu_id, self._secondary.ip_addr, None, (), trouble)

    def _ask(self) -> Ecu:
        secondary = self._secondary
        if self._request.budget_s < _LEAST_S:
            raise failures.no_time(secondary)
        link = self._links.to(secondary)
        return link.result(self._request, silent, self._until, self._read)

    def _read(self, found: Object) -> Ecu:
        return Ecu(
            self._secondary.ecu_id, self._secondary.ip_addr, parse_status(found),
            parse_ecus(found), ota_version=text(found, "ota"), time=text(found, "time"),
        )  # fmt: skip


def _unknown(device: Device, known: Iterable[Ecu]) -> Tuple[Ecu, ...]:
    names = {device.ecu.ecu_id, *ids_of(tuple(known))}
    trouble = Complaint(
        "not-found",
        "no ECU that answers lists it",
        "it may be below one that does not answer; otherwise correct `available_ecu_ids`",
    )
    missing = [each for each in device.ecu.available_ecu_ids if each not in names]
    return tuple(Ecu(each, "", None, (), trouble) for each in missing)
