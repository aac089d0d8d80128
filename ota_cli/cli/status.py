"""`ota status`: what runs, what boots next, and how the last update ended; for all ECUs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, List, Optional, Tuple

import click

from .. import __version__
from ..core.text import size
from ..errors import TrialFailed
from ..events import Warned
from ..host.store import now
from ..model import SlotName
from ..probe import probe
from ..render.stream import has_lines
from ..status import Status, read_status
from .options import Call, Result, command
from .show import (
    Document,
    Row,
    outcome,
    table,
    terminal_width,
    transaction_document,
    verdict_document,
    when,
)

if TYPE_CHECKING:
    from ..fleet.report import Ecu

_Branches = Tuple[str, str, str, str]

#: States that a slot stays in, so that it is of interest since when.
_LASTING = ("staged", "good", "adopted")

#: Before the first line of an ECU and its others; of the last one and its others.
_DRAWN: _Branches = ("├─ ", "│  ", "└─ ", "   ")
_INDENTED: _Branches = ("  ", "  ", "  ", "  ")


@command("status")
@click.option("--no-ecus", is_flag=True, help="Only this ECU, none below it.")
@click.option("--exit-code", is_flag=True, help="Exit 18 when the last update fell back.")
def status(call: Call, no_ecus: bool, exit_code: bool) -> Result:
    """Show the running slot and version, what boots next, and how the last update ended.

    The ECUs below this one are asked as well, for at most half a minute; one that does not
    answer is shown with the reason.
    """
    device = probe(call.root)
    found = read_status(device)
    ecus: Tuple[Ecu, ...] = ()
    if device.ecu.secondaries and not no_ecus:
        from ..fleet.tree import BUDGET_S, read_tree

        ecus = read_tree(device, BUDGET_S)
    for warning in (*device.warnings, *found.warnings):
        call.emit(Warned(warning))
    return Result(
        document=document(found, ecus),
        lines=_lines(found, ecus, terminal_width()),
        failure=_failure(found) if exit_code else None,
    )


def _lines(found: Status, ecus: Tuple[Ecu, ...], width: Optional[int]) -> Tuple[str, ...]:
    branches = _DRAWN if _can_draw() else _INDENTED
    return (*table(_rows(found), width), *_tree(ecus, branches, width))


def _failure(found: Status) -> Optional[TrialFailed]:
    if found.verdict.code != "fell_back":
        return None
    return TrialFailed(found.verdict.text, hint=found.verdict.hint, slug="fell-back")


def document(found: Status, ecus: Tuple[Ecu, ...]) -> Document:
    """The `result` of a status document; `fleet.report` reads it."""
    return {
        "ecu_id": found.ecu_id,
        "running": found.running,
        "next": found.next,
        "slots": {
            name: {
                "version": s.version,
                "state": s.state,
                "device": s.device,
                "since": s.since,
                "size_bytes": s.size_bytes,
                "used_bytes": s.used_bytes,
            }
            for name, s in found.slots.items()
        },
        "verdict": verdict_document(found.verdict),
        "last_update": transaction_document(found.last_update),
        "boot_problem": found.boot_problem,
        "ecus": [_below(each) for each in ecus],
        "warnings": list(found.warnings),
        "ota": __version__,
        "time": now(),
    }


def _below(ecu: Ecu) -> Document:
    """An ECU below, in the form of this document. `asked` is false where no address is known."""
    said = document(ecu.status, ecu.below) if ecu.status else {}
    trouble = ecu.trouble
    return {
        **said,
        "ota": ecu.ota_version,
        "time": ecu.time,
        "ecu_id": ecu.ecu_id,
        "ip_addr": ecu.ip_addr,
        "asked": bool(ecu.ip_addr),
        "reachable": ecu.trouble is None,
        "unreachable_since": ecu.unreachable_since,
        "error": trouble._asdict() if trouble else None,
        "ecus": [_below(each) for each in ecu.below],
    }


def _rows(found: Status) -> List[Row]:
    rows = [("ECU", found.ecu_id)]
    for name in sorted(found.slots, key=lambda each: each != found.running):
        rows += _slot_rows(found, name)
    rows.append(("boots next", _boots_next(found)))
    rows += _last_rows(found)
    rows.append(("verdict", found.verdict.text))
    hint = found.verdict.hint or _at_rest(found)
    rows += [("next step", hint)] if hint else []
    rows += [("boot loader", found.boot_problem)] if found.boot_problem else []
    return rows


def _at_rest(found: Status) -> str:
    """What to do where nothing asks for anything."""
    if found.verdict.code not in ("confirmed", "never_updated"):
        return ""
    if any(slot.state == "staged" for slot in found.slots.values()):
        return "`ota activate` tries what is staged"
    return "`ota check --version URL` tells whether there is an update"


def _slot_rows(found: Status, name: SlotName) -> List[Row]:
    slot = found.slots[name]
    since = f" since {when(slot.since)}" if slot.since and slot.state in _LASTING else ""
    what = f"{slot.version}, {slot.state}" if slot.version else slot.state
    sizes = [f"{size(slot.size_bytes)}"] if slot.size_bytes is not None else []
    sizes += [f"{size(slot.used_bytes)} used"] if slot.used_bytes is not None else []
    label = "running" if name == found.running else "standby" if found.running else ""
    return [
        (label, f"slot {name}: {what}{since}"),
        ("", ", ".join([slot.device, *sizes])),
    ]


def _boots_next(found: Status) -> str:
    if found.next is None:
        return "nothing that is known"
    slot = found.slots.get(found.next)
    trial = ", on trial" if slot is not None and slot.state == "armed" else ""
    version = f": {slot.version}" if slot is not None and slot.version else ""
    return f"slot {found.next}{version}{trial}"


def _last_rows(found: Status) -> List[Row]:
    last = found.last_update
    if last is None:
        return []
    reason = f": {last.reason}" if last.reason and last.reason not in found.verdict.text else ""
    time = when(last.ended or last.started)
    kind = last.kind.partition("-")[0]
    return [(f"last {kind}", f"to {last.version or 'the system'}, {outcome(last)} {time}{reason}")]


def _rows_below(ecu: Ecu) -> List[Row]:
    place = f" at {ecu.ip_addr}" if ecu.ip_addr else ""
    if ecu.status is not None:
        warnings = [("warning", warning) for warning in ecu.status.warnings]
        return [("ECU", f"{ecu.ecu_id}{place}"), *_rows(ecu.status)[1:], *warnings]
    assert ecu.trouble is not None
    since = f"since {when(ecu.unreachable_since)}: " if ecu.unreachable_since else ""
    return [
        ("ECU", f"{ecu.ecu_id}{place}"),
        ("no answer" if place else "unknown", f"{since}{ecu.trouble.message}"),
        ("next step", ecu.trouble.hint),
    ]


def _tree(ecus: Tuple[Ecu, ...], branches: _Branches, width: Optional[int]) -> Tuple[str, ...]:
    lines: List[str] = []
    for ecu in ecus:
        first, others = branches[2:] if ecu is ecus[-1] else branches[:2]
        left = width and width - len(others)
        head, *rest = (*table(_rows_below(ecu), left), *_tree(ecu.below, branches, left))
        lines += [f"{first}{head}", *(f"{others}{line}" for line in rest)]
    return tuple(lines)


def _can_draw() -> bool:
    out = sys.stdout
    return out is not None and out.isatty() and has_lines(out.encoding)
