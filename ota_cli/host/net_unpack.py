"""Decompressing a body while it arrives, in bounded memory over all downloads together."""

from __future__ import annotations

import threading
from typing import BinaryIO, Callable, Optional, cast

import zstandard

#: A frame that needs a larger window is refused.
WINDOW_BYTES = 128 * 1024 * 1024
#: What the windows of all downloads together may take: enough for one after the other of the
#: largest, and for all connections at once of what most images have, files of a few MiB.
MEMORY_BYTES = 32 * 1024 * 1024
#: Windows up to this size are not counted: all connections together hold no more than the rest.
_SMALL_BYTES = 256 * 1024
_OUTPUT_BYTES = 128 * 1024
#: The longest header of a frame (RFC 8878, 3.1.1.1).
_HEADER_BYTES = 18


class Budget:
    """Memory that several threads share: each waits until its part is free."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._left = total_bytes
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Waits for `count` bytes, or for all there are where that is less; how many it got."""
        got = min(count, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= got)
            self._left -= got
        return got

    def give_back(self, count: int) -> None:
        """Returns what `take` gave."""
        with self._changed:
            self._left += count
            self._changed.notify_all()


class Unpacker:
    """Takes zstd in pieces and gives what is in it to `write`, in pieces, too.

    A bomb ends at the first piece that `write` refuses. Raises ZstdError. `close` ends it.
    """

    def __init__(self, write: Callable[[bytes], None], memory: Budget) -> None:
        self._sink = cast("BinaryIO", _Sink(write))
        self._memory = memory
        self._share = 0
        self._head = b""
        self._stream: Optional[zstandard.ZstdDecompressionWriter] = None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if self._stream is not None:
            self._stream.write(chunk)
            return
        self._head += chunk
        if len(self._head) >= _HEADER_BYTES:
            self._begin()

    def finish(self) -> None:
        """There are no more bytes."""
        if self._stream is None and self._head:
            self._begin()

    def close(self) -> None:
        """Gives its memory back."""
        self._stream = None
        self._memory.give_back(self._share)
        self._share = 0

    def _begin(self) -> None:
        """Opens the stream once there is room for its window."""
        self._share = self._memory.take(_memory_of(self._head))
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        self._stream = decompressor.stream_writer(self._sink, write_size=_OUTPUT_BYTES)
        self._stream.write(self._head)


def _memory_of(head: bytes) -> int:
    """What a frame that begins with `head` will want; of one that does not tell, everything."""
    window = zstandard.get_frame_parameters(head).window_size
    if window == 0:  # a skippable frame: the one behind it is not known
        return MEMORY_BYTES
    return 0 if window <= _SMALL_BYTES else window


class _Sink:
    """What a decompressor writes to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)
