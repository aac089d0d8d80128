"""What a plan changes, for people: only what is large or not known needs more than an update."""

from __future__ import annotations

import hashlib
from typing import Optional

import pytest

from ota_cli.core.changes import count_files, is_other_file, largest
from ota_cli.core.delta import make_plan
from ota_cli.core.local import Content, LocalTree
from ota_cli.core.plan import FileStep, Plan, Source
from ota_cli.entries import Digest, FileEntry
from ota_cli.model import Tables
from ota_cli.packed import PackedFiles
from ota_cli.packedothers import PackedDirectories, PackedLinks


def entry(path: str, size: int) -> FileEntry:
    digest = Digest(hashlib.sha256(path.encode()).digest())
    return FileEntry(path, 0o644, 0, 0, digest, size, None, False)


FILES = PackedFiles(entry(f"/{number:02}", 10 + number % 20) for number in range(40))


def plan() -> Plan:
    tables = Tables(PackedDirectories(), PackedLinks(), FILES, (), None)
    return make_plan(tables, LocalTree(), Content())


def test_ten_downloads_are_named_those_of_equal_size_in_the_order_of_their_names() -> None:
    found = largest(plan(), lambda step: step.entry.size or 0)
    assert [each.path for each in found] == [
        "/19", "/39", "/18", "/38", "/17", "/37", "/16", "/36", "/15", "/35",
    ]  # fmt: skip


def test_what_is_brought_to_an_empty_slot_is_new() -> None:
    counts = count_files(plan(), FILES, LocalTree(), owners=True)
    assert (counts.new, sum(counts)) == (40, 40)


@pytest.mark.parametrize(
    ("source", "origin", "booted", "is_other_version", "is_other"),
    [
        (Source.COPIED, "/k", None, False, False),
        (Source.COPIED, "/elsewhere", None, False, None),
        (Source.DOWNLOADED, "", None, False, True),
        (Source.KEPT, "", None, False, None),
        (Source.KEPT, "", None, True, True),
        (Source.KEPT, "", entry("/k", 1).digest.hex(), True, False),
        (Source.COPIED, "/k", "00" * 32, False, True),
    ],
)
def test_what_boots_tells_first_whether_a_kernel_is_another_then_the_plan(
    source: Source, origin: str, booted: Optional[str], is_other_version: bool,
    is_other: Optional[bool],
) -> None:  # fmt: skip
    step = FileStep(source, entry("/k", 1), (), origin)
    assert is_other_file(step, booted, is_other_version) is is_other
    assert is_other_file(None, booted, is_other_version) is None
