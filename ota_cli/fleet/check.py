"""Whether an image would be an update for any of many ECUs; nothing is changed on any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Optional, Tuple

from ..core.protocol import Complaint, Object
from ..core.requests import AskCheck
from ..core.secondaries import on_the_way
from ..errors import OtaError
from ..events import Emit
from ..model import Device, Secondary
from ..update import Preview
from .crew import side_by_side
from .link import Links, of_ecu
from .report import EcuChecked, parse_checked


@dataclass(frozen=True)
class FleetChecked:
    """What an update would do here and below. `own` None: this ECU is left out. `proxy`: see
    `FleetSwitched`."""

    own: Optional[Preview]
    below: Tuple[EcuChecked, ...]
    proxy: Optional[Object] = None

    def everybody_below(self) -> Iterator[EcuChecked]:
        """All ECUs below, those above others first."""
        for each in self.below:
            yield from each.everybody()

    @property
    def is_any_available(self) -> bool:
        own = self.own is not None and self.own.is_available
        return own or any(each.available for each in self.everybody_below())


def check_all(
    device: Device,
    order: AskCheck,
    own: Callable[[], Preview],
    emit: Emit,
) -> FleetChecked:
    """Checks this ECU by `own`, then those below; where `order` names some, only them. Raises what
    `own` raises."""
    found = own() if order.ecus is None or device.ecu.ecu_id in order.ecus else None
    asked = on_the_way(device.ecu, order.ecus)
    request = replace(order, above=(*order.above, device.ecu.ecu_id))
    with Links(device) as links:
        jobs = [Question(links, each, request, emit) for each in asked]
        return FleetChecked(found, tuple(side_by_side([job.put for job in jobs], links.abandon)))


@dataclass(frozen=True)
class Question:
    """One secondary, to be asked in a thread of its own."""

    links: Links
    secondary: Secondary
    request: AskCheck
    emit: Emit

    def put(self) -> EcuChecked:
        ecu_id, heard = self.secondary.ecu_id, of_ecu(self.secondary, self.emit)
        try:
            return self.links.to(self.secondary).result(
                self.request, heard, math.inf, lambda found: parse_checked(found, ecu_id)
            )
        except OtaError as error:
            if error.slug == "request" and self.request.ecus is not None:
                of_all = replace(self.request, ecus=None)
                return replace(self, request=of_all).put()  # an older `ota` knows no names
            return EcuChecked(ecu_id, trouble=Complaint.about(error))
