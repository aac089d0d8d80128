"""What a proxy has done so far."""

from __future__ import annotations

import threading
from typing import Dict


class Counts:
    """Requests and bytes, counted by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = self.hits = self.sent_bytes = self.fetched_bytes = 0

    def add(self, *, requests: int = 0, hits: int = 0, sent: int = 0, fetched: int = 0) -> None:
        """Counts some more."""
        with self._lock:
            self.requests += requests
            self.hits += hits
            self.sent_bytes += sent
            self.fetched_bytes += fetched

    @property
    def saved_bytes(self) -> int:
        """What clients got that the servers did not have to send."""
        return max(self.sent_bytes - self.fetched_bytes, 0)

    def document(self) -> Dict[str, object]:
        """As in a report."""
        return {
            "requests": self.requests,
            "hits": self.hits,
            "bytes": {
                "sent": self.sent_bytes, "fetched": self.fetched_bytes, "saved": self.saved_bytes,
            },
        }  # fmt: skip
