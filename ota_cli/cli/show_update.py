"""What an update did, as a document and as lines for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List

from ..core.protocol import Object, mapping, number
from ..core.text import size
from .show import Document, bytes_line, plan_bytes, plan_files

if TYPE_CHECKING:
    from ..fleet.report import EcuUpdated
    from ..fleet.together import FleetSwitched, Own
    from ..update import Updated


def update_document(done: Updated) -> Document:
    """The `result` of an update of one ECU."""
    return {
        "version": done.version,
        "image_id": done.image_id,
        "slot": done.slot,
        "up_to_date": done.up_to_date,
        "taken_back": done.taken_back,
        "armed": done.armed,
        "files": plan_files(done.plan),
        "bytes": plan_bytes(done.plan, done.downloaded_bytes),
        "seconds": done.seconds,
        "carried": done.carried,
        "owners_applied": os.geteuid() == 0,
        "verify_local": done.verify_local,
        "verify_writes": done.verify_writes,
    }


def update_lines(done: Updated, reboot: bool, activate: str = "ota activate") -> List[str]:
    """The same for people. `activate`: what arms what is staged only."""
    if done.plan is None:
        if done.taken_back is None:
            return [f"{done.version} runs already: nothing to do."]
        return [f"{done.version} runs already; slot {done.taken_back} is not tried any more."]
    files = plan_files(done.plan)
    lines = [
        f"{done.version} is {'armed' if done.armed else 'staged'} in slot {done.slot}.",
        "  files: " + ", ".join(f"{count} {kind}" for kind, count in files.items()),
        bytes_line(done.plan, done.downloaded_bytes, done.seconds),
    ]
    if done.verify_local == "stat":
        lines.append("  files that nobody changed were not read again (verify_local: stat)")
    if done.verify_writes:
        lines.append("  copies were read back from the disk as well (verify_writes)")
    if os.geteuid() != 0:
        lines.append("  owners were not applied: not run as root")
    if not done.armed:
        lines.append(f"Run `{activate}` to boot it next.")
    elif not reboot:
        lines.append("Reboot to try it; `ota rollback` takes it back until then.")
    return lines


def fleet_document(done: FleetSwitched[Updated]) -> Document:
    """The `result` of an update of many ECUs: that of this one, and those below; `fleet.report`
    reads it. The keys of this one are missing where it was left out."""
    own = update_document(done.own) if done.own else {"version": None, "slot": None}
    return {**own, **fleet_keys(done), "proxy": done.proxy}


def fleet_keys(done: FleetSwitched[Own]) -> Document:
    """What the document of every verb for many ECUs says of them."""
    return {
        "ecu_ids": list(done.ecu_ids), "ecus": [_below(each) for each in done.below],
        "jointly": done.jointly,
    }  # fmt: skip


def fleet_lines(done: FleetSwitched[Updated], reboot: bool) -> List[str]:
    """The same for people."""
    lines = [line for each in done.below for line in _lines_below(each)]
    lines += update_lines(done.own, True, "ota activate --all") if done.own else []
    lines += [_proxy_line(done.proxy)] if done.proxy else []
    own_is_armed = done.own is not None and done.own.armed
    if reboot:
        rest = " This ECU reboots now; `ota wait` tells how it ends." if own_is_armed else ""
        return [*lines, *([f"All others run it.{rest}"] if done.armed_below else [])]
    if done.is_any_armed:
        lines.append("Reboot the ECUs to try it; `ota rollback --all` takes it back until then.")
    if done.jointly:
        who = "once all are healthy" if own_is_armed else "by `ota commit` here"
        lines.append(f"They are confirmed together, {who}; if one is not healthy, all return.")
    return lines


def _proxy_line(report: Object) -> str:
    counts = mapping(report, "bytes")
    return (
        f"All ECUs together: {size(number(counts, 'fetched'))} from the server, "
        f"{size(number(counts, 'saved'))} saved by the proxy."
    )


def _below(ecu: EcuUpdated) -> Document:
    return {
        "ecu_id": ecu.ecu_id,
        "version": ecu.version,
        "slot": ecu.slot,
        "armed": ecu.armed,
        "up_to_date": ecu.up_to_date,
        "bytes": {"downloaded": ecu.downloaded_bytes},
        "ecu_ids": list(ecu.ecu_ids),
        "ecus": [_below(each) for each in ecu.below],
    }


def _lines_below(ecu: EcuUpdated) -> List[str]:
    below = [line for each in ecu.below for line in _lines_below(each)]
    if ecu.version is None:
        return below
    done = f"{'armed' if ecu.armed else 'staged'} in slot {ecu.slot}"
    if ecu.up_to_date:
        return [*below, f"{ecu.ecu_id}: {ecu.version} runs already."]
    size_text = size(ecu.downloaded_bytes)
    return [*below, f"{ecu.ecu_id}: {ecu.version} is {done}; {size_text} downloaded."]
