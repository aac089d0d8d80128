"""`ota update`: bring an image into the standby slot and arm it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List

import click

from ..errors import ConfigError, UsageProblem
from ..events import Note, Warned
from ..model import Device
from ..probe import probe
from .check import preview_document, preview_lines
from .options import Call, Result, command
from .request import Source, device_net, version_options
from .show import Document, plan_bytes, plan_files, size

if TYPE_CHECKING:
    from ..update import Updated


@command("update")
@version_options
@click.option("--stage-only", is_flag=True, help="Prepare the slot; `ota activate` arms it later.")
@click.option("--reboot", is_flag=True, help="Reboot into the new system when it is armed.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option("--allow-downgrade", is_flag=True, help="Accept an image older than the running one.")
@click.option("--retry-failed", is_flag=True, help="Accept an image that fell back here before.")
@click.option("--no-format", is_flag=True, help="Fail where the slot has no usable file system.")
@click.option(
    "--no-self-confirm", is_flag=True, help="Accept a system that can not confirm itself."
)
def update(
    call: Call, source: Source, stage_only: bool, reboot: bool, dry_run: bool,
    allow_downgrade: bool, retry_failed: bool, no_format: bool, no_self_confirm: bool,
) -> Result:  # fmt: skip
    """Update the inactive slot to the image at URL, verify it, and boot it next.

    URL may contain {ecu_id}. The running system is never touched.
    """
    from .. import update as story
    from ..host.reboot import reboot_machine
    from ..source import resolve_url

    device = probe(call.root)
    _require_possible(device, reboot, stage_only)
    for warning in device.warnings:
        call.emit(Warned(warning))
    request = story.Request(
        url=resolve_url(source.version or "", device.settings, device.ecu.ecu_id),
        net=device_net(source, device), name=source.name or "", stage_only=stage_only,
        allow_downgrade=allow_downgrade, retry_failed=retry_failed,
        may_format=not no_format, self_confirm=not no_self_confirm,
    )  # fmt: skip
    if dry_run:
        found = story.preview(device, request, call.emit)
        return Result(document=preview_document(found), lines=preview_lines(found))
    done = story.update(device, request, call.emit)
    if reboot and done.armed:
        call.emit(Note("rebooting into the new system"))
        reboot_machine()
    return Result(document=_document(done), lines=tuple(_lines(done, reboot)))


def _require_possible(device: Device, reboot: bool, stage_only: bool) -> None:
    if reboot and stage_only:
        raise UsageProblem("--reboot and --stage-only exclude each other")
    if reboot and not device.is_this_machine:
        raise UsageProblem("--reboot restarts this machine, not the device below --root")
    if device.ecu.secondaries:
        raise ConfigError(
            "ecu_info.yml lists secondaries, which this version of ota can not update",
            hint="remove `secondaries` to update this ECU alone",
            slug="secondaries",
        )


def _document(done: Updated) -> Document:
    return {
        "version": done.version,
        "image_id": done.image.image_id,
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
    }


def _lines(done: Updated, reboot: bool) -> List[str]:
    if done.plan is None:
        if done.taken_back is None:
            return [f"{done.version} runs already: nothing to do."]
        return [f"{done.version} runs already; slot {done.taken_back} is not tried any more."]
    files, counts = plan_files(done.plan), plan_bytes(done.plan, done.downloaded_bytes)
    lines = [
        f"{done.version} is {'armed' if done.armed else 'staged'} in slot {done.slot}.",
        "  files: " + ", ".join(f"{count} {kind}" for kind, count in files.items()),
        f"  bytes: {size(int(str(counts['downloaded'])))} downloaded, "
        f"{size(int(str(counts['reused'])))} reused; {done.seconds:.1f} s",
    ]
    if done.verify_local == "stat":
        lines.append("  files that nobody changed were not read again (verify_local: stat)")
    if os.geteuid() != 0:
        lines.append("  owners were not applied: not run as root")
    if not done.armed:
        lines.append("Run `ota activate` to boot it next.")
    elif not reboot:
        lines.append("Reboot to try it; `ota rollback` takes it back until then.")
    return lines
