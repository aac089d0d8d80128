"""`ota history`: how past updates, rollbacks and switches ended."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence, Tuple

import click

from ..core.history import entry_of
from ..core.record import Transaction
from ..core.text import wrapped
from ..probe import probe
from ..status import read_history
from .options import Call, Result, command
from .show import outcome, table, terminal_width, when


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
        lines=_lines(ends, terminal_width()) or ("No update is known to have ended here.",),
    )


def _lines(ends: Sequence[Transaction], width: Optional[int]) -> Tuple[str, ...]:
    """A line each; on a terminal that is too narrow for that, reasons have lines of their own."""
    whole = table([_row(end, end.reason) for end in ends])
    if width is None or all(len(line) <= width for line in whole):
        return whole
    heads = table([_row(end, "") for end in ends])
    return tuple(line for pair in zip(heads, ends) for line in _apart(*pair, width))


def _apart(head: str, end: Transaction, width: int) -> Iterator[str]:
    yield head
    if end.reason:
        yield from (f"    {line}" for line in wrapped(end.reason, width - 4))


def _row(end: Transaction, reason: str) -> Tuple[str, ...]:
    slots = f"{end.from_slot or '-'} -> {end.to_slot}"
    return when(end.ended), end.kind, end.version or "-", slots, outcome(end), reason
