"""Signs of life between two ECUs: silence means that the other one is gone."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Callable, Iterator

#: Both sides say something at least this often, and take `SILENCE_S` seconds without a word for
#: the end: the gate, too, ends where nobody listens any more.
BEAT_S = 5.0
SILENCE_S = 30.0


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Calls `beat` every `BEAT_S` seconds, from a thread of its own, while the block runs."""
    done = threading.Event()

    def keep_on() -> None:
        while not done.wait(BEAT_S):
            beat()

    beater = threading.Thread(target=keep_on, daemon=True)
    beater.start()
    try:
        yield
    finally:
        done.set()
        beater.join()
