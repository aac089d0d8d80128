"""Who looks later: the journal of the device, systemd's log of a unit, and `--log-file`."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.boot.simulate import next_boot
from ota_cli.core.text import printable
from ota_cli.core.urls import redacted
from ota_cli.probe import probe
from ota_cli.render.journal import SOCKET, send_entry
from tests.conftest import Server
from tests.support.bench import Ran, environment, ota, ota_argv
from tests.support.journal import Entry, Journal


def states(entries: List[Entry]) -> List[str]:
    return [f"{each['OTA_SLOT']} {each['OTA_STATE']}" for each in entries if "OTA_STATE" in each]


def update(device: Path, server: Server, *more: object) -> Ran:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", "--root", device, *at, "--no-self-confirm", *more)
    assert done.code == 0, done.err
    return done


def test_an_interactive_run_tells_the_journal_what_it_changes(device: Path, server: Server) -> None:
    with Journal(device) as journal:
        update(device, server)
        armed = journal.entries()
        next_boot(probe(device))
        assert ota("commit", "--root", device).code == 0
        committed = journal.entries()
        assert ota("switch-slot", "--root", device, "--trust-record").code == 0
        assert ota("rollback", "--root", device).code == 0
        switched = journal.entries()
    assert states(armed) == ["b staging", "b staged", "b armed"]
    assert states(committed) == ["b trial", "b committed"]
    assert states(switched) == ["a staged", "a armed", "a withdrawn"]
    last = armed[-1]
    assert last["MESSAGE"] == "v2 in slot b is armed: the next boot tries it"
    assert (last["SYSLOG_IDENTIFIER"], last["OTA_COMMAND"], last["PRIORITY"]) == (
        "ota", "update", "5",
    )  # fmt: skip
    assert last["OTA_VERSION"] == "v2"
    assert {each["OTA_TRANSACTION"] for each in (*armed, *committed)} == {last["OTA_TRANSACTION"]}


def test_the_journal_learns_why_a_trial_fell_back_and_that_its_slot_is_bad(
    device: Path, server: Server
) -> None:
    checks = device / "etc/ota/health.d"
    checks.mkdir()
    (checks / "10-never").write_text("#!/bin/sh\nexit 1\n")
    (checks / "10-never").chmod(0o755)
    update(device, server)
    next_boot(probe(device))
    with Journal(device) as journal:
        assert ota("commit", "--root", device).code == 18
        failed = journal.entries()
        next_boot(probe(device))
        assert ota("rollback", "--root", device).code != 0  # it settles what nobody watched
        settled = journal.entries()
    assert "10-never" in failed[-1]["MESSAGE"]
    assert (failed[-1]["OTA_ERROR"], failed[-1]["OTA_EXIT_CODE"]) == ("health-check", "18")
    assert states(settled) == ["b fell_back", "b bad"]
    assert {each["PRIORITY"] for each in settled if "OTA_STATE" in each} == {"4"}
    assert "10-never" in settled[0]["MESSAGE"]


def test_what_changes_nothing_is_not_told_to_the_journal(device: Path, server: Server) -> None:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    with Journal(device) as journal:
        ota("status", "--root", device)
        ota("check", "--root", device, *at)
        assert ota("update", "--root", device, "--version", "https://127.0.0.1:1/").code == 69
        assert journal.entries() == []


def test_an_update_does_not_wait_for_a_journal_that_is_stuck(device: Path, server: Server) -> None:
    with Journal(device) as journal:
        journal.fill()
        update(device, server)


@pytest.mark.parametrize("kind", ["nothing", "a file", "a socket nobody reads"])
def test_an_update_needs_no_journal(kind: str, device: Path, server: Server) -> None:
    place = device / "run/systemd/journal"
    place.mkdir(parents=True)
    if kind == "a file":
        (place / "socket").touch()
    elif kind == "a socket nobody reads":
        with Journal(device):
            os.link(place / "socket", place / "kept")
        (place / "kept").rename(place / "socket")
    assert update(device, server).err.count("warning") == 0


@given(
    st.dictionaries(st.sampled_from(["MESSAGE", "OTA_VERSION"]), st.text(min_size=1), min_size=1)
)
def test_no_text_breaks_an_entry_or_begins_another(fields: Entry) -> None:
    with tempfile.TemporaryDirectory() as root, Journal(Path(root)) as journal:
        send_entry(Path(root) / "run/systemd/journal/socket", fields)
        told = {key: printable(redacted(value)) for key, value in fields.items()}
        assert journal.entries() == [told]


def test_lines_for_the_journal_tell_how_important_they_are(device: Path, server: Server) -> None:
    """systemd.exec(5), JOURNAL_STREAM: device and inode of the stream, which are compared."""
    words = ["update", "--root", str(device), "--version", f"{server.url}nowhere/"]
    words += ["--cacert", str(server.cacert)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        there = os.fstat(theirs.fileno())
        for stream, is_told in ((f"{there.st_dev}:{there.st_ino}", True), ("1:2", False)):
            done = subprocess.run(
                [*ota_argv(), *words], env={**environment(), "JOURNAL_STREAM": stream},
                stdout=subprocess.DEVNULL, stderr=theirs, check=False,
            )  # fmt: skip
            assert done.returncode == 12
            lines = ours.recv(1 << 16).decode().splitlines()
            marks = [re.sub(r"^(<\d>)?.*", r"\1", line) for line in lines]
            assert marks == (["<6>", "<3>", "<3>", "<3>"] if is_told else [""] * 4), lines


def test_another_stream_than_that_of_the_journal_has_no_marks(device: Path) -> None:
    there = os.stat("/dev/null")
    done = ota("activate", "--root", device, env={"JOURNAL_STREAM": f"{there.st_dev}:0"})
    assert "<3>" not in done.err
    assert done.err.startswith("ota: error:")


def test_the_log_file_has_all_that_happened(device: Path, server: Server, tmp_path: Path) -> None:
    log = tmp_path / "ota.log"
    update(device, server, "--log-file", log)
    ota("--log-file", log, "activate", "--root", device / "nowhere")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = log.read_text("utf-8").splitlines()
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (update|activate)\[\d+\] (info|notice|error): ."
    assert [line for line in lines if not re.match(form, line)] == []
    texts = [line.split(": ", 1)[1] for line in lines]
    for text in ("begins", "v2 is staged in slot b", "v2 is armed in slot b.",
                 "ends with exit code 0", "ends with exit code 78 (configuration)"):  # fmt: skip
        assert text in texts
    assert any(text.startswith("fill: ") for text in texts), "progress is there as well"
    assert [text for text in texts if "{" in text or text in ("done", "alive")] == []
    assert texts.index("filling the standby slot ...") < texts.index("v2 is staged in slot b")


def test_the_log_file_has_an_answer_that_is_not_shown(
    device: Path, server: Server, tmp_path: Path
) -> None:
    log = tmp_path / "ota.log"
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    shown = ota("check", *at)
    quiet = ota("check", "-q", *at, "--log-file", log)
    assert (quiet.code, quiet.out) == (20, "")
    *_, last = texts = [line.split(": ", 1)[1] for line in log.read_text("utf-8").splitlines()]
    assert texts[-len(shown.out.splitlines()) - 1 : -1] == shown.out.splitlines()
    assert last == "ends with exit code 20"


def test_what_ecus_tell_each_other_is_not_in_the_log_file(device: Path, tmp_path: Path) -> None:
    log = tmp_path / "ota.log"
    request = b'{"schema": 1, "verb": "status", "above": ["main"], "budget_s": 5}\n'
    said = ota("ssh-gate", "--root", device, "--log-file", log, stdin=request).out
    assert said.startswith('{"event": "hello"')
    texts = [line.split(": ", 1)[1] for line in log.read_text("utf-8").splitlines()]
    assert texts[0] == "begins"
    assert [text for text in texts if "{" in text] == []


def test_the_log_file_keeps_no_secrets(device: Path, server: Server, tmp_path: Path) -> None:
    log = tmp_path / "ota.log"
    words = ("--version", "https://me:pass-word@127.0.0.1/?key=query-key", "--cookie", "k=cookie-v")
    assert ota("check", "--root", device, *words, "--log-file", log).code == 2
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--cookie", "k=cookie-v")
    assert ota("update", "-v", "--root", device, *at, "--log-file", log).code == 0
    text = log.read_text("utf-8")
    assert "127.0.0.1" in text
    for secret in ("pass-word", "query-key", "cookie-v"):
        assert secret not in text


@pytest.mark.parametrize("kind", ["symlink", "directory", "missing", "fifo"])
def test_what_can_be_no_log_file_is_refused_before_anything_is_done(
    kind: str, device: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    if kind == "symlink":
        (tmp_path / "other").write_text("kept")
        log.symlink_to("other")
    elif kind == "directory":
        log.mkdir()
    elif kind == "missing":
        log = tmp_path / "missing/log"
    else:
        os.mkfifo(log)
    done = ota("status", "--root", device, "--log-file", log, "--json")
    assert done.code == 78
    assert str(log) in done.document["error"]["message"]
    assert done.result == {}
    if kind == "symlink":
        assert (tmp_path / "other").read_text() == "kept"


def test_a_log_file_that_can_not_be_written_is_told_of_once() -> None:
    program = (
        "import os, sys\n"
        "from ota_cli.render import logfile\n"
        "from ota_cli.render.stream import Stream\n"
        "err = Stream(sys.stderr, 'stderr')\n"
        "stream = Stream(open('/dev/full', 'a'), 'the log', complain=err)\n"
        "log = logfile.LogFile(stream, 'update')\n"
        "[log.result({'exit_code': 0}, ('done',)) for _ in range(3)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == "ota: warning: the log can not be written: No space left on device\n"


def test_events_of_the_stream_tell_the_changes_as_well(device: Path, server: Server) -> None:
    done = update(device, server, "--output", "jsonl")
    found = [json.loads(line) for line in done.out.splitlines()]
    changed = [each for each in found if each.get("event") == "changed"]
    assert [each["state"] for each in changed] == ["staging", "staged", "armed"]


def test_on_the_machine_itself_it_is_told_where_journald_listens() -> None:
    """sd_journal_send(3) sends there."""
    assert str(Path("/") / SOCKET) == "/run/systemd/journal/socket"
