"""`ota ssh-gate`: what an ECU above may ask, and that it ends when nobody listens any more."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.core.requests import (
    AskCheck,
    AskCommit,
    AskDisarm,
    AskReboot,
    AskStatus,
    AskSwitch,
    AskUpdate,
    Go,
    Request,
    compose_go,
    compose_request,
    parse_go,
    parse_request,
)
from ota_cli.errors import UsageProblem
from ota_cli.probe import probe
from tests.conftest import Server
from tests.fleet.conftest import timeless
from tests.support.bench import environment, ota, ota_argv

STATUS: Dict[str, Any] = {"schema": 1, "verb": "status", "above": ["main"], "budget_s": 5}

UPDATE: Dict[str, Any] = {
    "schema": 1, "verb": "update", "above": ["main"], "txn": "0123456789ab",
    "url": "https://127.0.0.1:1/v2/",
}  # fmt: skip
DISARM: Dict[str, Any] = {"schema": 1, "verb": "disarm", "above": ["main"], "txn": "0123456789ab"}

COMMIT: Dict[str, Any] = {**DISARM, "verb": "commit", "ecus": ["bench"]}
SWITCH: Dict[str, Any] = {**DISARM, "verb": "switch", "kind": "rollback"}
GO: Dict[str, Any] = {"go": "arm", "txn": UPDATE["txn"], "jointly": False}


@contextmanager
def gate(device: Path, env: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[bytes]]:
    """The gate of `device`, to talk to."""
    running = subprocess.Popen(
        [*ota_argv(), "ssh-gate", "--root", str(device)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env={**environment(), **env},
    )  # fmt: skip
    try:
        yield running
    finally:
        running.kill()
        with suppress(BrokenPipeError):  # what is left for its stdin
            running.communicate()


def lines_of(running: subprocess.Popen[bytes], request: object) -> List[Dict[str, Any]]:
    """All it says to `request`, its stdin held open until it has ended by itself."""
    assert running.stdin is not None
    assert running.stdout is not None
    with suppress(BrokenPipeError):  # it had enough
        running.stdin.write(json.dumps(request).encode() + b"\n")
        running.stdin.flush()
    found = [json.loads(line) for line in running.stdout]
    running.wait(timeout=20)
    return found


def test_the_first_line_is_hello_and_the_last_is_the_document(device: Path) -> None:
    with gate(device) as running:
        first, *_, last = lines_of(running, STATUS)
    assert first == {"event": "hello", "schema": 1, "version": "0.1.0", "ecu_id": "bench"}
    assert (last["command"], last["ok"], last["exit_code"]) == ("ssh-gate", True, 0)
    itself = ota("status", "--root", device, "--json").result
    assert timeless(last["result"]) == timeless(itself)


def test_no_option_changes_what_it_prints(device: Path) -> None:
    words = ("ssh-gate", "--root", device, "--output", "plain")
    done = ota(*words, stdin=b"{}\n", env={"OTA_OUTPUT": "rich"})
    assert [set(json.loads(line)) >= {"event"} for line in done.out.splitlines()] == [True, False]


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {},
        {**STATUS, "schema": 2},
        {**STATUS, "verb": "setup"},
        {**STATUS, "verb": "status; reboot"},
        {**STATUS, "root": "/"},
        {**STATUS, "budget_s": -1},
        {**STATUS, "budget_s": "5"},
        {**STATUS, "above": "main"},
        {**STATUS, "above": [1]},
        {**STATUS, "above": ["x" * 200_000]},
        {**UPDATE, "insecure_http": True},
        {**UPDATE, "cacert": "/tmp/ca.pem"},
        {**UPDATE, "no_self_confirm": True},
        {**UPDATE, "txn": "x ota.slot=a"},
        {**UPDATE, "txn": None},
        {**UPDATE, "url": "file:///etc/"},
        {**UPDATE, "url": "v2"},
        {**UPDATE, "url": "http://127.0.0.1:1/v2/"},
        {**UPDATE, "stage_only": 1},
        {**UPDATE, "proxy": "--help"},
        {**DISARM, "txn": "*"},
        {**SWITCH, "kind": "update"},
        {**SWITCH, "slot": "c"},
        {**SWITCH, "staged": "*"},
        {**COMMIT, "ecus": "bench"},
        {**COMMIT, "force": True},
    ],
    ids=range(27),
)
def test_what_is_not_on_the_list_is_refused(device: Path, request_: object) -> None:
    with gate(device) as running:
        *_, last = lines_of(running, request_)
        assert running.returncode == last["exit_code"]
    assert last["exit_code"] in (2, 143), "a line without end ends it"
    assert last["error"]["footprint"] == "nothing"


def test_a_request_is_read_as_it_was_written() -> None:
    url = "https://10.0.0.1/{ecu_id}/"
    requests: List[Request] = [
        AskStatus(("main", "p1"), 17),
        AskDisarm(("main",), "0123456789ab"),
        AskCheck(("main",), url, "v2", True, True, "http://10.0.0.1:80"),
        AskCheck(("main",), url, ecus=("p1",)),
        AskSwitch(("main",), "0123456789ab", "rollback", ("p1",)),
        AskSwitch((), "0123456789ab", "activate", None, "ba9876543210", "v2", "b", True),
        AskCommit(("main",), "0123456789ab", ("p1", "p2")),
        AskReboot(("main",), "0123456789ab", ("p1", "p2")),
        AskUpdate((), "0123456789ab", url),
        AskUpdate((), "0123456789ab", url, "v2", ("p1",), True, True, True, "http://10.0.0.1:80"),
        AskUpdate((), "0123456789ab", url, verify_writes=True),
    ]
    for request in requests:
        assert parse_request(json.dumps(compose_request(request)).encode()) == request
    go = Go("0123456789ab", True)
    assert parse_go(json.dumps(compose_go(go)).encode()) == go
    with pytest.raises(UsageProblem, match="not JSON"):
        parse_request(b"status")


def test_an_older_ota_hears_of_no_key_that_it_need_not_know() -> None:
    assert "verify_writes" not in compose_request(AskUpdate((), "0123456789ab", "https://x/"))


def test_a_key_for_the_gate_runs_nothing_else(device: Path) -> None:
    for command in ("ota update --version https://x/", "sh", "ota ssh-gate; sh", ""):
        with gate(device, {"SSH_ORIGINAL_COMMAND": command}) as running:
            [last] = lines_of(running, STATUS)
        assert (last["exit_code"], last["error"]["slug"]) == (2, "gate-only")
    with gate(device, {"SSH_ORIGINAL_COMMAND": "ota ssh-gate"}) as running:
        assert lines_of(running, STATUS)[-1]["ok"]


def test_a_broken_configuration_is_told(device: Path) -> None:
    (device / "boot/ota/ecu_info.yml").write_text("ecu_id: [x]\n")
    with gate(device) as running:
        [last] = lines_of(running, STATUS)
    assert last["exit_code"] == 78
    assert "ecu_info.yml:1" in last["error"]["message"]


def test_a_question_that_came_back_is_not_asked_for_ever(device: Path) -> None:
    with gate(device) as running:
        *_, last = lines_of(running, {**STATUS, "above": ["main", "bench", "p2"]})
    assert last["error"]["slug"] == "ecu-circle"
    assert "main > bench > p2 > bench" in last["error"]["message"]


def test_nothing_is_done_for_somebody_who_asks_nothing(device: Path) -> None:
    with gate(device) as running:
        started = time.monotonic()
        assert running.stdout is not None
        *_, last = [json.loads(line) for line in running.stdout]
    assert last["error"]["slug"] == "request"
    assert 5 < time.monotonic() - started < 20


def test_it_ends_when_the_ecu_above_is_gone(device: Path) -> None:
    with gate(device) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert b"hello" in running.stdout.readline()
        gone = time.monotonic()
        running.stdin.close()
        running.stdin = None
        assert running.wait(timeout=20) == 143
        assert time.monotonic() - gone < 10


def test_it_ends_when_the_ecu_above_is_gone_without_having_heard_all(device: Path) -> None:
    above, here = socket.socketpair()
    with above, here:
        argv = [*ota_argv(), "ssh-gate", "--root", str(device)]
        running = subprocess.Popen(
            argv, stdin=here, stdout=here, stderr=subprocess.PIPE, env=environment()
        )
        select.select([above], [], [], 20)  # its hello is there, and nobody reads it
    with running:
        assert running.wait(timeout=20) == 143
        assert running.stderr is not None
        assert running.stderr.read() == b""


def ask(device: Path, request: object) -> Dict[str, Any]:
    """The document that ends the answer to `request`."""
    with gate(device) as running:
        *_, last = lines_of(running, request)
    return last


def boots_next(device: Path) -> str:
    slot: str = ota("status", "--root", device, "--json").result["next"]
    return slot


def test_disarming_takes_back_that_transaction_and_no_other(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at).code == 0
    txn = ota("status", "--root", device, "--json").result["last_update"]["txn"]
    assert ask(device, DISARM)["result"]["disarmed"] is False
    assert boots_next(device) == "b"
    assert ask(device, {**DISARM, "txn": txn})["result"]["disarmed"] is True
    assert boots_next(device) == "a"
    assert ask(device, {**DISARM, "txn": txn})["result"]["disarmed"] is False
    assert ota("activate", "--root", device).code == 0, "what was staged is there still"


def test_what_runs_already_can_not_be_disarmed(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at).code == 0
    txn = ota("status", "--root", device, "--json").result["last_update"]["txn"]
    next_boot(probe(device))
    assert ask(device, {**DISARM, "txn": txn})["exit_code"] == 75


@pytest.fixture
def on_joint_trial(device: Path, server: Server) -> Path:
    """A device on trial in an update of several ECUs; its checks have not run."""
    settings = device / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}cacert: {server.cacert}\n")
    with gate(device) as running:
        staged(running, {**UPDATE, "url": f"{server.url}v2/"})
        lines_of(running, {**GO, "jointly": True})
    next_boot(probe(device))
    return device


def test_only_what_waits_in_that_transaction_is_confirmed(on_joint_trial: Path) -> None:
    device = on_joint_trial
    assert "does not wait to be confirmed" in refusal(device, COMMIT)

    assert not ota("commit", "--root", device, "--json").result["confirmed"]
    other = {**COMMIT, "txn": "ffffffffffff"}
    assert "another update or switch was begun" in refusal(device, other)
    nobody = ask(device, {**COMMIT, "ecus": ["p9"]})["result"]
    assert nobody == {"confirmed": [], "refused": {}}
    assert boots_next(device) == "a", "nothing was confirmed yet"

    for _ in range(2):
        assert ask(device, COMMIT)["result"] == {"confirmed": ["bench"], "refused": {}}
    assert boots_next(device) == "b"
    assert ask(device, DISARM)["exit_code"] == 17, "what is confirmed can not be taken back"


def refusal(device: Path, request: object) -> str:
    why: str = ask(device, request)["result"]["refused"]["bench"]
    return why


def test_a_good_old_system_that_booted_by_itself_is_confirmed_alone(on_joint_trial: Path) -> None:
    device = on_joint_trial
    assert ota("commit", "--root", device).code == 0
    assert ask(device, COMMIT)["result"]["confirmed"] == ["bench"]
    (device / "proc/cmdline").write_text("ota.slot=a\n")
    assert ota("status", "--root", device, "--json").result["verdict"]["code"] == "disagree"
    assert ota("commit", "--root", device, "--json").result["confirmed"]
    assert boots_next(device) == "a"


@pytest.mark.parametrize("is_healthy", [True, False])
def test_what_is_given_up_is_never_confirmed_and_stays_staged(
    on_joint_trial: Path, is_healthy: bool
) -> None:
    device = on_joint_trial
    if is_healthy:
        assert ota("commit", "--root", device).code == 0
    assert ask(device, DISARM)["result"]["returns_by_reboot"] is is_healthy
    assert ota("commit", "--root", device).code == 18, "its unit reboots"
    assert "took it back" in refusal(device, COMMIT)
    next_boot(probe(device))
    status = ota("status", "--root", device, "--json").result
    assert (status["running"], status["slots"]["b"]["state"]) == ("a", "staged")
    assert "the ECU above took it back" in status["verdict"]["text"]
    assert ota("activate", "--root", device).code == 0


def test_a_failing_check_tells_more_than_that_it_was_given_up(on_joint_trial: Path) -> None:
    device = on_joint_trial
    check = device / "etc/ota/health.d/check"
    check.parent.mkdir()
    check.write_text("#!/bin/sh\nexit 1\n")
    check.chmod(0o755)
    ask(device, DISARM)
    assert ota("commit", "--root", device).code == 18
    next_boot(probe(device))
    status = ota("status", "--root", device, "--json").result
    assert status["slots"]["b"]["state"] == "bad"
    assert "health check" in status["verdict"]["text"]


def test_rollback_leaves_a_healthy_trial_and_its_image_counts_as_failed(
    on_joint_trial: Path,
) -> None:
    device = on_joint_trial
    assert ota("commit", "--root", device).code == 0
    assert ota("rollback", "--root", device).code == 0
    next_boot(probe(device))
    status = ota("status", "--root", device, "--json").result
    assert (status["running"], status["verdict"]["code"]) == ("a", "fell_back")
    assert status["slots"]["b"]["state"] == "bad"
    assert "`ota rollback` rejected it" in refusal(device, COMMIT)


def test_what_is_not_armed_or_runs_already_is_not_rebooted_into(
    device: Path, server: Server
) -> None:
    reboot = {**COMMIT, "verb": "reboot"}
    unarmed = ask(device, reboot)
    assert (unarmed["exit_code"], unarmed["error"]["slug"]) == (15, "not-armed")
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    assert ota("update", *at).code == 0
    txn = ota("status", "--root", device, "--json").result["last_update"]["txn"]
    below_root = ask(device, {**reboot, "txn": txn})
    assert "only this machine can be rebooted" in below_root["error"]["message"]
    next_boot(probe(device))
    assert ask(device, {**reboot, "txn": txn})["result"] == {"rebooting": False}


def staged(running: subprocess.Popen[bytes], request: object) -> None:
    """Returns when the gate waits for the word."""
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(json.dumps(request).encode() + b"\n")
    running.stdin.flush()
    for line in running.stdout:
        said = json.loads(line)
        assert "event" in said, said
        if said["event"] == "ready":
            assert (said["ecus"], said["trying"]) == (["bench"], ["bench"])
            return


@pytest.mark.parametrize(
    ("word", "code", "slot"),
    [
        (GO, 0, "b"),
        ({**GO, "txn": "ffffffffffff"}, 2, "a"),
        ({**GO, "go": "reboot"}, 2, "a"),
        ({**GO, "now": True}, 2, "a"),
        ({**GO, "jointly": 1}, 2, "a"),
        (None, 143, "a"),
    ],
    ids=["arm", "other-transaction", "other-word", "more", "no-flag", "nobody-there"],
)
def test_an_update_waits_for_the_word(
    device: Path, server: Server, word: object, code: int, slot: str
) -> None:
    settings = device / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}cacert: {server.cacert}\n")
    with gate(device) as running:
        staged(running, {**UPDATE, "url": f"{server.url}v2/"})
        assert boots_next(device) == "a"
        if word is None:
            assert running.stdin is not None
            running.stdin.close()
            running.stdin = None
            running.wait(timeout=10)
        else:
            lines_of(running, word)
        assert running.returncode == code
    assert boots_next(device) == slot
    state = ota("status", "--root", device, "--json").result["slots"]["b"]["state"]
    assert state == ("armed" if code == 0 else "staged")
