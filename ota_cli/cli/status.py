"""`ota status`: what runs, what boots next, and how the last update ended."""

from __future__ import annotations

from typing import List, Optional, Tuple

import click

from ..errors import TrialFailed
from ..events import Warned
from ..model import Secondary
from ..probe import probe
from ..status import Status, read_status
from .options import Call, Result, command
from .show import Document, table, transaction_document, verdict_document


@command("status")
@click.option("--no-ecus", is_flag=True, help="Only this ECU, none below it.")
@click.option("--exit-code", is_flag=True, help="Exit 18 when the last update fell back.")
def status(call: Call, no_ecus: bool, exit_code: bool) -> Result:
    """Show the running slot and version, what boots next, and how the last update ended."""
    device = probe(call.root)
    found = read_status(device)
    ecus = [] if no_ecus else [_below(each) for each in device.ecu.secondaries]
    for warning in (*device.warnings, *found.warnings):
        call.emit(Warned(warning))
    return Result(
        document=_document(found, ecus),
        lines=_lines(found, ecus),
        failure=_failure(found) if exit_code else None,
    )


def _failure(found: Status) -> Optional[TrialFailed]:
    if found.verdict.code != "fell_back":
        return None
    return TrialFailed(found.verdict.text, hint=found.verdict.hint, slug="fell-back")


def _document(found: Status, ecus: List[Document]) -> Document:
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
        "ecus": ecus,
        "warnings": list(found.warnings),
    }


def _below(secondary: Secondary) -> Document:
    """A secondary by its configuration: this version does not ask other ECUs."""
    return {"ecu_id": secondary.ecu_id, "ip_addr": secondary.ip_addr, "asked": False}


def _lines(found: Status, ecus: List[Document]) -> Tuple[str, ...]:
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
    rows += [("ECU below", f"{ecu['ecu_id']} at {ecu['ip_addr']} (not asked)") for ecu in ecus]
    return table(rows)
