"""`ota history` tells how updates ended, whatever became of the file."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.cli.show import when
from ota_cli.core.history import entry_of, format_end, parse_history
from ota_cli.core.record import Transaction
from ota_cli.host.store import load_record, save_record
from ota_cli.probe import probe
from tests.conftest import Server
from tests.support.bench import Ran, ota

KEYS = {
    "txn", "kind", "outcome", "version", "from", "to", "started", "ended", "reason", "attempts",
}  # fmt: skip
END = Transaction(
    "0123abcd", "update", "fell_back", "a", "b", None, "v2",
    "2026-11-01T10:00:00Z", "2026-11-01T10:05:00Z", "the trial boot was not confirmed", 1,
)  # fmt: skip


def history(device: Path, *words: object) -> Ran:
    return ota("history", "--root", device, *words)


def updates(device: Path, *words: object) -> List[Dict[str, Any]]:
    done = history(device, "--json", *words)
    assert done.code == 0, done.out
    found: List[Dict[str, Any]] = done.result["updates"]
    return found


def history_file(device: Path) -> Path:
    return device / "boot/ota/history.jsonl"


def do(device: Path, verb: str, *words: object, code: int = 0) -> None:
    done = ota(verb, "--root", device, *words)
    assert done.code == code, done.err


def reboot(device: Path) -> str:
    return next_boot(probe(device)).slot


@pytest.fixture
def seasoned(device: Path, server: Server) -> Path:
    """An update that was confirmed, and a rollback that was."""
    do(device, "update", "--version", f"{server.url}v2/", "--cacert", server.cacert)
    for verb in ("commit", "rollback", "commit"):
        if verb == "commit":
            reboot(device)
        do(device, verb)
    return device


def test_a_device_without_history_says_so_in_one_line(device: Path) -> None:
    done = history(device)
    assert (done.code, done.err) == (0, "")
    assert done.out == "No update is known to have ended here.\n"
    assert updates(device) == []


def test_past_updates_are_one_line_each_and_the_newest_is_first(seasoned: Path) -> None:
    rollback, update = updates(seasoned)
    assert set(rollback) == set(update) == KEYS
    assert (rollback["kind"], rollback["version"]) == ("rollback", "v1")
    assert (update["kind"], update["version"]) == ("update", "v2")
    assert (update["from"], update["to"], update["outcome"]) == ("a", "b", "committed")
    assert history(seasoned).out == (
        f"{when(rollback['ended'])}  rollback  v1  b -> a  confirmed\n"
        f"{when(update['ended'])}  update    v2  a -> b  confirmed\n"
    )


def test_only_the_last_few_are_told_where_that_is_asked(seasoned: Path) -> None:
    assert [each["kind"] for each in updates(seasoned, "-n", "1")] == ["rollback"]
    assert len(updates(seasoned, "--last", "9")) == 2
    assert history(seasoned, "-n", "0").code == 2


def begun_at(device: Path, when: str) -> None:
    """The last update was begun then."""
    record = load_record(probe(device))
    assert record.transaction is not None
    begun = replace(record.transaction, started=when)
    save_record(probe(device), replace(record, transaction=begun))


def test_an_end_that_nothing_has_written_down_yet_is_told(device: Path, server: Server) -> None:
    do(device, "update", "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert (reboot(device), reboot(device)) == ("b", "a")
    assert not history_file(device).exists()
    assert "a -> b  fell back  the trial never reached user space" in history(device).out
    begun_at(device, "2026-09-21T14:00:00Z")
    (device / "proc/stat").write_text("cpu 1 2 3\nbtime 1790000000\nprocesses 4\n")
    [told] = updates(device)
    assert told["ended"] == "2026-09-21T14:13:20Z", "when this system was booted, not now"
    do(device, "activate")  # that writes it down
    assert updates(device)[0] == told
    assert len(updates(device)) == 1
    assert history_file(device).exists()


def test_what_is_armed_has_no_end(device: Path, server: Server) -> None:
    do(device, "update", "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert updates(device) == []
    do(device, "rollback")
    assert [each["outcome"] for each in updates(device)] == ["withdrawn"]


def test_damaged_lines_are_left_out_with_one_warning(seasoned: Path) -> None:
    path = history_file(seasoned)
    whole = path.read_bytes().splitlines()
    harm = [
        whole[0], whole[1][:40], b"\0" * 30, b"[]", whole[1].replace(b'"b"', b'"c"'), b'"\xff"',
        whole[1],
    ]  # fmt: skip
    path.write_bytes(b"\n".join(harm) + b"\n")
    done = history(seasoned)
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert done.err == f"warning: {path}: 5 damaged lines are left out\n"
    assert len(updates(seasoned)) == 2


def test_a_history_that_can_not_be_read_is_a_configuration_error(seasoned: Path) -> None:
    path = history_file(seasoned)
    path.write_bytes(b"x" * (1024 * 1024 + 1))
    assert history(seasoned).code == 78
    path.unlink()
    path.mkdir()
    done = history(seasoned)
    assert done.code == 78
    assert str(path) in done.err
    assert "Traceback" not in done.err
    assert history(seasoned, "--json").document["error"]["slug"] == "configuration"


def test_a_damaged_record_does_not_hide_the_history(seasoned: Path) -> None:
    (seasoned / "boot/ota/state.json").write_text("{}")
    done = history(seasoned)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert "state.json is damaged" in done.err


def test_the_history_waits_for_nobody(seasoned: Path) -> None:
    with (seasoned / "run/ota.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert len(updates(seasoned)) == 2


def test_what_is_in_the_history_can_not_steer_a_terminal(seasoned: Path) -> None:
    bad = {"version": "v\x1b[2J\u202e", "reason": "one\nupdate\x07", "outcome": "fell\x9b_back"}
    path = history_file(seasoned)
    path.write_text(
        "".join(
            json.dumps({**json.loads(line), **bad}, ensure_ascii=escaped) + "\n"
            for line, escaped in zip(path.read_text().splitlines(), (True, False))
        )
    )
    done = history(seasoned)
    lines = done.out.splitlines()
    assert len(lines) == 3  # the first is from the record: no line tells of it any more
    assert all(line.isprintable() for line in lines)
    assert "v\\x1b[2J\\u202e" in lines[1]
    assert "one\\nupdate\\x07" in lines[1]
    assert lines[1].index(" -> ") == lines[0].index(" -> ")


def test_a_line_reads_back_as_what_it_was_written_from() -> None:
    found = parse_history(format_end(END).encode())
    assert (found.ends, found.damaged) == ((END,), 0)
    assert set(entry_of(END)) == KEYS


def test_keys_of_a_newer_version_are_passed_over() -> None:
    line = json.dumps({**entry_of(END), "weather": ["fine"]}).encode()
    assert parse_history(line).ends == (END,)


def test_a_fifo_in_its_place_is_not_waited_for(seasoned: Path) -> None:
    path = history_file(seasoned)
    path.unlink()
    os.mkfifo(path)
    done = history(seasoned)
    assert done.code == 78
    assert "regular file" in done.err
