"""Decompressing while downloading: any pieces, bounded memory."""

from __future__ import annotations

import threading
from typing import List

import pytest
import zstandard

from ota_cli.host.net_unpack import MEMORY_BYTES, Budget, Unpacker

DATA = b"".join(b"%d " % number for number in range(100_000))


def unpacked(body: bytes, piece: int, memory: Budget) -> bytes:
    out: List[bytes] = []
    unpacker = Unpacker(out.append, memory)
    for start in range(0, len(body), piece):
        unpacker.feed(body[start : start + piece])
    unpacker.finish()
    unpacker.close()
    return b"".join(out)


@pytest.mark.parametrize("data", [b"", b"x", DATA])
@pytest.mark.parametrize("piece", [1, 17, 65536])
def test_a_body_may_come_in_any_pieces(data: bytes, piece: int) -> None:
    body = zstandard.ZstdCompressor().compress(data)
    assert unpacked(body, piece, Budget(MEMORY_BYTES)) == data


def test_a_body_that_is_no_zstd_is_an_error_however_short() -> None:
    for body in (b"x", b"x" * 100):
        with pytest.raises(zstandard.ZstdError):
            unpacked(body, 10, Budget(MEMORY_BYTES))


def test_large_windows_wait_for_each_other_and_small_ones_for_nobody() -> None:
    memory = Budget(len(DATA) + 1)
    large = zstandard.ZstdCompressor(level=19).compress(DATA)
    first = Unpacker(lambda data: None, memory)
    first.feed(large)
    second: List[bytes] = []
    waiting = threading.Thread(target=lambda: second.append(unpacked(large, 1000, memory)))
    waiting.start()
    small = zstandard.ZstdCompressor().compress(b"small")
    assert unpacked(small, 1000, memory) == b"small"
    waiting.join(0.2)
    assert waiting.is_alive()
    assert second == []
    first.close()
    waiting.join(30)
    assert second == [DATA]


def test_what_wants_more_than_there_is_gets_all_of_it() -> None:
    body = zstandard.ZstdCompressor(level=19).compress(DATA)
    assert unpacked(body, 1000, Budget(1000)) == DATA
