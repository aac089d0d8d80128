"""`ota status`: what runs, what boots next, and how the last update ended; for all ECUs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, List, Optional, Tuple

import click

from .. import __version__
from ..errors import TrialFailed
from ..events import Warned
from ..host.store import now
from ..probe import probe
from ..status import Status, read_status
from .options import Call, Result, command
from .show import Document, Row, table, transaction_document, verdict_document

if TYPE_CHECKING:
    from ..fleet.report import Ecu

_Branches = Tuple[str, str, str, str]

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
        lines=(*table(_rows(found)), *_tree(ecus, _DRAWN if _can_draw() else _INDENTED)),
        failure=_failure(found) if exit_code else None,
    )


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
            name: {"version": s.version, "state": s.state, "device": s.device, "since": s.since}
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
    for name, slot in found.slots.items():
        marks = [slot.state]
        marks += ["running"] if name == found.running else []
        marks += ["boots next"] if name == found.next else []
        rows.append((f"slot {name}", f"{slot.version or '-'}  ({', '.join(marks)})  {slot.device}"))
    last = found.last_update
    if last is not None:
        reason = f": {last.reason}" if last.reason else ""
        when = last.ended or last.started
        rows.append((f"last {last.kind}", f"{last.version or '-'} {last.phase} {when}{reason}"))
    rows.append(("verdict", found.verdict.text))
    if found.verdict.hint:
        rows.append(("hint", found.verdict.hint))
    if found.boot_problem:
        rows.append(("boot loader", found.boot_problem))
    return rows


def _rows_below(ecu: Ecu) -> List[Row]:
    place = f" at {ecu.ip_addr}" if ecu.ip_addr else ""
    if ecu.status is not None:
        warnings = [("warning", warning) for warning in ecu.status.warnings]
        return [("ECU", f"{ecu.ecu_id}{place}"), *_rows(ecu.status)[1:], *warnings]
    assert ecu.trouble is not None
    since = f"since {ecu.unreachable_since}: " if ecu.unreachable_since else ""
    return [
        ("ECU", f"{ecu.ecu_id}{place}"),
        ("no answer" if place else "unknown", f"{since}{ecu.trouble.message}"),
        ("hint", ecu.trouble.hint),
    ]


def _tree(ecus: Tuple[Ecu, ...], branches: _Branches) -> Tuple[str, ...]:
    lines: List[str] = []
    for ecu in ecus:
        first, others = branches[2:] if ecu is ecus[-1] else branches[:2]
        head, *rest = (*table(_rows_below(ecu)), *_tree(ecu.below, branches))
        lines += [f"{first}{head}", *(f"{others}{line}" for line in rest)]
    return tuple(lines)


def _can_draw() -> bool:
    out = sys.stdout
    return out is not None and out.isatty() and out.encoding.lower().replace("-", "") == "utf8"
