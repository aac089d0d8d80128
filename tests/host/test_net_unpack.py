"""Decompressing while downloading: any pieces, bounded memory."""

from __future__ import annotations

import gc
import hashlib
import threading
from pathlib import Path
from typing import List

import pytest
import zstandard

from ota_cli.entries import Digest
from ota_cli.host.net_body import BlobFile
from ota_cli.host.net_staging import Blob, Staging
from ota_cli.host.net_unpack import (
    MEMORY_BYTES,
    USUAL_WINDOW_BYTES,
    WINDOW_BYTES,
    Budget,
    MoreMemory,
    Share,
    Unpacker,
)

DATA = b"".join(b"%d " % number for number in range(100_000))


def unpacked(body: bytes, piece: int, window_bytes: int = WINDOW_BYTES) -> bytes:
    out: List[bytes] = []
    unpacker = Unpacker(out.append, window_bytes)
    for start in range(0, len(body), piece):
        unpacker.feed(body[start : start + piece])
    unpacker.finish()
    return b"".join(out)


def packed(data: bytes, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level).compress(data)


@pytest.mark.parametrize("data", [b"", b"x", DATA])
@pytest.mark.parametrize("piece", [1, 17, 65536])
def test_a_body_may_come_in_any_pieces(data: bytes, piece: int) -> None:
    assert unpacked(packed(data), piece) == data


def test_a_body_that_is_no_zstd_is_an_error_however_short() -> None:
    for body in (b"x", b"x" * 100):
        with pytest.raises(zstandard.ZstdError):
            unpacked(body, 10)


def test_a_large_window_is_asked_for_before_anything_is_written() -> None:
    with pytest.raises(MoreMemory) as more:
        unpacked(packed(DATA, 19), 1000, len(DATA) - 1)
    assert more.value.window_bytes == len(DATA)


def test_a_second_frame_gets_no_larger_window_than_the_first_was_allowed() -> None:
    body = packed(b"small") + packed(DATA, 19)
    assert unpacked(body, 1000) == b"small" + DATA
    with pytest.raises(zstandard.ZstdError):
        unpacked(body, 1000, len(DATA) - 1)


def test_shares_wait_for_each_other_and_small_files_for_nobody() -> None:
    budget = Budget(MEMORY_BYTES)
    held = [Share(budget, 100_000_000) for _ in range(MEMORY_BYTES // USUAL_WINDOW_BYTES)]
    got: List[Share] = []
    waiting = threading.Thread(target=lambda: got.append(Share(budget, 1_000_000)))
    waiting.start()
    small = Share(budget, 1000)
    assert small.window_bytes == WINDOW_BYTES, "no more than its content is ever touched of it"
    waiting.join(0.2)
    assert got == []
    held.pop().close()
    waiting.join(30)
    assert [share.window_bytes for share in got] == [WINDOW_BYTES]


def test_what_needs_more_than_there_is_gets_all_of_it_alone() -> None:
    budget = Budget(MEMORY_BYTES)
    share = Share(budget, None)
    assert share.window_bytes == USUAL_WINDOW_BYTES
    share.grow(WINDOW_BYTES)
    assert share.window_bytes == WINDOW_BYTES
    share.close()
    assert Share(budget, 1_000_000_000).window_bytes == USUAL_WINDOW_BYTES


def test_a_closed_file_lets_go_of_its_window_without_the_collector(tmp_path: Path) -> None:
    digest = Digest(hashlib.sha256(DATA).digest())
    gc.collect()  # what other tests left behind
    gc.disable()
    try:
        before = _unpackers()
        blob = Blob(digest, len(DATA), "x", True)
        file = BlobFile(Staging(tmp_path, [blob]), blob, WINDOW_BYTES)
        file.feed(packed(DATA))
        file.finish()
        assert _unpackers() == before + 1
        file.close()
        assert _unpackers() == before
    finally:
        gc.enable()


def _unpackers() -> int:
    return sum(isinstance(each, Unpacker) for each in gc.get_objects())
