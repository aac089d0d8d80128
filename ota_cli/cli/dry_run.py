"""`ota update --dry-run`: what would change, here and on the ECUs below."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Iterator, Sequence, Tuple

from ..core.text import printable
from ..errors import UsageProblem
from ..model import Device
from .check import (
    ask_all,
    checked_document,
    lines_below,
    preview_document,
    preview_lines,
    unanswered,
)
from .options import Call, Result
from .request import Source
from .show_changes import changes_rows, counts_text, kernel_text

if TYPE_CHECKING:
    from ..fleet.check import FleetChecked
    from ..fleet.report import EcuChecked
    from ..update import Preview, Request


def dry_run_here(found: Preview) -> Result:
    """Of this ECU."""
    return Result(document=preview_document(found), lines=_lines(found))


def dry_run_all(
    call: Call, device: Device, source: Source, request: Request, ecus: Tuple[str, ...]
) -> Result:
    """Of this ECU and those below, or of `ecus` among them. One that gives no answer fails it, as
    it would the update. Raises UsageProblem for an ECU that nobody knows."""
    done = ask_all(call, device, source, request, ecus)
    own_id = device.ecu.ecu_id
    known = [own_id, *(each.ecu_id for each in done.everybody_below())]
    wanted = ecus or tuple(known)
    done = replace(done, below=tuple(_among(done.below, wanted, own_id)))
    failure = unanswered(done)
    unknown = [each for each in wanted if each not in known]
    if unknown and failure is None:
        raise UsageProblem(f"no ECU is called {unknown[0]}", hint="`ota status` shows them all")
    asked = [each for each in known if each in wanted]
    return Result(
        document={
            **checked_document(done), "available": _is_any_available(done, wanted),
            "ecu_ids": asked,
        },
        lines=tuple(_fleet_lines(done)),
        failure=failure,
    )  # fmt: skip


def _is_any_available(done: FleetChecked, wanted: Sequence[str]) -> bool:
    """Whether the update would do anything; an ECU that is only on the way to others is none."""
    below = any(each.available for each in done.everybody_below() if each.ecu_id in wanted)
    return below or (done.own is not None and done.own.is_available)


def _among(ecus: Sequence[EcuChecked], wanted: Sequence[str], above: str) -> Iterator[EcuChecked]:
    """Those of `ecus`, directly below `above`, that an update of the `wanted` ones would ask: they
    themselves, those on the way to them, and where a name is not among these, all that gave no
    answer: they may know it."""
    may_be_below = bool(set(wanted) - {above, *(each.ecu_id for each in ecus)})
    for each in ecus:
        below = tuple(_among(each.below, wanted, each.ecu_id))
        may_know = may_be_below and each.trouble is not None
        if each.ecu_id in wanted or below or may_know:
            yield replace(each, below=below)


def _fleet_lines(done: FleetChecked) -> Iterator[str]:
    for each in done.below:
        yield from lines_below(each)
    for each in done.everybody_below():
        if each.files is not None:
            yield f"{printable(each.ecu_id)}: files: {counts_text(each.files)}"
        if each.kernel is not None:
            yield f"{printable(each.ecu_id)}: kernel: {kernel_text(each.kernel)}"
    if done.own is not None:
        yield from _lines(done.own)


def _lines(found: Preview) -> Tuple[str, ...]:
    return preview_lines(found, changes_rows(found.changes) if found.changes else ())
