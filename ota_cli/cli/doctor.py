"""`ota doctor`: what is not well on this device and those below it, and what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Tuple

import click

from ..probe import probe
from .options import Call, Result, command
from .show import Document, table

if TYPE_CHECKING:
    from ..doctor import Finding


@command("doctor")
@click.option("--no-ecus", is_flag=True, help="Only this ECU, none below it.")
def doctor(call: Call, no_ecus: bool) -> Result:
    """Look at all that an update needs, and say what mends what is not well; changes nothing.

    The exit code is that of the first thing that is not well.
    """
    from ..doctor import examine

    findings = tuple(examine(probe(call.root), not no_ecus))
    failed = [each.trouble for each in findings if each.trouble is not None]
    return Result(
        document={"findings": [_document(each) for each in findings]},
        lines=table([row for each in findings for row in _rows(each)]),
        failure=failed[0] if failed else None,
    )


def _document(found: Finding) -> Document:
    return {
        "name": found.name, "ok": found.trouble is None, "text": found.text,
        "slug": found.trouble.slug if found.trouble else None,
        "hint": found.trouble.hint if found.trouble else None,
    }  # fmt: skip


def _rows(found: Finding) -> List[Tuple[str, str]]:
    if found.trouble is None:
        return [(found.name, found.text)]
    rows = [(found.name, f"NOT WELL: {found.text}")]
    return [*rows, ("", f"hint: {found.trouble.hint}")] if found.trouble.hint else rows
