"""Whether an image would be an update for any of many ECUs; nothing is changed on any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Optional, Tuple

from ..core.protocol import BadLine, Complaint, Object
from ..core.requests import AskCheck, compose_request
from ..errors import OtaError
from ..events import Emit
from ..model import Device, Secondary
from ..update import Preview
from . import failures
from .crew import side_by_side
from .link import Links, of_ecu
from .report import EcuChecked, parse_checked


@dataclass(frozen=True)
class FleetChecked:
    """What an update would do here (`own`) and below. `proxy`: see `FleetSwitched`."""

    own: Preview
    below: Tuple[EcuChecked, ...]
    proxy: Optional[Object] = None

    def everybody_below(self) -> Iterator[EcuChecked]:
        """All ECUs below, those above others first."""
        for each in self.below:
            yield from each.everybody()

    @property
    def is_any_available(self) -> bool:
        return self.own.is_available or any(each.available for each in self.everybody_below())


def check_all(
    device: Device, order: AskCheck, own: Callable[[], Preview], emit: Emit
) -> FleetChecked:
    """Checks this ECU by `own`, then those below. Raises what `own` raises."""
    found = own()
    request = replace(order, above=(*order.above, device.ecu.ecu_id))
    with Links(device) as links:
        jobs = [_Question(links, each, request, emit) for each in device.ecu.secondaries]
        return FleetChecked(found, tuple(side_by_side([job.put for job in jobs], links.abandon)))


@dataclass(frozen=True)
class _Question:
    """One secondary, to be asked in a thread of its own."""

    links: Links
    secondary: Secondary
    request: AskCheck
    emit: Emit

    def put(self) -> EcuChecked:
        try:
            return self._ask()
        except OtaError as error:
            trouble = Complaint(error.slug, error.message, error.hint)
            return EcuChecked(self.secondary.ecu_id, trouble=trouble)

    def _ask(self) -> EcuChecked:
        link = self.links.to(self.secondary)
        heard = of_ecu(self.secondary, self.emit)
        answer = link.ask(compose_request(self.request), heard, math.inf)
        if answer.error is not None:
            raise failures.told(self.secondary, answer)
        try:
            return parse_checked(answer.result, self.secondary.ecu_id)
        except BadLine as error:
            raise failures.nonsense(self.secondary, str(error)) from None
