"""Decompressing a body while it arrives, in bounded memory over all downloads together."""

from __future__ import annotations

import threading
from typing import BinaryIO, Callable, Optional, cast

import zstandard

#: A frame that needs a larger window is refused.
WINDOW_BYTES = 128 * 1024 * 1024
#: What all downloads together may decompress into.
MEMORY_BYTES = 16 * 1024 * 1024
#: The window of most images: levels up to 19 have no larger one.
USUAL_WINDOW_BYTES = 8 * 1024 * 1024
#: Contents up to this size are not counted: all connections together hold no more than the rest.
_SMALL_BYTES = 256 * 1024
_OUTPUT_BYTES = 128 * 1024
#: The longest header of a frame (RFC 8878, 3.1.1.1).
_HEADER_BYTES = 18


class MoreMemory(Exception):
    """A frame needs a larger window than there is room for; to be asked for again with it."""

    def __init__(self, window_bytes: int) -> None:
        super().__init__(window_bytes)
        self.window_bytes = window_bytes


class Budget:
    """Memory that several threads share, first come, first served."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._left = total_bytes
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Waits for `count` bytes, or for all there are where that is less; how many it got."""
        got = min(count, self._total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._left >= got)
            self._left -= got
        return got

    def give_back(self, count: int) -> None:
        """Returns what `take` gave."""
        with self._changed:
            self._left += count
            self._changed.notify_all()


class Share:
    """The memory that one download decompresses into; waiting for it must not hold a connection.

    `size`: of the content, None if not known: no more than that of a window is ever touched.
    """

    def __init__(self, budget: Budget, size: Optional[int]) -> None:
        self._budget = budget
        self._size = size
        usual = USUAL_WINDOW_BYTES if size is None else min(size, USUAL_WINDOW_BYTES)
        self._got = budget.take(usual) if usual > _SMALL_BYTES else 0

    @property
    def window_bytes(self) -> int:
        """The largest window that may be opened."""
        is_enough = self._size is not None and self._size <= max(self._got, _SMALL_BYTES)
        if is_enough or self._got >= MEMORY_BYTES:
            return WINDOW_BYTES
        return max(self._got, _SMALL_BYTES)

    def grow(self, window_bytes: int) -> None:
        """Waits for room for such a window."""
        self.close()
        self._got = self._budget.take(window_bytes)

    def close(self) -> None:
        """Gives the memory back."""
        self._budget.give_back(self._got)
        self._got = 0


class Unpacker:
    """Takes zstd in pieces and gives what is in it to `write`, in pieces, too.

    A bomb ends at the first piece that `write` refuses, or with its window: no frame may have
    one of more than `window_bytes`. Raises ZstdError, and MoreMemory where the first frame is
    within what is allowed at all.
    """

    def __init__(self, write: Callable[[bytes], None], window_bytes: int) -> None:
        self._sink = cast("BinaryIO", _Sink(write))
        self._window_bytes = window_bytes
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

    def _begin(self) -> None:
        window = zstandard.get_frame_parameters(self._head).window_size
        window = window or WINDOW_BYTES  # a skippable frame: the one behind it is not known
        if self._window_bytes < window <= WINDOW_BYTES:
            raise MoreMemory(window)
        decompressor = zstandard.ZstdDecompressor(max_window_size=self._window_bytes)
        self._stream = decompressor.stream_writer(self._sink, write_size=_OUTPUT_BYTES)
        self._stream.write(self._head)


class _Sink:
    """What a decompressor writes to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)
