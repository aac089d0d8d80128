"""Images that are signed by somebody trusted and wicked all the same: refused in bounded room.

What else the tables of such an image may not say is in `test_bad_input` and `core/test_tables`;
here is what would cost a device its memory, its time or its disk. Where it is possible, `ota`
works in a fence: not even an attempt to write where it has no business stays unseen.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import pytest
import zstandard

from tests.support.bench import Ran, environment, ota_argv, touched
from tests.support.fence import fence_is_possible, fenced, needs_fence
from tests.support.publisher import Attempt, Publisher, add_attributes
from tests.support.trees import snapshot

#: More than the largest honest image of the tests needs, less than a wicked one wants.
MEMORY_BYTES = 1_500_000_000
TIME_S = 60


#: Below a device, what `ota` may write when it refuses an image, and when it takes one.
REFUSING = ("run",)
FILLING = ("run", "boot/ota", "slots/b")


def update(attempt: Attempt, writable: Sequence[str]) -> Ran:
    return run(attempt, writable, "update", "--root", attempt.device, *attempt.publisher.at())


def run(attempt: Attempt, writable: Sequence[str], *words: object) -> Ran:
    """Runs `ota` with little memory and little time; of the device it may write what is named."""
    argv = [*ota_argv(), *map(str, words)]
    if not fence_is_possible():
        done = subprocess.run(
            argv, capture_output=True, env=environment(), check=False, timeout=TIME_S,
            preexec_fn=limit,
        )  # fmt: skip
    else:
        places = [attempt.device / place for place in writable]
        log = attempt.device.with_name("calls")
        done, escapes = fenced(argv, places, log, environment(), TIME_S, limit)
        assert escapes == []
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


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
#: A disk that everybody may write.
NODE = b"b,0666,0,0,8,0,'%s'"
FILE = b"0644,0,0,1," + ZERO + b",'%s',%s"


def file_below_a_node(publisher: Publisher) -> None:
    add_attributes(NODE % b"/disk")(publisher)
    add("regulars.txt", FILE % (b"/disk/file", b"1"))(publisher)


class Wicked(NamedTuple):
    spoil: Callable[[Publisher], None]
    says: str


CASES = {
    "ten-million-directories": Wicked(
        many("dirs.txt", b"0755,0,0,'/d%d'\n", 10_000_000), "takes more memory"
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
    **{
        name: Wicked(add_attributes(NODE % path), says)
        for name, path, says in (
            ("a-node-below-a-link", b"/bin/disk", "'/bin/disk' lies below '/bin'"),
            ("a-node-below-a-file", b"/srv/empty/disk", "'/srv/empty/disk' lies below"),
            ("a-node-that-is-a-file-too", b"/usr/bin/sh", "'/usr/bin/sh' is in the image twice"),
            ("a-node-that-is-a-link-too", b"/bin", "'/bin' is in the image twice"),
            ("a-node-that-is-a-directory-too", b"/opt", "'/opt' is in the image twice"),
            ("a-node-where-ota-keeps-its-own", b"/.ota", "/.ota belongs to the updater"),
            ("a-node-out-of-the-slot", b"/opt/../../disk", "attributes.txt.zst line"),
            ("a-node-that-no-path-leads-to", b"disk", "path is not absolute"),
        )
    },
    "a-node-doubled": Wicked(
        add_attributes(NODE % b"/disk", NODE % b"/disk"), "'/disk' is in the image twice"
    ),
    "a-file-below-a-node": Wicked(file_below_a_node, "'/disk/file' lies below '/disk'"),
    "a-node-below-a-node": Wicked(
        add_attributes(NODE % b"/disk", NODE % b"/disk/part"), "lies below '/disk'"
    ),
    "a-node-of-no-kind": Wicked(
        add_attributes(b"s,0666,0,0,8,0,'/disk'"), "not an entry of this table"
    ),
    "a-node-that-no-kernel-has": Wicked(
        add_attributes(b"b,0666,0,0,8,1048576,'/disk'"), "1048576 is larger than"
    ),
    "a-name-that-steers-the-terminal": Wicked(
        add("dirs.txt", b"0755,0,0,'/\x1b[2J\x1b]0;evil\x07/..'"), "\\x1b[2J"
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_means_harm_is_refused_in_little_room_and_nothing_is_written(
    name: str, attempt: Attempt
) -> None:
    CASES[name].spoil(attempt.publisher)
    attempt.publisher.sign()
    done = update(attempt, REFUSING)
    assert done.code == 12, f"{done.code}: {done.err[-2000:]}"
    assert CASES[name].says in done.err
    assert "hint: " in done.err
    assert "\x1b" not in done.err
    assert touched(attempt.device) == attempt.before


def test_more_than_the_slot_can_hold_is_no_space(attempt: Attempt) -> None:
    add("regulars.txt", FILE % (b"/big", b"900000000000000"))(attempt.publisher)
    attempt.publisher.sign()
    done = update(attempt, [*REFUSING, "slots/b"])
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
    done = update(attempt, FILLING)
    assert done.code == 0, done.err
    assert [path.name for path in canary.iterdir()] == ["alive"]
    assert os.lstat(canary / "alive") == before
    assert link.is_dir()
    assert not link.is_symlink()


#: Each would write at OUT, in a way of its own, or where a link below IN leads.
WRITERS = """
open(f"{OUT}/new", "w")
open(f"{OUT}/file", "r+")
open(f"{IN}/link/new", "w")
os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=os.open(OUT, os.O_RDONLY))
os.mkdir(f"{OUT}/new")
os.symlink("x", f"{OUT}/new")
os.link(f"{OUT}/file", f"{OUT}/new")
os.mknod(f"{OUT}/new", 0o600)
os.rename(f"{OUT}/file", f"{OUT}/new")
os.rename(f"{IN}/own", f"{OUT}/own")
os.rename(f"{OUT}/file", f"{IN}/file")
os.unlink(f"{IN}/link/file")
os.rmdir(f"{OUT}/directory")
os.chmod(f"{OUT}/file", 0o666)
os.fchmod(os.open(f"{OUT}/file", os.O_RDONLY), 0o666)
os.chown(f"{OUT}/file", 1, 1)
os.utime(f"{OUT}/file")
os.setxattr(f"{OUT}/file", "user.x", b"")
os.truncate(f"{OUT}/file", 0)
subprocess.run(["touch", f"{OUT}/new"], check=True, stderr=subprocess.DEVNULL)
"""
#: These fail in a fence although nothing outside is written yet.
OTHERS = """
(os.mknod(f"{IN}/disk", 0o60666, os.makedev(8, 0)), open(f"{IN}/disk"))
subprocess.run(["mount", "-o", "remount,bind,rw", "/"], check=True, stderr=subprocess.DEVNULL)
"""
TRY_ALL = """
import os, subprocess, sys
IN, OUT = sys.argv[1:3]
open(f"{IN}/own", "w").close()
for line in sys.argv[3].split("\\n")[1:-1]:
    try:
        exec(line)
        print(f"not stopped: {line}")
    except (OSError, subprocess.CalledProcessError):
        pass
"""


@needs_fence
def test_the_fence_stops_and_tells_whatever_would_be_written_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    (outside / "directory").mkdir(parents=True)
    (outside / "file").write_text("alive")
    (inside / "link").symlink_to(outside)
    before = snapshot(outside, mtimes=True)
    argv = [sys.executable, "-c", TRY_ALL, str(inside), str(outside), WRITERS + OTHERS.lstrip()]
    done, escapes = fenced(argv, [inside], tmp_path / "calls", environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(escapes) == len(WRITERS.splitlines()) - 1, "\n".join(escapes)
    assert (inside / "own").exists()
    assert snapshot(outside, mtimes=True) == before


@needs_fence
def test_an_update_whose_slot_is_outside_the_fence_is_caught(attempt: Attempt) -> None:
    with pytest.raises(AssertionError, match="slots/b"):
        update(attempt, ["run", "boot/ota"])
