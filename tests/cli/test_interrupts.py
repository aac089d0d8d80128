"""Ctrl-C and SIGTERM at any moment: the documented code, one document, nothing left behind."""

from __future__ import annotations

import json
import os
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
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(sys.argv[2]))
from ota_cli.cli.main import main
sys.meta_path.insert(0, Finder())
main(sys.argv[3:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module", ["ota_cli.cli.status", "ota_cli.core.outcome", "ota_cli.render.json"]
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
