"""What scripts rely on: documents, exit codes, streams, options in any place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ota_cli.errors import EXIT_CODES
from ota_cli.render.plain import Cadence
from tests.conftest import Server
from tests.support.bench import Ran, environment, ota, ota_argv
from tests.support.blocks import mounted, needs_root

DOCUMENT = {"schema", "command", "ok", "exit_code", "error", "result"}


def check(done: Ran) -> None:
    """The pinned form of every document, on stdout alone."""
    document = done.document
    assert set(document) == DOCUMENT
    assert document["schema"] == 1
    assert document["exit_code"] == done.code
    assert document["ok"] is (done.code in (0, 20))
    assert (document["error"] is None) is document["ok"]
    if document["error"]:
        assert {"slug", "message", "hint"} <= set(document["error"])
    assert done.code in EXIT_CODES


def test_documents_keep_their_keys(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    status = ota("status", "--root", device, "--json")
    check(status)
    keys = {"ecu_id", "running", "next", "slots", "verdict", "last_update", "ecus"}
    assert keys <= set(status.result)
    for slot in ("a", "b"):
        assert {"version", "state", "device"} <= set(status.result["slots"][slot])
    assert {"code", "text", "hint"} <= set(status.result["verdict"])

    checked = ota("check", *at, "--json")
    check(checked)
    assert {"available", "version", "bytes"} <= set(checked.result)
    assert {"download", "space"} <= set(checked.result["bytes"])

    updated = ota("update", *at, "--json")
    check(updated)
    assert {"version", "slot", "files", "bytes", "seconds"} <= set(updated.result)
    assert {"total", "kept", "copied", "downloaded"} <= set(updated.result["files"])
    assert {"downloaded", "reused", "total"} <= set(updated.result["bytes"])

    verified = ota("verify", "--root", device, "--json")
    check(verified)
    assert {"slot", "version", "image_id", "equal", "files", "differences"} == set(verified.result)

    history = ota("history", "--root", device, "--json")
    check(history)
    assert history.result == {"updates": []}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status", "--root", "/no/such", "--json"), 78),
        (("no-such-verb", "--json"), 2),
        (("update", "--json"), 2),
        (("--json", "status", "--no-such-option"), 2),
        (("--output", "json", "check"), 2),
    ],
)
def test_failures_are_documents_too(words: tuple[str, ...], code: int) -> None:
    done = ota(*words)
    assert done.code == code
    check(done)


def test_the_environment_chooses_the_output(device: Path) -> None:
    done = ota("status", "--root", device, env={"OTA_OUTPUT": "json"})
    check(done)
    assert done.err == ""


def test_an_unknown_output_in_the_environment_is_refused(device: Path) -> None:
    done = ota("status", "--root", device, env={"OTA_OUTPUT": "jsno"})
    assert done.code == 2
    assert "OTA_OUTPUT=jsno" in done.err
    check(ota("status", "--root", device, "--json", env={"OTA_OUTPUT": "jsno"}))


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--root", "LOCKED/device"),
        ("image", "serve", "LOCKED/images"),
        ("image", "verify", "LOCKED/image"),
    ],
)
def test_what_an_ordinary_user_may_not_see_is_no_bug(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    drop = ["unshare", "--user"] if os.geteuid() == 0 else []
    if drop and subprocess.run([*drop, "true"], check=False).returncode != 0:
        pytest.skip("user namespaces are not to be had here")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    argv = [*drop, *ota_argv(), *(word.replace("LOCKED", str(locked)) for word in words), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)
    locked.chmod(0o700)
    ran = Ran(done.returncode, done.stdout, done.stderr)
    check(ran)
    assert ran.code == 77
    assert str(locked) in ran.document["error"]["message"]


def test_global_options_stand_before_and_after_the_verb(device: Path) -> None:
    for words in (
        ("--root", device, "--json", "status"),
        ("status", "--json", "--root", device),
        ("--root", "/no/such", "status", "--root", device, "--json"),
    ):
        done = ota(*words)
        assert done.code == 0, done.out
        assert done.result["ecu_id"] == "bench"


def test_results_go_to_stdout_and_the_rest_to_stderr(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("check", *at)
    assert done.out.startswith("update ")
    assert "comparing" in done.err
    assert "\x1b" not in done.out + done.err
    quiet = ota("update", *at, "-n", "-q")
    assert quiet.out.startswith("update ")
    assert quiet.err == ""


def test_a_reader_that_goes_away_is_no_bug(device: Path) -> None:
    command = f"{sys.executable} -m ota_cli status --root {device} | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--help",), ("status", "--root", "DEVICE"), ("history", "--root", "DEVICE")]
)
def test_quick_verbs_import_nothing_heavy(words: tuple[str, ...], device: Path) -> None:
    argv = [str(device) if word == "DEVICE" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ota_cli", *argv],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"httpcore", "rich", "cryptography", "zstandard", "pathspec"}


def test_secondaries_are_shown_and_never_silently_left_out(device: Path, server: Server) -> None:
    info = device / "boot/ota/ecu_info.yml"
    nobody = "{ecu_id: arm, ip_addr: 127.0.0.1, ssh_port: 1}"
    info.write_text(f"{info.read_text()}secondaries: [{nobody}]\n")
    (device / "boot/ota/proxy_info.yml").write_text("enable_local_ota_proxy: false\n")
    status = ota("status", "--root", device, "--json")
    [arm] = status.result["ecus"]
    assert (arm["ecu_id"], arm["reachable"]) == ("arm", False)
    assert arm["error"]["slug"] in ("ecu-unreachable", "ecu-silent")
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    done = ota("update", *at, "--json")
    assert done.code == 16
    assert "ECU arm at 127.0.0.1" in done.document["error"]["message"]
    assert ota("status", "--root", device, "--no-ecus", "--json").result["next"] == "a"


def test_the_demo_runs_and_leaves_nothing(tmp_path: Path) -> None:
    done = ota("demo", "--json", env={"TMPDIR": str(tmp_path)})
    check(done)
    assert done.code == 0
    assert [step["exit_code"] for step in done.result["steps"]].count(20) == 1
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_a_demo_that_finds_no_room_is_no_bug(tmp_path: Path) -> None:
    with mounted("small", tmp_path / "small", "size=1M", kind="tmpfs") as small:
        done = ota("demo", "--json", env={"TMPDIR": str(small)})
        assert list(small.iterdir()) == []
    assert (done.code, done.document["error"]["slug"]) == (78, "no-temporary")


def test_the_settings_of_the_machine_do_not_reach_the_demos_device() -> None:
    done = ota("demo", "-q", env={"OTA_ALLOWED_SIGNERS": "Somebody", "OTA_OUTPUT": "plain"})
    assert done.code == 0, done.err


def test_plain_progress_is_never_more_than_a_line_in_thirty_seconds() -> None:
    cadence = Cadence(0.0)
    lines = [second for second in range(1000) if cadence.due(second // 10, second)]
    assert lines == list(range(30, 1000, 30))


def test_plain_progress_is_a_line_for_each_hundredth_at_most_however_long_it_takes() -> None:
    cadence = Cadence(0.0)
    lines = [second for second in range(0, 100_000, 10) if cadence.due(second // 1000, second)]
    assert len(lines) == 100


def test_jsonl_is_one_object_a_line(device: Path, server: Server) -> None:
    at = ("--root", device, "--version", f"{server.url}v2/", "--cacert", server.cacert)
    lines = ota("check", *at, "--output", "jsonl").out.splitlines()
    assert all("event" in json.loads(line) for line in lines[:-1])
    assert set(json.loads(lines[-1])) == DOCUMENT
