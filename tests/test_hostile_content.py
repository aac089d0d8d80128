"""Images that are signed and wicked, by what `ota` itself reads of them: refused, never waited for,
in bounded time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.support.bench import Ran, environment, ota_argv
from tests.support.publisher import Attempt, Publisher, add_attributes


@pytest.mark.parametrize("path", ["/etc/fstab", "/etc/passwd", "/etc/group"])
def test_a_fifo_where_a_text_belongs_is_not_waited_for(path: str, attempt: Attempt) -> None:
    quoted = f"'{path}'".encode()
    regulars = attempt.publisher.directory / "regulars.txt"
    lines = regulars.read_bytes().splitlines(keepends=True)
    regulars.write_bytes(b"".join(line for line in lines if quoted not in line))
    add_attributes(b"p,0644,0,0,0,0," + quoted)(attempt.publisher)
    attempt.publisher.sign()
    attempt.fails(12, f"{path} is not a regular file")


def test_a_fifo_for_the_kernels_arguments_is_not_waited_for(
    grub_device: Path, publisher: Publisher
) -> None:
    add_attributes(b"p,0644,0,0,0,0,'/etc/ota/cmdline'")(publisher)
    publisher.sign()
    attempt = Attempt(grub_device, publisher)
    attempt.fails(12, "/etc/ota/cmdline is not a regular file", extra=("--no-self-confirm",))


def test_many_attributes_of_one_file_cost_no_time(attempt: Attempt) -> None:
    lines = (b"x,'user.%d',,'/etc'" % number for number in range(200_000))
    add_attributes(*lines)(attempt.publisher)
    attempt.publisher.sign()
    attempt.fails(12, "more than 1000 extended attributes of one file")


@pytest.mark.parametrize("name", [b"bogus", b"user.", b"system.data"])
def test_an_attribute_that_no_file_can_have_is_refused_before_anything_is_written(
    name: bytes, attempt: Attempt
) -> None:
    add_attributes(b"x,'%s',AA==,'/etc'" % name)(attempt.publisher)
    attempt.publisher.sign()
    done = attempt.fails(12, "no file can have an extended attribute of this name")
    assert "Nothing on this device was changed." in done.err


def test_an_access_list_that_is_none_is_the_images_fault(attempt: Attempt) -> None:
    add_attributes(b"x,'system.posix_acl_access',AgAAAAE=,'/etc'")(attempt.publisher)
    attempt.publisher.sign()
    if os.geteuid() == 0:  # nobody else applies it
        attempt.fails(12, "the image's system.posix_acl_access is none that Linux takes")
    else:
        attempt.completes()


def test_a_symlink_has_no_attributes_of_users(attempt: Attempt) -> None:
    symlinks = (attempt.publisher.directory / "symlinks.txt").read_bytes()
    path = symlinks.split(b"'")[1]
    add_attributes(b"x,'user.a',AA==,'%s'" % path)(attempt.publisher)
    attempt.publisher.sign()
    attempt.fails(12, "is neither file nor directory")


def test_directories_within_each_other_do_not_fill_the_memory(attempt: Attempt) -> None:
    """Ten megabytes of table, of which each line names two thousand directories."""
    with (attempt.publisher.directory / "dirs.txt").open("ab") as table:
        table.writelines(b"0755,0,0,'/%d%s'\n" % (n, b"/d" * 2000) for n in range(2500))
    attempt.publisher.sign()
    done = limited(attempt)
    assert done.code == 12, done.err
    assert "names of the directories" in done.err


def test_as_many_entries_as_a_table_may_have_are_refused_where_they_do_not_fit(
    attempt: Attempt,
) -> None:
    with (attempt.publisher.directory / "dirs.txt").open("ab") as table:
        for start in range(0, 3_500_000, 100_000):
            table.writelines(b"0755,0,0,'/d%d'\n" % n for n in range(start, start + 100_000))
    attempt.publisher.sign()
    done = limited(attempt)
    assert done.code == 12, done.err
    assert "takes more memory" in done.err


def limited(attempt: Attempt) -> Ran:
    """A check with 1 GB of address space and a minute."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))

    done = subprocess.run(
        [*ota_argv(), "check", "--root", str(attempt.device), *attempt.publisher.at()],
        capture_output=True, env=environment(), check=False, timeout=60, preexec_fn=limit,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
