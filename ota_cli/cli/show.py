"""Values as JSON documents and as lines for people; shared by the verbs."""

from __future__ import annotations

import re
import sys
from typing import Dict, List, Optional, Sequence, Tuple

from ..core.outcome import Verdict
from ..core.plan import Plan, Source
from ..core.record import Transaction
from ..core.text import printable, size, wrapped
from ..render.stream import Stream

Document = Dict[str, object]
Row = Tuple[str, str]

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?(?:Z|\+00:00)")


def verdict_document(verdict: Verdict) -> Document:
    """The `verdict` of a status document."""
    return {"code": verdict.code, "text": verdict.text, "hint": verdict.hint}


def transaction_document(last: Optional[Transaction]) -> Optional[Document]:
    """The `last_update` of a status document."""
    if last is None:
        return None
    return {
        "kind": last.kind, "outcome": last.phase, "version": last.version, "from": last.from_slot,
        "to": last.to_slot, "started": last.started, "ended": last.ended, "reason": last.reason,
        "output": last.output, "txn": last.txn,
    }  # fmt: skip


#: How far a transaction got, as people say it; the words of scripts are those of the record.
_OUTCOMES = {
    "staging": "begun", "healthy": "healthy, not all ECUs are", "committed": "confirmed",
    "fell_back": "fell back", "withdrawn": "taken back untried",
}  # fmt: skip


def outcome(transaction: Transaction) -> str:
    """How a transaction ended, or how far it got."""
    return _OUTCOMES.get(transaction.phase, transaction.phase)


def plan_files(plan: Optional[Plan]) -> Document:
    """The `files` of an update document; hard-linked names count as one file."""
    if plan is None:
        return {"total": 0, "kept": 0, "moved": 0, "copied": 0, "downloaded": 0}
    return {
        "total": len(plan.steps),
        "kept": plan.files(Source.KEPT, Source.STAGED, Source.EMPTY),
        "moved": plan.files(Source.MOVED),
        "copied": plan.files(Source.COPIED, Source.DUPLICATED),
        "downloaded": plan.files(Source.DOWNLOADED),
    }


def plan_bytes(plan: Optional[Plan], downloaded: int) -> Document:
    """The `bytes` of an update document: on the wire, found locally, in the image."""
    if plan is None:
        return {"downloaded": downloaded, "reused": 0, "total": 0}
    return {
        "downloaded": downloaded,
        "reused": _reused_bytes(plan),
        "total": plan.size_bytes(*Source),
    }


def bytes_line(plan: Plan, downloaded: int, seconds: float) -> str:
    """The same for people, and how long it took."""
    found = f"{size(downloaded)} downloaded, {size(_reused_bytes(plan))} reused"
    return f"  bytes: {found}; {seconds:.1f} s"


def _reused_bytes(plan: Plan) -> int:
    return plan.size_bytes(*Source) - plan.size_bytes(Source.DOWNLOADED)


def when(time: Optional[str]) -> str:
    """An RFC 3339 time in UTC as people read it, to the minute."""
    found = _TIME.fullmatch(time or "")
    return f"{found[1]} {found[2]} UTC" if found else time or ""


def terminal_width() -> Optional[int]:
    """How many columns stdout has; None where it is no terminal: nothing is wrapped."""
    return Stream(sys.stdout, "stdout").columns


def table(rows: Sequence[Tuple[str, ...]], width: Optional[int] = None) -> Tuple[str, ...]:
    """Aligned columns, two spaces apart; all rows have as many cells, the last is not padded, and
    wrapped where it would go beyond `width` columns."""
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*rows)][:-1]
    indent = sum(widths) + 2 * len(widths)
    lines: List[str] = []
    for row in rows:
        first, *more = wrapped(row[-1], width and width - indent)
        lines.append("  ".join([*map(_padded, row, widths), first]).rstrip())
        lines += [f"{'':{indent}}{line}" for line in more]
    return tuple(lines)


def _padded(cell: str, width: int) -> str:
    return f"{printable(cell):<{width}}"
