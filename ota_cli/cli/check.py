"""`ota check`: is there an update, is it trusted, and what would it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..probe import probe
from .options import Call, Result, command
from .request import Source, device_net, version_options
from .show import Document, plan_files, size, table

if TYPE_CHECKING:
    from ..update import Preview

UPDATE_AVAILABLE = 20


@command("check")
@version_options
@click.option("--allow-downgrade", is_flag=True, help="Accept an image older than the running one.")
@click.option("--retry-failed", is_flag=True, help="Accept an image that fell back here before.")
def check(call: Call, source: Source, allow_downgrade: bool, retry_failed: bool) -> Result:
    """Tell whether the image at URL is an update: exit 0 if it runs already, 20 if not.

    Fetches metadata only, changes nothing.
    """
    from ..source import resolve_url
    from ..update import Request, preview

    device = probe(call.root)
    request = Request(
        url=resolve_url(source.version or "", device.settings, device.ecu.ecu_id),
        net=device_net(source, device), name=source.name or "",
        allow_downgrade=allow_downgrade, retry_failed=retry_failed,
    )  # fmt: skip
    found = preview(device, request, call.emit)
    return Result(
        document=preview_document(found),
        lines=preview_lines(found),
        exit_code=UPDATE_AVAILABLE if _available(found) else 0,
    )


def preview_document(found: Preview) -> Document:
    """The document of `check` and of `update --dry-run`."""
    return {
        "available": _available(found),
        "armed": found.armed,
        "version": found.version,
        "image_id": found.image.image_id,
        "slot": found.slot,
        "files": plan_files(found.plan),
        "bytes": {
            "download": found.wire_bytes,
            "exact": found.wire_is_exact,
            "space": found.space_bytes,
        },
        "format": found.will_format,
    }


def _available(found: Preview) -> bool:
    """Whether an update would change anything: also what boots next."""
    return not found.image_is_running or found.armed is not None


def preview_lines(found: Preview) -> tuple[str, ...]:
    """The same for people."""
    if found.image_is_running and found.armed is None:
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
    return table(rows)
