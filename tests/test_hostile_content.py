"""What lies where `ota` itself reads in a new system is no text it could be: refused, never waited
for."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from tests.support.publisher import Attempt, Publisher


def attributes(publisher: Publisher, *lines: bytes, without: bytes = b"") -> None:
    """Adds lines to the table of attributes, and takes those with `without` out of all tables."""
    table = publisher.directory / "attributes.txt.zst"
    before = zstandard.ZstdDecompressor().decompressobj().decompress(table.read_bytes())
    table.write_bytes(zstandard.compress(_left(before, without) + b"".join(lines)))
    regulars = publisher.directory / "regulars.txt"
    regulars.write_bytes(_left(regulars.read_bytes(), without))


def _left(table: bytes, without: bytes) -> bytes:
    lines = table.splitlines(keepends=True)
    return b"".join(line for line in lines if not (without and without in line))


@pytest.mark.parametrize("path", ["/etc/fstab", "/etc/passwd", "/etc/group"])
def test_a_fifo_where_a_text_belongs_is_not_waited_for(path: str, attempt: Attempt) -> None:
    quoted = f"'{path}'".encode()
    attributes(attempt.publisher, b"p,0644,0,0,0,0," + quoted + b"\n", without=quoted)
    attempt.publisher.sign()
    attempt.fails(12, f"{path} is not a regular file")


def test_a_fifo_for_the_kernels_arguments_is_not_waited_for(
    grub_device: Path, publisher: Publisher
) -> None:
    attributes(publisher, b"p,0644,0,0,0,0,'/etc/ota/cmdline'\n")
    publisher.sign()
    attempt = Attempt(grub_device, publisher)
    attempt.fails(12, "/etc/ota/cmdline is not a regular file", extra=("--no-self-confirm",))
