"""`ota history`: how past updates, rollbacks and switches ended."""

from __future__ import annotations

from typing import Optional, Tuple

import click

from ..core.history import entry_of
from ..core.record import Transaction
from ..probe import probe
from ..status import read_history
from .options import Call, Result, command
from .show import table


@command("history")
@click.option(
    "-n", "--last", "count", type=click.IntRange(min=1), metavar="N", help="Only the last N."
)
def history(call: Call, count: Optional[int]) -> Result:
    """List how past updates ended, one line each, the newest first.

    When it ended, what it was, the version, from which slot to which, the outcome, and the reason
    where there is one.
    """
    ends = read_history(probe(call.root), call.emit)[:count]
    return Result(
        document={"updates": [entry_of(end) for end in ends]},
        lines=table([_row(end) for end in ends]) or ("No update is known to have ended here.",),
    )


def _row(end: Transaction) -> Tuple[str, ...]:
    slots = f"{end.from_slot or '-'} -> {end.to_slot}"
    return end.ended or "-", end.kind, end.version or "-", slots, end.phase, end.reason
