"""The index of a slot says what unchanged files hold, and nothing of others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Dict, List

import pytest
import xxhash
import zstandard

from ota_cli.entries import Digest
from ota_cli.events import silent
from ota_cli.host.index import INDEX, Indexed, remembered, write_index
from ota_cli.host.tree import scan, stat_at

NAMES = ("/one", "/sub/two", "/sub/ümlaut\udcff", "/three")


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    root = tmp_path / "slot"
    (root / "sub").mkdir(parents=True)
    (root / ".ota").mkdir()
    for name in NAMES:
        Path(f"{root}{name}").write_text(f"content of {name!a}")
    write_index(root / ".ota", indexed(root))
    return root


def indexed(root: Path) -> List[Indexed]:
    return [Indexed(name, stat_at(root, name), digest_of(root, name)) for name in NAMES]


def digest_of(root: Path, name: str) -> Digest:
    return Digest(hashlib.sha256(Path(f"{root}{name}").read_bytes()).digest())


def known(root: Path) -> Dict[str, Digest]:
    files = scan(root, silent).files
    found = remembered(root / ".ota", files)
    return {files.paths[row]: digest for row in found.rows() if (digest := found.digest(row))}


def test_what_nobody_changed_is_known(slot: Path) -> None:
    assert known(slot) == {name: digest_of(slot, name) for name in NAMES}


@pytest.mark.parametrize("year", [1600, 1900, 2300])
def test_a_file_of_any_date_is_known_like_others(slot: Path, year: int) -> None:
    """64 bits of nanoseconds begin in 1677 and end in 2262; anybody can `touch -d` beyond."""
    dated_ns = (year - 1970) * 365 * 24 * 3600 * 10**9
    os.utime(slot / "one", ns=(dated_ns, dated_ns))
    write_index(slot / ".ota", indexed(slot))
    assert set(known(slot)) == set(NAMES)


def test_what_was_written_touched_replaced_or_linked_since_is_not_known(slot: Path) -> None:
    before = (slot / "one").stat()
    (slot / "one").write_text("CONTENT OF '/one'")
    os.utime(slot / "one", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (slot / "one").stat().st_size == before.st_size
    os.utime(slot / "three")
    replacement = slot / "new"
    replacement.write_bytes((slot / "sub/two").read_bytes())
    replacement.rename(slot / "sub/two")

    assert set(known(slot)) == {NAMES[2]}


def test_a_damaged_index_says_nothing(slot: Path) -> None:
    path = slot / ".ota" / INDEX
    whole = path.read_bytes()
    turned = whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]
    for damaged in (b"", whole[:-1], whole[:10], turned, b"x" + whole[1:]):
        path.write_bytes(damaged)
        assert known(slot) == {}
    path.unlink()
    assert known(slot) == {}


@pytest.mark.parametrize(
    "inside", [b"", b"no zstd", zstandard.ZstdCompressor().compress(b"too short for a row")]
)
def test_an_index_with_a_right_checksum_over_nonsense_says_nothing(
    slot: Path, inside: bytes
) -> None:
    path = slot / ".ota" / INDEX
    checksum = xxhash.xxh3_64_intdigest(inside).to_bytes(8, "little")
    path.write_bytes(path.read_bytes()[:8] + checksum + inside)
    assert known(slot) == {}


def test_an_equal_index_is_not_written_again(slot: Path) -> None:
    before = (slot / ".ota" / INDEX).stat()
    write_index(slot / ".ota", indexed(slot))
    after = (slot / ".ota" / INDEX).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_index_is_never_written_through_a_symlink(slot: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (slot / ".ota" / f"{INDEX}.new").symlink_to(victim)
    (slot / ".ota" / INDEX).unlink()
    with pytest.raises(OSError, match="symbolic"):
        write_index(slot / ".ota", indexed(slot))
    assert victim.read_text() == "precious"
