"""What everybody may read of processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Set

_EVERY_S = 0.02


@contextmanager
def shown_by_processes() -> Iterator[Set[str]]:
    """The command lines and environments of all processes of this machine, as they are seen while
    the block runs: whoever began them, and whatever became of who did.
    """
    shown: Set[str] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_EVERY_S):
            for path in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):  # it has ended
                        shown.add((path / name).read_bytes().decode("utf-8", "replace"))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield shown
    finally:
        is_over.set()
        watcher.join()
