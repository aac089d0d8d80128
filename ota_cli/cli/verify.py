"""`ota verify`: is a slot still what its signed image says? And making it so again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

import click

from ..errors import UsageProblem
from ..events import Warned
from ..model import SlotName
from ..probe import probe
from .options import Call, Result, command
from .request import Source, device_net, source_options
from .show import Document, bytes_line, plan_bytes, table

if TYPE_CHECKING:
    from ..model import Device
    from ..recheck import Rechecked
    from ..repair import Published, Repaired


@command("verify")
@click.argument("slot", type=click.Choice(["a", "b"]), required=False)
@click.option("--repair", is_flag=True, help="Make the standby slot equal to its image again.")
@click.option(
    "--version", metavar="URL",
    help="With --repair: where its image is, for what the device lacks; or a name on `server`.",
)  # fmt: skip
@source_options
def verify(call: Call, slot: Optional[SlotName], repair: bool, source: Source) -> Result:
    """Compare the standby slot (or SLOT) with its signed image.

    Every file that has its size is read, and what differs is listed with its path. Nothing is
    changed without --repair. The running slot may be named as well: its system changes files, so
    that it differs is no damage by itself.
    """
    if source != Source() and not (repair and source.version):
        needed = "--version" if repair else "--repair and --version"
        raise UsageProblem(f"options for fetching do nothing without {needed}")
    device = probe(call.root)
    if repair:
        from .. import repair as story

        for warning in device.warnings:
            call.emit(Warned(warning))
        done = story.repair(device, slot, _published(source, device), call.emit)
        return Result(document=_repair_document(done), lines=_repair_lines(done))
    from ..recheck import recheck

    found = recheck(device, slot, call.emit)
    return Result(document=_document(found), lines=_lines(found), failure=found.failure)


def _published(source: Source, device: Device) -> Optional[Published]:
    from ..repair import Published
    from ..source import resolve_url

    if source.version is None:
        return None
    url = resolve_url(source.version, device.settings, device.ecu.ecu_id)
    return Published(url, device_net(source, device))


def _document(found: Rechecked) -> Document:
    return {
        "slot": found.slot, "version": found.version, "image_id": found.image.image_id,
        "equal": not found.differences, "files": found.files,
        "differences": [{"path": each.path, "what": each.what} for each in found.differences],
    }  # fmt: skip


def _repair_document(done: Repaired) -> Document:
    return {
        **_document(done.found),
        "equal": True,
        "repaired": done.plan is not None,
        "state": done.state,
        "bytes": plan_bytes(done.plan, done.downloaded_bytes),
        "carried": list(done.carried),
        "seconds": done.seconds,
    }


def _lines(found: Rechecked) -> Tuple[str, ...]:
    if found.failure is None:
        return (_equal(found),)
    return (*_differences(found), f"hint: {found.failure.hint}")


def _repair_lines(done: Repaired) -> Tuple[str, ...]:
    found = done.found
    if done.plan is None:
        return (f"{_equal(found)} Nothing is to be repaired.",)
    return (
        *(_differences(found) if found.differences else ()),
        f"Slot {found.slot} is repaired: it equals {_image(found)}, and is {done.state}.",
        bytes_line(done.plan, done.downloaded_bytes, done.seconds),
    )


def _equal(found: Rechecked) -> str:
    return f"Slot {found.slot} equals {_image(found)}: {found.files} files were read."


def _differences(found: Rechecked) -> Tuple[str, ...]:
    from ..verify import places

    return (
        *table([(each.what, each.path) for each in found.differences]),
        f"Slot {found.slot} differs from {_image(found)} in {places(found.differences)}; "
        f"{found.files} files were compared.",
    )


def _image(found: Rechecked) -> str:
    return f"its image {found.version}" if found.version else "its image"
