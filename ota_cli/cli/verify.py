"""`ota verify`: is a slot still what its signed image says?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

import click

from ..model import SlotName
from ..probe import probe
from .options import Call, Result, command
from .show import Document, table

if TYPE_CHECKING:
    from ..recheck import Rechecked


@command("verify")
@click.argument("slot", type=click.Choice(["a", "b"]), required=False)
def verify(call: Call, slot: Optional[SlotName]) -> Result:
    """Compare the standby slot (or SLOT) with its signed image; changes nothing.

    Every file is read, and what differs is listed with its path. The running slot may be named as
    well: its system changes files, so that it differs is no damage by itself.
    """
    from ..recheck import recheck

    found = recheck(probe(call.root), slot, call.emit)
    return Result(document=_document(found), lines=_lines(found), failure=found.failure)


def _document(found: Rechecked) -> Document:
    return {
        "slot": found.slot, "version": found.version, "image_id": found.image_id,
        "equal": not found.differences, "files": found.files,
        "differences": [{"path": each.path, "what": each.what} for each in found.differences],
    }  # fmt: skip


def _lines(found: Rechecked) -> Tuple[str, ...]:
    from ..verify import places

    what = f"its image {found.version}" if found.version else "its image"
    if found.failure is None:
        return (f"Slot {found.slot} equals {what}: {found.files} files were read.",)
    return (
        *table([(each.what, each.path) for each in found.differences]),
        f"Slot {found.slot} differs from {what} in {places(found.differences)}; "
        f"{found.files} files were read.",
        f"hint: {found.failure.hint}",
    )
