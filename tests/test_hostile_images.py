"""Images that are signed by somebody trusted and wicked all the same: refused in bounded room.

What the tables of such an image may not say is in `test_bad_input` and `core/test_tables`; here
is what would cost a device its memory, its time or its disk.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from typing import Callable, NamedTuple

import pytest
import zstandard

from tests.support.bench import Ran, environment, ota_argv, touched
from tests.support.publisher import Attempt, Publisher

#: More than the largest honest image of the tests needs, less than a wicked one wants.
MEMORY_BYTES = 1_500_000_000
TIME_S = 60


def check(attempt: Attempt, verb: str = "check") -> Ran:
    """Runs `verb` with little memory and little time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    done = subprocess.run(
        [*ota_argv(), verb, "--root", str(attempt.device), *attempt.publisher.at()],
        capture_output=True, env=environment(), check=False, timeout=TIME_S, preexec_fn=limit,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def add(name: str, *lines: bytes) -> Callable[[Publisher], None]:
    """Appends lines to a table."""

    def spoil(publisher: Publisher) -> None:
        with (publisher.directory / name).open("ab") as table:
            for line in lines:
                table.write(line + b"\n")

    return spoil


def many(name: str, line: bytes, times: int) -> Callable[[Publisher], None]:
    """Appends as many lines, all different, in about a second."""

    def spoil(publisher: Publisher) -> None:
        with (publisher.directory / name).open("ab") as table:
            for start in range(0, times, 100_000):
                numbers = range(start, start + 100_000)
                table.write(b"".join(line % number for number in numbers))

    return spoil


def bomb(publisher: Publisher) -> None:
    """A table of attributes of 8 GB, in little of it."""
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    piece = b"z,1," + b"0" * 64 + b"\n"
    with (publisher.directory / "attributes.txt.zst").open("wb") as table:
        for _ in range(8_000):
            table.write(packer.compress(piece * 14_500))
        table.write(packer.flush())


ZERO = b"0" * 64
FILE = b"0644,0,0,1," + ZERO + b",'%s',%s"


class Wicked(NamedTuple):
    spoil: Callable[[Publisher], None]
    says: str


CASES = {
    "ten-million-directories": Wicked(
        many("dirs.txt", b"0755,0,0,'/d%d'\n", 10_000_000), "dirs.txt has more than 5000000 lines"
    ),
    "a-line-of-100-MB": Wicked(
        add("regulars.txt", b"0644," + b"9" * 100_000_000), "is longer than 16384 bytes"
    ),
    "a-link-to-100-MB": Wicked(
        add("symlinks.txt", b"0777,0,0,'/l','" + b"x" * 100_000_000 + b"'"), "is longer than"
    ),
    "a-bomb-of-attributes": Wicked(bomb, "attributes.txt.zst"),
    "a-path-too-deep": Wicked(
        add("dirs.txt", b"0755,0,0,'" + b"/d" * 2500 + b"'"), "path is longer than 4096 bytes"
    ),
    "a-name-too-long": Wicked(
        add("dirs.txt", b"0755,0,0,'/" + b"n" * 256 + b"'"), "name is longer than 255 bytes"
    ),
    "one-inode-of-two-contents": Wicked(
        add(
            "regulars.txt",
            b"0644,0,0,2," + ZERO + b",'/one',1,7777",
            b"0644,0,0,2," + b"1" * 64 + b",'/two',1,7777",
        ),
        "/two",
    ),
    "a-size-that-is-no-size": Wicked(
        add("regulars.txt", FILE % (b"/big", b"9" * 30)), "regulars.txt line"
    ),
    "a-file-that-is-a-directory-too": Wicked(add("regulars.txt", FILE % (b"/etc", b"1")), "/etc"),
    "a-file-below-itself": Wicked(
        add("regulars.txt", FILE % (b"/x", b"1"), FILE % (b"/x/y", b"1")), "/x"
    ),
    "a-name-that-steers-the-terminal": Wicked(
        add("dirs.txt", b"0755,0,0,'/\x1b[2J\x1b]0;evil\x07/..'"), "\\x1b[2J"
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_would_cost_too_much_is_refused_in_little_room(name: str, attempt: Attempt) -> None:
    CASES[name].spoil(attempt.publisher)
    attempt.publisher.sign()
    done = check(attempt)
    assert done.code == 12, f"{done.code}: {done.err[-2000:]}"
    assert CASES[name].says in done.err
    assert "hint: " in done.err
    assert "\x1b" not in done.err
    assert touched(attempt.device) == attempt.before


def test_more_than_the_slot_can_hold_is_no_space(attempt: Attempt) -> None:
    add("regulars.txt", FILE % (b"/big", b"900000000000000"))(attempt.publisher)
    attempt.publisher.sign()
    done = check(attempt, "update")
    assert done.code == 13, done.err
    assert touched(attempt.device) == attempt.before


@pytest.mark.parametrize("place", ["opt", "usr/share", "srv/types"])
def test_a_link_that_was_planted_in_the_slot_leads_nowhere(
    place: str, attempt: Attempt, tmp_path: Path
) -> None:
    """Where the image has a directory the standby slot has a link out of it, before the fill."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "alive").write_text("sings")
    link = attempt.device / "slots/b" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(canary)
    before = os.lstat(canary / "alive")
    done = check(attempt, "update")
    assert done.code == 0, done.err
    assert [path.name for path in canary.iterdir()] == ["alive"]
    assert os.lstat(canary / "alive") == before
    assert link.is_dir()
    assert not link.is_symlink()
