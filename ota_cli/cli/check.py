"""`ota check`: is there an update, is it trusted, and what would it cost?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, List, Optional, Sequence

import click

from ..core.text import size
from ..errors import EcuFailed
from ..events import Warned
from ..model import Device
from ..probe import probe
from .options import Call, Result, command
from .request import Source, device_net, version_options
from .show import Document, Row, plan_files, table
from .show_changes import changes_below, changes_document

if TYPE_CHECKING:
    from ..fleet.check import FleetChecked
    from ..fleet.report import EcuChecked
    from ..host.net import NetSettings
    from ..update import Preview, Request

UPDATE_AVAILABLE = 20


@command("check")
@version_options
@click.option("--allow-downgrade", is_flag=True, help="Accept an image older than the running one.")
@click.option("--retry-failed", is_flag=True, help="Accept an image that fell back here before.")
@click.option("--no-ecus", is_flag=True, help="Only this ECU, none below it.")
def check(
    call: Call, source: Source, allow_downgrade: bool, retry_failed: bool, no_ecus: bool
) -> Result:
    """Tell whether the image at URL is an update: exit 0 if it runs already, 20 if not.

    Fetches metadata only, of an image that runs already a few kilobytes; changes nothing. The ECUs
    below this one are asked as well: 0 means that all of them run it. With -q, for cron, the exit
    code is the whole answer: only warnings and failures are printed.
    """
    from ..source import resolve_url
    from ..update import Request, preview

    device = probe(call.root)
    request = Request(
        url=resolve_url(source.version or "", device.settings, device.ecu.ecu_id),
        net=device_net(source, device), name=source.name or "",
        allow_downgrade=allow_downgrade, retry_failed=retry_failed,
    )  # fmt: skip
    if device.ecu.secondaries and not no_ecus:
        return _check_all(call, device, source, request)
    found = preview(device, request, call.emit)
    return Result(
        document=preview_document(found),
        lines=preview_lines(found),
        exit_code=UPDATE_AVAILABLE if found.is_available else 0,
        told_by_code=True,
    )


def _check_all(call: Call, device: Device, source: Source, request: Request) -> Result:
    done = ask_all(call, device, source, request)
    failure = unanswered(done)
    if failure is not None and done.is_any_available:
        call.emit(Warned(failure.message))
    return Result(
        document={**checked_document(done), "available": done.is_any_available},
        lines=(*(line for each in done.below for line in lines_below(each)), *_own_lines(done)),
        exit_code=UPDATE_AVAILABLE if done.is_any_available else 0,
        failure=None if done.is_any_available else failure,
        told_by_code=True,
    )


def ask_all(
    call: Call, device: Device, source: Source, request: Request, ecus: Sequence[str] = ()
) -> FleetChecked:
    """What an update would do here and on all ECUs below, or on `ecus` among them."""
    from ..core.requests import AskCheck
    from ..fleet.check import check_all
    from ..fleet.ownproxy import through_own_proxy
    from ..source import url_template
    from ..update import preview

    def work(order: AskCheck, net: NetSettings) -> FleetChecked:
        own_request = replace(request, net=net)
        return check_all(device, order, lambda: preview(device, own_request, call.emit), call.emit)

    order = AskCheck(
        above=(), url=url_template(source.version or "", device.settings), name=request.name,
        allow_downgrade=request.allow_downgrade, retry_failed=request.retry_failed,
        ecus=tuple(ecus) or None,
    )  # fmt: skip
    return through_own_proxy(device, order, request.net, call.emit, work)


def unanswered(done: FleetChecked) -> Optional[EcuFailed]:
    """Without an answer from all, nobody knows that all are up to date."""
    failed = [each.trouble for each in done.everybody_below() if each.trouble is not None]
    if not failed:
        return None
    return EcuFailed(
        f"not all ECUs could be checked: {'; '.join(each.message for each in failed)}",
        hint=failed[0].hint,
    )


def checked_document(done: FleetChecked) -> Document:
    """The document of `check` on many ECUs; `fleet.report` reads it. The keys of this one are
    missing where it was left out."""
    own = preview_document(done.own) if done.own else {"version": None}
    return {**own, "ecus": [_below(each) for each in done.below]}


def _below(ecu: EcuChecked) -> Document:
    known = ecu.trouble is None and not ecu.left_out
    return {
        "ecu_id": ecu.ecu_id,
        "available": ecu.available if known else None,
        "version": ecu.version or None,
        "bytes": {"download": ecu.download_bytes, "space": ecu.space_bytes} if known else None,
        "changes": changes_below(ecu),
        "error": ecu.trouble._asdict() if ecu.trouble else None,
        "ecus": [_below(each) for each in ecu.below],
    }


def lines_below(ecu: EcuChecked) -> List[str]:
    """What an update would do on an ECU below and on those below it, for people."""
    below = [line for each in ecu.below for line in lines_below(each)]
    if ecu.trouble is not None:
        return [*below, f"{ecu.ecu_id}: not known: {ecu.trouble.message}"]
    if ecu.left_out:
        return below
    if not ecu.available:
        return [*below, f"{ecu.ecu_id}: {ecu.version} is what runs."]
    cost = f"{size(ecu.download_bytes)} to download, {size(ecu.space_bytes)} on the slot"
    return [*below, f"{ecu.ecu_id}: update to {ecu.version}; {cost}"]


def _own_lines(done: FleetChecked) -> tuple[str, ...]:
    if done.own is None:
        return ()
    if not done.own.is_available and done.is_any_available:
        return (f"{done.own.version} is what runs here.",)
    return preview_lines(done.own)


def preview_document(found: Preview) -> Document:
    """The document of `check` and of `update --dry-run`."""
    return {
        "available": found.is_available,
        "armed": found.armed,
        "version": found.version,
        "image_id": found.image_id,
        "slot": found.slot,
        "files": plan_files(found.plan),
        "bytes": {
            "download": found.wire_bytes,
            "exact": found.wire_is_exact,
            "space": found.space_bytes,
        },
        "format": found.will_format,
        "changes": changes_document(found.changes) if found.changes else None,
    }


def preview_lines(found: Preview, details: Sequence[Row] = ()) -> tuple[str, ...]:
    """The same for people, and `details` of what would be done."""
    if not found.is_available:
        return (f"{found.version} is what runs: nothing to update.",)
    if found.image_is_running:
        back = f"but slot {found.armed} boots next; `ota update` takes that back"
        return (f"{found.version} is what runs, {back}.",)
    files = plan_files(found.plan)
    about = "" if found.wire_is_exact else "at most "
    rows = [
        ("update", f"{found.version}, for slot {found.slot}"),
        ("download", f"{about}{size(found.wire_bytes)} in {files['downloaded']} files"),
        ("space", f"{size(found.space_bytes)} on slot {found.slot}"),
        ("files", ", ".join(f"{count} {kind}" for kind, count in files.items())),
    ]
    if found.will_format:
        rows.append(("format", f"slot {found.slot} gets a new ext4 file system"))
    return table([*rows, *details])
