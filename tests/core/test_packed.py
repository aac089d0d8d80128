"""Packed paths and files: what goes in comes out, and is found."""

from __future__ import annotations

from collections import Counter
from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.core.local import LocalOther, LocalOthers
from ota_cli.entries import Digest, DirEntry, FileEntry, LinkEntry
from ota_cli.packed import PackedFiles, PackedSizes
from ota_cli.packedothers import PackedDirectories, PackedLinks
from ota_cli.paths import Paths

NAMES = st.text("ab é\udcff'", min_size=1, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
#: Some differ only behind their first bytes.
DIGESTS = st.sampled_from([Digest(bytes([n]) * 8 + bytes([m]) * 24) for n in b"ab" for m in b"xyz"])
SIZES = st.none() | st.integers(0, 2**60)
MODES, OWNERS = st.integers(0, 0o7777), st.integers(0, 2**32 - 2)
TIMES = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
ENTRIES = st.builds(
    FileEntry, PATHS, MODES, OWNERS, OWNERS, DIGESTS, SIZES,
    st.none() | st.sampled_from(["1", "9" * 20]), st.booleans(), TIMES, SIZES,
)  # fmt: skip


def packed(paths: List[str]) -> Paths:
    found = Paths()
    for path in paths:
        found.append(path)
    found.sort()
    return found


@given(st.lists(PATHS, unique=True), st.lists(PATHS))
def test_every_path_is_found_in_any_order_and_no_other(paths: List[str], others: List[str]) -> None:
    found = packed(paths)
    assert list(found) == paths
    for path in [*paths, *others, *reversed(paths)]:
        row = found.find(path)
        assert (row is None) == (path not in paths)
        assert row is None or found[row] == path


@given(st.lists(PATHS, unique=True))
def test_what_lies_below_a_directory_is_found(paths: List[str]) -> None:
    found = packed(paths)
    assert {found[row] for row in found.below("/a")} == {p for p in paths if p.startswith("/a/")}


@given(st.lists(PATHS, unique=True), st.lists(PATHS, unique=True), st.lists(PATHS, unique=True))
def test_paths_are_matched_with_those_of_another_tree(
    paths: List[str], others: List[str], more: List[str]
) -> None:
    found = packed(paths)
    for there in (others, more, others):
        expected = [there.index(path) if path in there else -1 for path in paths]
        assert list(found.matched(packed(there))) == expected


@given(st.lists(PATHS))
def test_a_path_that_is_there_twice_is_told(paths: List[str]) -> None:
    row = packed(paths).doubled()
    assert (row is None) == (len(set(paths)) == len(paths))
    assert row is None or paths.index(paths[row]) < row


@given(st.lists(ENTRIES))
def test_entries_come_out_as_they_went_in(entries: List[FileEntry]) -> None:
    files = PackedFiles(entries)
    assert list(files) == entries
    assert [files[row] for row in range(len(files))] == entries


@given(st.lists(ENTRIES))
def test_repeated_contents_and_names_of_one_file_are_told(entries: List[FileEntry]) -> None:
    files = PackedFiles(entries)
    counts = Counter(entry.digest for entry in entries)
    assert files.repeated() == {digest for digest, count in counts.items() if count > 1}
    names = Counter(entry.inode for entry in entries if entry.inode is not None)
    linked = files.linked()
    for row, entry in enumerate(entries):
        group = tuple(n for n, each in enumerate(entries) if each.inode == entry.inode)
        assert linked.get(row) == (group if entry.inode and names[entry.inode] > 1 else None)


def test_times_and_blobs_are_added_to_what_is_there() -> None:
    digest = Digest(b"d" * 32)
    files = PackedFiles([FileEntry("/a", 0o644, 0, 0, digest, 5, None, True)])
    assert files.date("/a", -7)
    assert not files.date("/b", 1)
    files.measure_blobs({digest: 3, Digest(b"e" * 32): 9})
    assert (files[0].mtime_ns, files[0].blob_bytes) == (-7, 3)


DIRECTORIES = st.lists(
    st.builds(DirEntry, PATHS, MODES, OWNERS, OWNERS, TIMES), unique_by=lambda entry: entry.path
)
LINKS = st.lists(
    st.builds(LinkEntry, PATHS, NAMES, OWNERS, OWNERS, TIMES), unique_by=lambda entry: entry.path
)


@given(DIRECTORIES)
def test_packed_directories_are_what_went_in(entries: List[DirEntry]) -> None:
    packed_ones = PackedDirectories(entries)
    assert list(packed_ones) == entries
    assert list(reversed(packed_ones)) == entries[::-1]


@given(DIRECTORIES, st.lists(PATHS, unique=True))
def test_a_time_is_given_once(entries: List[DirEntry], others: List[str]) -> None:
    entries = [entry._replace(mtime_ns=None) for entry in entries]
    packed_ones = PackedDirectories(entries)
    known = {entry.path for entry in entries}
    assert [packed_ones.date(path, 7) for path in others] == [path in known for path in others]
    expected = [e._replace(mtime_ns=7) if e.path in others else e for e in entries]
    assert list(packed_ones) == expected
    for path in known & set(others):
        with pytest.raises(ValueError, match="a time already"):
            packed_ones.date(path, 7)


@given(LINKS, st.lists(PATHS, unique=True))
def test_packed_links_are_what_went_in(entries: List[LinkEntry], others: List[str]) -> None:
    packed_ones, targets = PackedLinks(entries), {entry.path: entry.target for entry in entries}
    assert list(packed_ones) == entries
    assert [packed_ones.target(path) for path in others] == [targets.get(path) for path in others]


@given(st.lists(st.tuples(DIGESTS, st.integers(0, 2**60))))
def test_packed_sizes_are_those_given(pairs: List[Tuple[Digest, int]]) -> None:
    sizes = PackedSizes()
    for digest, size in pairs:
        sizes.append(digest, size)
    sizes.sort()
    are_unique = len(dict(pairs)) == len(pairs)
    assert sizes.are_doubled() or are_unique
    assert not are_unique or sizes == dict(pairs)
    assert sizes.get(Digest(b"e" * 32)) is None


OTHERS = st.lists(
    st.builds(
        LocalOther, PATHS, st.sampled_from("dlbcps"), MODES, OWNERS, OWNERS,
        st.just("") | NAMES, st.integers(0, 2**64 - 1),
    ),
    unique_by=lambda other: other.path,
)  # fmt: skip


@given(OTHERS, st.lists(PATHS))
def test_what_else_lies_in_a_slot_is_found_by_path(
    others: List[LocalOther], more: List[str]
) -> None:
    expected = {other.path: other for other in others}
    found = LocalOthers(others)
    assert found == expected
    assert [found.get(path) for path in more] == [expected.get(path) for path in more]


@given(st.lists(PATHS, unique=True))
def test_there_is_a_sample_for_each_directory(paths: List[str]) -> None:
    samples = list(packed(paths).samples())
    assert set(samples) <= set(paths)
    parents = [path.rpartition("/")[0] for path in samples]
    assert sorted(parents) == sorted({path.rpartition("/")[0] for path in paths})
