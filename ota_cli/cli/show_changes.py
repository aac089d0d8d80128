"""What an update would change, as a document and as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, Optional, Tuple

from ..core.text import printable, size
from .show import Document, Row

if TYPE_CHECKING:
    from ..core.changes import Changes, Counts, KernelChange
    from ..fleet.report import EcuChecked

_WORDS = {"metadata": "metadata only"}


def changes_document(found: Changes) -> Document:
    """The `changes` of a check document."""
    return {
        "files": found.files._asdict(),
        "others": found.others._asdict(),
        "downloads": [{"path": each.path, "bytes": each.wire_bytes} for each in found.downloads],
        "kernel": found.kernel._asdict() if found.kernel else None,
        "persisted": None if found.persisted is None else list(found.persisted),
    }


def changes_below(ecu: EcuChecked) -> Optional[Document]:
    """The same of an ECU below, in short."""
    if ecu.files is None:
        return None
    return {
        "files": ecu.files._asdict(),
        "kernel": ecu.kernel._asdict() if ecu.kernel else None,
    }


def changes_rows(found: Changes) -> List[Row]:
    """The same for people, below what `check` says."""
    rows: List[Row] = [("changes", f"files: {counts_text(found.files)}")]
    rows.append(("", f"directories, symlinks, nodes: {counts_text(found.others)}"))
    if found.kernel:
        rows.append(("kernel", kernel_text(found.kernel)))
    rows.append(("persist", _persisted_text(found.persisted)))
    sizes = [size(each.wire_bytes) for each in found.downloads]
    width = max(map(len, sizes), default=0)
    heads = ["largest", *([""] * len(sizes))]
    for head, shown, each in zip(heads, sizes, found.downloads):
        rows.append((head, f"{shown:>{width}}  {printable(each.path)}"))
    return rows


def counts_text(counts: Counts) -> str:
    """`12 new, 3 changed, 1 removed`; what there is none of is left out."""
    found = counts._asdict().items()
    return (
        ", ".join(f"{count} {_WORDS.get(kind, kind)}" for kind, count in found if count) or "none"
    )


def kernel_text(kernel: KernelChange) -> str:
    """`6.1.0-1 -> 6.1.0-2, another initrd`."""
    versions = " -> ".join(dict.fromkeys(each or "unnamed" for each in (kernel.old, kernel.new)))
    return f"{versions} ({', '.join(_files(kernel))})"


def _files(kernel: KernelChange) -> Iterator[str]:
    words = {True: "another", False: "the same", None: "perhaps another"}
    yield f"{words[kernel.kernel]} kernel"
    yield f"{words[kernel.initrd]} initrd"


def _persisted_text(persisted: Optional[Tuple[str, ...]]) -> str:
    if persisted is None:
        return "not known: only root may look"
    return ", ".join(map(printable, persisted)) or "nothing"
