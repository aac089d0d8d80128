"""Asking another ECU over the real OpenSSH: what it says, and each way not to hear it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

import pytest

from ota_cli.core.protocol import Answer
from ota_cli.errors import OtaError
from ota_cli.events import Event, Note
from ota_cli.fleet.link import Links
from ota_cli.fleet.ssh import make_directory, remove_directory
from ota_cli.model import Device
from ota_cli.probe import probe
from tests.support.bench import BASE, make_device
from tests.support.sshd import Sshd, free_port, make_key, needs_sshd

pytestmark = needs_sshd

HELLO = {"event": "hello", "schema": 1, "version": "9", "ecu_id": "p1"}
DONE = {"exit_code": 0, "error": None, "result": {"fine": True}}


@dataclass(frozen=True)
class Pair:
    """A main ECU, and the sshd of its secondary p1."""

    device: Device
    p1: Sshd
    known_hosts: Path

    def ask(self, within_s: float = 20) -> List[object]:
        """The events and the answer of p1."""
        heard: List[object] = []
        with Links(self.device) as links:
            link = links.to(self.device.ecu.secondaries[0])
            answer = link.ask({"verb": "x"}, heard.append, time.monotonic() + within_s)
        return [*heard, answer]

    def refusal(self, within_s: float = 20) -> OtaError:
        with pytest.raises(OtaError) as caught:
            self.ask(within_s)
        assert caught.value.message.startswith("ECU p1 at 127.0.0.1 can not be asked: ")
        assert caught.value.hint
        return caught.value

    def prints(self, *lines: object) -> None:
        """From now on p1 prints `lines`: bytes as they are, other values as JSON."""
        data = b"".join(
            each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines
        )
        words = self.p1.base / "words"
        words.write_bytes(data)
        self.p1.force(f"cat {words}")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    root = make_device(tmp_path / "main", [])
    key = make_key(root / "etc/ota/key")
    with Sshd(tmp_path / "p1", key, "true", port=free_port()) as p1:
        secondary = f"ecu_id: p1, ip_addr: 127.0.0.1, ssh_port: {p1.port}"
        info = root / "boot/ota/ecu_info.yml"
        info.write_text(
            f"{info.read_text()}secondaries: [{{{secondary}, identity_file: /etc/ota/key}}]\n"
        )
        known_hosts = root / "boot/ota/known_hosts"
        known_hosts.write_text(p1.known_hosts_line())
        yield Pair(probe(root), p1, known_hosts)


def leftovers() -> List[str]:
    """Processes and directories of connections."""
    running = subprocess.run(
        ["pgrep", "-af", "^ssh .*ota-ssh-"], capture_output=True, text=True, check=False
    )
    return [*running.stdout.splitlines(), *map(str, Path("/run").glob("ota-ssh-*"))]


def test_events_and_answer_come_as_values(pair: Pair) -> None:
    pair.prints(
        HELLO, {"event": "alive"}, {"event": "note", "text": "one"}, {"event": "newer", "x": 1},
        {"event": "note", "text": "two"}, DONE,
    )  # fmt: skip
    assert pair.ask() == [Note("one"), Note("two"), Answer(0, None, {"fine": True})]


def test_several_questions_use_one_connection_and_nothing_stays(pair: Pair) -> None:
    pair.prints(HELLO, DONE)
    with Links(pair.device) as links:
        link = links.to(pair.device.ecu.secondaries[0])
        for _ in range(3):
            assert link.ask({}, ignore, time.monotonic() + 20).result == {"fine": True}
        directory = link.files.control.parent
        assert directory.stat().st_mode & 0o777 == 0o700
    assert pair.p1.logins() == 1
    assert not directory.exists()
    assert not [each for each in leftovers() if str(directory) in each]


def test_closing_does_not_stumble_over_the_socket_that_ssh_removes_meanwhile(pair: Pair) -> None:
    pair.prints(HELLO, DONE)
    for _ in range(10):
        assert len(pair.ask()) == 1


def ignore(event: Event) -> None:
    """Does not listen."""


def test_what_is_asked_is_a_constant_and_the_request_comes_on_stdin(pair: Pair) -> None:
    pair.p1.force(
        "read request; printf '%s\\n' '" + json.dumps(HELLO) + "' "
        '"{\\"exit_code\\": 0, \\"result\\": {\\"asked\\": $request, '
        '\\"command\\": \\"$SSH_ORIGINAL_COMMAND\\"}}"'
    )
    [answer] = pair.ask()
    assert isinstance(answer, Answer)
    assert answer.result == {"asked": {"verb": "x"}, "command": "ota ssh-gate"}


def test_no_agent_and_no_environment_is_lent_to_the_other_side(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("LC_SECRET", "secret")
    config = pair.p1.base / "sshd_config"
    pair.p1.stop()
    config.write_text(f"{config.read_text()}AcceptEnv *\n")
    pair.p1.start()
    pair.p1.force(
        "printf '%s\\n' '" + json.dumps(HELLO) + "' "
        '"{\\"exit_code\\": 0, \\"result\\": {\\"seen\\": \\"$SSH_AUTH_SOCK$LC_SECRET$SSH_TTY\\"}}"'
    )
    [answer] = pair.ask()
    assert isinstance(answer, Answer)
    assert answer.result == {"seen": ""}


def test_a_refused_key(pair: Pair) -> None:
    pair.p1.refuse_all_keys()
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("key-refused", 78)


def test_a_changed_host_key(pair: Pair, tmp_path: Path) -> None:
    pair.known_hosts.write_text(pair.p1.known_hosts_line(make_key(tmp_path / "other")))
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("host-key-changed", 78)
    assert str(pair.known_hosts) in error.hint


def test_an_unknown_host_key_is_never_learnt(pair: Pair) -> None:
    pair.known_hosts.write_text("")
    for _ in range(2):
        assert pair.refusal().slug == "host-key-unknown"
    assert pair.known_hosts.read_text() == ""


def test_nobody_listens(pair: Pair) -> None:
    pair.p1.stop()
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("ecu-unreachable", 69)
    assert "Connection refused" in error.message
    pair.p1.start()


def test_a_machine_that_takes_connections_and_says_nothing(pair: Pair) -> None:
    pair.p1.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        error = pair.refusal(within_s=3)
    finally:
        pair.p1.signal(signal.SIGCONT)
    assert error.exit_code == 69
    assert error.slug in ("ecu-timeout", "ecu-silent")
    assert time.monotonic() - started < 12


def test_a_key_of_ours_that_is_missing(pair: Pair) -> None:
    (pair.device.root / "etc/ota/key").unlink()
    error = pair.refusal()
    assert error.slug == "identity-file"
    assert "etc/ota/key" in error.message


def test_no_ota_there(pair: Pair) -> None:
    pair.p1.allow_any_command()
    error = pair.refusal()
    assert error.slug in ("ota-missing", "other-ecu"), "an ota of this machine may be on the PATH"
    pair.p1.force("/no/such/ota ssh-gate")
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("ota-missing", 78)
    assert "/no/such/ota" in error.message


def test_an_ota_that_knows_no_gate(pair: Pair) -> None:
    python = f"PYTHONPATH={BASE} {sys.executable}"
    code = "from ota_cli.cli.lazy import VERBS; VERBS.pop('ssh-gate'); import ota_cli.cli.main as m"
    pair.p1.force(f"""{python} -c "{code}; m.main(['ssh-gate'])" """)
    assert pair.refusal().slug == "ota-too-old"


def test_something_else_that_ends_with_a_status(pair: Pair) -> None:
    pair.p1.force("echo went wrong >&2; exit 3")
    error = pair.refusal()
    assert error.slug == "not-ota"
    assert "status 3" in error.message
    assert "went wrong" in error.message


def test_silence_after_the_hello_ends_at_the_limit(pair: Pair) -> None:
    pair.p1.force(f"echo '{json.dumps(HELLO)}'; exec sleep 100")
    started = time.monotonic()
    error = pair.refusal(within_s=3)
    assert (error.slug, error.exit_code) == ("ecu-silent", 69)
    assert time.monotonic() - started < 15


def test_an_end_in_the_middle(pair: Pair) -> None:
    pair.p1.force(f"echo '{json.dumps(HELLO)}'; kill -9 $$")
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("ecu-lost", 69)


@pytest.mark.parametrize(
    "lines",
    [
        (b"Welcome to p1!\n", HELLO, DONE),
        (b"\x1b[2J\x1b]0;owned\x07\n", HELLO, DONE),
        (HELLO, b"x" * 3_000_000),
        (HELLO, b'{"event": "note", "text": "' + b"x" * 2_000_000 + b'"}\n', DONE),
        (HELLO, b"[" * 100_000 + b"\n", DONE),
        (HELLO, b'{"exit_code": ' + b"9" * 10_000 + b"}\n"),
        (HELLO, b"\xff\xfe\n", DONE),
        (HELLO, [1, 2], DONE),
        (HELLO, {"exit_code": True}),
        (HELLO, {"exit_code": 99}),
        (HELLO, {"exit_code": 0, "result": []}),
        (HELLO, {"event": "progress", "phase": "fill", "done_bytes": -1, "total_bytes": 1}),
        (HELLO, {"event": "progress", "phase": "fill", "done_bytes": 1e9, "total_bytes": 1}),
        (HELLO, {"event": 7}),
        (DONE,),
    ],
    ids=range(15),
)
def test_what_is_not_of_the_protocol_is_refused(pair: Pair, lines: tuple[object, ...]) -> None:
    pair.prints(*lines)
    error = pair.refusal()
    assert (error.slug, error.exit_code) == ("not-ota", 78)
    assert error.message.isprintable()
    assert len(error.message) < 600


def test_words_of_the_other_side_are_short_and_can_not_steer_a_terminal(pair: Pair) -> None:
    pair.prints(HELLO, {"event": "note", "text": "\x1b[2Jred\n\u202e" + "x" * 5000}, DONE)
    note = pair.ask()[0]
    assert isinstance(note, Note)
    assert note.text.startswith("\\x1b[2Jred\\n\\u202ex")
    assert len(note.text) < 3000


def test_a_hello_of_another_ecu_or_another_age_is_refused(pair: Pair) -> None:
    pair.prints({**HELLO, "ecu_id": "p2"}, DONE)
    error = pair.refusal()
    assert error.slug == "other-ecu"
    assert "p2" in error.message
    pair.prints({**HELLO, "schema": 2, "version": "7.1"}, DONE)
    error = pair.refusal()
    assert error.slug == "other-schema"
    assert "7.1" in error.message


def test_a_failure_of_the_other_ecu_keeps_its_exit_code(pair: Pair) -> None:
    complaint = {"slug": "no-space", "message": "slot b is full", "hint": "make room"}
    pair.prints({"exit_code": 13, "error": complaint})
    with pytest.raises(OtaError) as caught:
        pair.ask()
    assert caught.value.exit_code == 13
    assert caught.value.slug == "no-space"
    assert caught.value.message == "ECU p1: slot b is full"


def test_what_floods_stderr_costs_no_memory_and_its_end_is_told(pair: Pair) -> None:
    pair.p1.force("head -c 20000000 /dev/zero >&2; echo the end >&2; exit 4")
    assert "the end" in pair.refusal().message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into /run here")
def test_a_killed_asker_leaves_no_connection_for_long(pair: Pair) -> None:
    pair.p1.force(f"echo '{json.dumps(HELLO)}'; exec cat >/dev/null")
    code = (
        "import sys, time; from pathlib import Path; from ota_cli.probe import probe\n"
        "from ota_cli.fleet.link import Links\n"
        "device = probe(Path(sys.argv[1]))\n"
        "with Links(device) as links:\n"
        "    link = links.to(device.ecu.secondaries[0])\n"
        "    with link.session({}, time.monotonic() + 60):\n"
        "        print('there', flush=True); time.sleep(60)\n"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", code, str(pair.device.root)], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(BASE)},
    )  # fmt: skip
    assert asker.stdout is not None
    assert asker.stdout.readline() == b"there\n"
    asker.kill()
    asker.communicate()
    mine = Path("/run").glob(f"ota-ssh-{asker.pid}-*")
    assert len(list(mine)) == 1
    deadline = time.monotonic() + 40
    while pair.p1.children():
        assert time.monotonic() < deadline, "the connection stays"
        time.sleep(0.2)
    pair.prints(HELLO, DONE)
    pair.ask()
    assert not list(Path("/run").glob(f"ota-ssh-{asker.pid}-*")), "the next one cleans up"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into /run here")
def test_cleaning_up_follows_no_link_and_leaves_what_others_use(pair: Pair, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    link = Path("/run/ota-ssh-0-link")
    link.symlink_to(kept)
    used = Path(f"/run/ota-ssh-{os.getpid()}-used")
    used.mkdir()
    try:
        pair.prints(HELLO, DONE)
        pair.ask()
        assert (kept / "file").exists()
        assert used.exists()
    finally:
        link.unlink()
        used.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into /run here")
def test_a_connection_that_a_killed_one_is_still_making_keeps_nobody_away() -> None:
    """Its ssh may put a socket where the next one cleans up; that is for one after it."""
    left = Path("/run/ota-ssh-0-busy")
    left.mkdir()
    code = (
        "import os, sys\n"
        "from ota_cli.fleet.ssh import make_directory, remove_directory\n"
        "def bind(event, values):\n"
        f"    if event == 'os.rmdir' and os.fspath(values[0]) == {str(left)!r}:\n"
        "        open(os.path.join(values[0], 'socket'), 'w').close()\n"
        "sys.addaudithook(bind)\n"
        "remove_directory(make_directory())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(BASE)}
    try:
        subprocess.run([sys.executable, "-c", code], check=True, env=env)
        remove_directory(make_directory())
        assert not left.exists()
    finally:
        shutil.rmtree(left, ignore_errors=True)
