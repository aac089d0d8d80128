"""`ota update`: bring an image into the standby slot and arm it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Tuple

import click

from ..errors import UsageProblem
from ..events import Note, Warned
from ..model import Device
from ..probe import probe
from .dry_run import dry_run_all, dry_run_here
from .options import Call, Result, command
from .request import Source, device_net, version_options
from .show_update import fleet_document, fleet_lines, update_document, update_lines

if TYPE_CHECKING:
    from ..fleet.together import FleetSwitched
    from ..host.net import NetSettings
    from ..trial import Agreement
    from ..update import Request, Updated


@command("update")
@version_options
@click.option(
    "--ecu",
    "ecus",
    multiple=True,
    metavar="ID",
    help="Only this ECU, also one below another; repeatable.",
)
@click.option("--stage-only", is_flag=True, help="Prepare the slot; `ota activate` arms it later.")
@click.option(
    "--reboot", is_flag=True, help="Reboot into the new system when it is armed; ECUs below first."
)
@click.option("-n", "--dry-run", is_flag=True, help="List what would change; change nothing.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an image older than the running one.")
@click.option("--retry-failed", is_flag=True, help="Accept an image that fell back here before.")
@click.option("--no-format", is_flag=True, help="Fail where the slot has no usable file system.")
@click.option(
    "--no-self-confirm", is_flag=True, help="Accept a system that can not confirm itself."
)
@click.option("--verify-writes", is_flag=True, help="Read back from the disk what is copied, too.")
def update(
    call: Call, source: Source, ecus: Tuple[str, ...], stage_only: bool, reboot: bool,
    dry_run: bool, allow_downgrade: bool, retry_failed: bool, no_format: bool,
    no_self_confirm: bool, verify_writes: bool,
) -> Result:  # fmt: skip
    """Update the inactive slot to the image at URL, verify it, and boot it next.

    URL may contain {ecu_id}. The running system is never touched. ECUs below this one are
    updated as well, and all of them are switched, or none.
    """
    from .. import update as story
    from ..host.reboot import reboot_machine
    from ..source import resolve_url

    device = probe(call.root)
    with_others = bool(device.ecu.secondaries or ecus)
    _require_possible(device, reboot, stage_only)
    for warning in device.warnings:
        call.emit(Warned(warning))
    request = story.Request(
        url=resolve_url(source.version or "", device.settings, device.ecu.ecu_id),
        net=device_net(source, device), name=source.name or "", stage_only=stage_only,
        allow_downgrade=allow_downgrade, retry_failed=retry_failed,
        may_format=not no_format, self_confirm=not no_self_confirm,
        verify_writes=verify_writes,
    )  # fmt: skip
    if dry_run and with_others:
        return dry_run_all(call, device, source, request, ecus)
    if dry_run:
        return dry_run_here(story.preview(device, request, call.emit))
    if with_others:
        return _update_all(call, device, source, request, ecus, reboot)
    done = story.update(device, request, call.emit)
    if reboot and done.armed:
        call.emit(Note("rebooting into the new system"))
        reboot_machine()
    return Result(document=update_document(done), lines=tuple(update_lines(done, reboot)))


def _update_all(
    call: Call, device: Device, source: Source, request: Request, ecus: Tuple[str, ...],
    reboot: bool,
) -> Result:  # fmt: skip
    from .. import update as story
    from ..core.requests import AskUpdate
    from ..fleet.ownproxy import through_own_proxy
    from ..fleet.together import jointly_if_several, switch_together
    from ..source import url_template

    order = AskUpdate(
        above=(), txn=uuid.uuid4().hex[:12],
        url=url_template(source.version or "", device.settings), name=request.name,
        ecus=ecus or None, stage_only=request.stage_only,
        allow_downgrade=request.allow_downgrade, retry_failed=request.retry_failed,
        verify_writes=request.verify_writes,
    )  # fmt: skip

    def work(order: AskUpdate, net: NetSettings) -> FleetSwitched[Updated]:
        if net.cookies and order.proxy is None:
            call.emit(Warned("cookies stay here: the ECUs below ask the server without them"))
        own_request = replace(request, txn=order.txn, net=net)

        def own(agreement: Agreement) -> Updated:
            return story.update(device, own_request, call.emit, agreement)

        return switch_together(device, order, own, jointly_if_several(device), call.emit)

    done = through_own_proxy(device, order, request.net, call.emit, work)
    if reboot and done.is_any_armed:
        from ..fleet.reboot import reboot_all

        own_is_armed = done.own is not None and done.own.armed
        reboot_all(device, order.txn, done.armed_below, own_is_armed, call.emit)
    return Result(document=fleet_document(done), lines=tuple(fleet_lines(done, reboot)))


def _require_possible(device: Device, reboot: bool, stage_only: bool) -> None:
    if reboot and stage_only:
        raise UsageProblem("--reboot and --stage-only exclude each other")
    if reboot and not device.is_this_machine:
        raise UsageProblem("--reboot restarts this machine, not the device below --root")
