"""The objects a proxy keeps: within bounds, and right or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from ota_cli.proxy.cache import Cache, Limits, open_cache
from tests.support.blocks import mounted, needs_root, run

ROOMY = Limits(10**9, 10**9)


def key(number: int) -> str:
    return f"{number:064x}"


def put(cache: Cache, number: int, data: bytes = b"content", etag: str = "") -> bool:
    draft = cache.begin(key(number))
    if draft is None:
        return False
    try:
        draft.add(data)
        draft.finish(etag)
        return True
    except OSError:
        return False
    finally:
        draft.discard()


def read(cache: Cache, number: int) -> Optional[bytes]:
    stored = cache.find(key(number))
    if stored is None:
        return None
    with stored.stream as stream:
        return stream.read(stored.size)


def test_what_was_put_is_found_again_by_the_next_process_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOMY)
    assert put(cache, 1, b"one", '"v1"')
    for found in (cache, Cache(tmp_path, ROOMY)):
        stored = found.find(key(1))
        assert stored is not None
        with stored.stream as stream:
            assert (stream.read(stored.size), stored.etag) == (b"one", '"v1"')
    assert read(cache, 2) is None


@needs_root
def test_a_disk_that_takes_no_more_writes_still_gives_what_it_has(tmp_path: Path) -> None:
    with mounted("cache", tmp_path / "cache", kind="tmpfs") as place:
        cache = Cache(place, ROOMY)
        put(cache, 1, b"one")
        run("mount", "-o", "remount,ro", place)
        assert read(cache, 1) == b"one"


@pytest.mark.parametrize("spoil", ["flip", "cut", "zero", "grow", "empty"])
def test_a_damaged_object_is_gone(spoil: str, tmp_path: Path) -> None:
    put(Cache(tmp_path, ROOMY), 1, b"x" * 10_000)
    path = tmp_path / key(1)
    data = bytearray(path.read_bytes())
    if spoil == "flip":
        data[5000] ^= 1
    path.write_bytes({
        "flip": bytes(data), "cut": bytes(data[:6000]), "zero": bytes(len(data)),
        "grow": bytes(data) + b"\0", "empty": b"",
    }[spoil])  # fmt: skip
    cache = Cache(tmp_path, ROOMY)
    assert read(cache, 1) is None
    assert not path.exists()
    assert put(cache, 1, b"anew")
    assert read(cache, 1) == b"anew"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOMY)
    draft = cache.begin(key(1))
    assert draft is not None
    draft.add(b"half")
    (tmp_path / "foreign").mkdir()
    (tmp_path / key(2)).symlink_to("/etc/passwd")
    assert read(Cache(tmp_path, ROOMY), 1) is None
    assert list(tmp_path.iterdir()) == []
    draft.discard()


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    limits = Limits(soft_bytes=2_000_000, hard_bytes=3_000_000)
    cache = Cache(tmp_path, limits)
    for number in range(4):
        assert put(cache, number, bytes(400_000))
    assert read(cache, 0) is not None
    for number in (4, 5):
        assert put(cache, number, bytes(400_000))
    assert [number for number in range(6) if read(cache, number) is not None] == [0, 3, 4, 5]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limits.soft_bytes


def test_the_order_of_use_outlives_the_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOMY)
    for number in range(3):
        put(cache, number, bytes(400_000))
    assert read(cache, 0) is not None
    later = Cache(tmp_path, Limits(soft_bytes=1_300_000, hard_bytes=2_000_000))
    put(later, 3, bytes(400_000))
    assert read(later, 0) is not None
    assert read(later, 1) is None


def test_the_hard_limit_holds_while_objects_are_written(tmp_path: Path) -> None:
    limits = Limits(soft_bytes=1_000_000, hard_bytes=1_500_000)
    cache = Cache(tmp_path, limits)
    drafts = [cache.begin(key(number)) for number in range(20)]
    begun = [draft for draft in drafts if draft is not None]
    assert 0 < len(begun) < 20
    full = 0
    for draft in begun:
        try:
            for _ in range(10):
                draft.add(bytes(100_000))
        except OSError:
            full += 1
    assert full > 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limits.hard_bytes
    for draft in begun:
        draft.discard()
    assert list(tmp_path.iterdir()) == []
    assert put(cache, 30, bytes(700_000))


def test_a_cache_is_made_where_something_else_lies(tmp_path: Path) -> None:
    place = tmp_path / "var/cache/ota"
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path)
    with open_cache(place) as cache:
        assert put(cache, 1)
    assert place.is_dir() and not place.is_symlink()
    assert not (tmp_path / key(1)).exists()
