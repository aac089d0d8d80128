"""Jobs for several ECUs at once, each in a thread of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, Sequence, TypeVar

from ..errors import SignalReceived
from ..host.interrupts import deferred

Outcome = TypeVar("Outcome")


def side_by_side(
    jobs: Sequence[Callable[[], Outcome]], abandon: Callable[[], None]
) -> List[Outcome]:
    """What the jobs return, in their order, once all have ended.

    A signal calls `abandon`, which must make them end soon, and goes on as it is.
    """
    if not jobs:
        return []
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        try:
            with deferred():
                futures = [pool.submit(job) for job in jobs]
            return [future.result() for future in futures]
        except SignalReceived:
            abandon()
            raise
