"""Ctrl-C, SIGTERM, SIGHUP at any moment: the documented code, one document, nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bench import environment, ota_argv

#: Runs `ota` and sends the signal when Python is about to import the module.
WHEN_IMPORTED = """
import importlib.abc, os, signal, sys
module, number = sys.argv[1], int(sys.argv[2])
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)
from ota_cli.__main__ import main
sys.meta_path.insert(0, Finder())
sys.argv[1:] = sys.argv[3:]
main()
"""

#: Runs a verb that has work to do, and sends the signal when it says that all is done.
WHEN_DONE = """
import os, signal, sys
from pathlib import Path
from ota_cli.cli.boundary import Display, Result, run_verb
from ota_cli.events import Ahead
from ota_cli.host.interrupts import catch_interrupts
class Reader:
    def write(self, text):
        sys.__stdout__.write(text)
        if "done" in text:
            os.kill(os.getpid(), signal.SIGTERM)
    def flush(self):
        sys.__stdout__.flush()
def work(call):
    call.emit(Ahead(()))
    return Result({"slot": "b"}, ())
catch_interrupts()
sys.stdout = Reader()
run_verb("update", Display(Path(sys.argv[1]), "jsonl", 0, "never", None), work)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "module",
    [
        "ota_cli.cli.main",
        "click",
        "ota_cli.cli.status",
        "ota_cli.core.outcome",
        "ota_cli.render.json",
    ],
)
def test_an_interrupt_before_a_verb_has_begun_is_a_document_too(
    device: Path, module: str, number: signal.Signals
) -> None:
    argv = [sys.executable, "-c", WHEN_IMPORTED, module, str(int(number))]
    ran = subprocess.run(
        [*argv, "status", "--root", str(device), "--json"],
        capture_output=True, text=True, env=environment(), check=False, timeout=60,
    )  # fmt: skip
    assert ran.stderr == ""
    assert ran.returncode == 128 + number
    document = json.loads(ran.stdout)
    assert document["exit_code"] == ran.returncode
    assert document["error"]["slug"] == "interrupted"


def test_an_interrupt_that_comes_when_all_is_done_is_too_late(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WHEN_DONE, tmp_path],
        capture_output=True, text=True, env=environment(), check=False, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout.splitlines()[-1])["result"] == {"slot": "b"}


def test_an_impatient_ctrl_c_leaves_nothing_of_the_demo(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*ota_argv(), "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**environment(), "TMPDIR": str(tmp_path)}, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("$ ota check"):
            break
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_command_begun_with_nohup_goes_on_when_the_terminal_hangs_up(device: Path) -> None:
    argv = [sys.executable, "-c", WHEN_IMPORTED, "ota_cli.cli.status", str(int(signal.SIGHUP))]
    ran = subprocess.run(
        ["nohup", *argv, "status", "--root", str(device), "--json"],
        capture_output=True, text=True, env=environment(), check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["ok"]


def test_a_terminal_that_hangs_up_ends_the_demo_and_leaves_nothing(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update({**environment(), "TMPDIR": str(tmp_path)})
        os.execv(ota_argv()[0], [*ota_argv(), "demo"])  # noqa: S606 (the program itself)
    said = b""
    while b"ota check" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 128 + signal.SIGHUP
    assert list(tmp_path.iterdir()) == []
