"""Values as JSON documents and as lines for people; shared by the verbs."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

from ..core.outcome import Verdict
from ..core.plan import Plan, Source
from ..core.record import Transaction
from ..core.text import printable

Document = Dict[str, object]
Row = Tuple[str, str]


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
    total = plan.size_bytes(*Source)
    return {
        "downloaded": downloaded,
        "reused": total - plan.size_bytes(Source.DOWNLOADED),
        "total": total,
    }


def table(rows: Sequence[Tuple[str, ...]]) -> Tuple[str, ...]:
    """Aligned columns, two spaces apart; all rows have as many cells, the last is not padded."""
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*rows)][:-1]
    lines = ([*map(_padded, row, widths), row[-1]] for row in rows)
    return tuple("  ".join(cells).rstrip() for cells in lines)


def _padded(cell: str, width: int) -> str:
    return f"{printable(cell):<{width}}"
