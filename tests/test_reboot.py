"""`ota update --reboot` on one machine whose `reboot` returns, as the real one does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import Server
from tests.support.bench import DIRECTORY_SLOTS, environment, ota_argv
from tests.support.blocks import needs_root
from tests.support.machine import MACHINE_SLOTS, make_machine
from tests.support.trees import snapshot

#: Whether the device was let go of, and the device as a power cut would leave it now.
_REBOOT = """\
#!/bin/sh
flock -n /run/ota.lock echo let go of >{seen}
grep " /run/ota" /proc/self/mountinfo >>{seen}
cp -a {root} {then}
"""


@needs_root
def test_the_reboot_is_asked_for_last_and_nothing_changes_once_it_was(
    device: Path, server: Server, tmp_path: Path
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text().replace(DIRECTORY_SLOTS, MACHINE_SLOTS))
    on_it = make_machine(device)
    seen, then = tmp_path / "seen", tmp_path / "then"
    reboot = device / "usr/sbin/reboot"
    reboot.write_text(_REBOOT.format(seen=seen, root=device, then=then))
    at = ("--version", f"{server.url}v2/", "--cacert", str(server.cacert), "--no-self-confirm")
    argv = [*on_it, *ota_argv(), "update", *at, "--reboot"]
    done = subprocess.run(argv, env=environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert seen.read_text() == "let go of\n"
    assert snapshot(then, mtimes=True) == snapshot(device, mtimes=True)


@needs_root
def test_the_system_that_goes_down_does_not_interrupt_who_asked_it_to(
    device: Path, server: Server
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text().replace(DIRECTORY_SLOTS, MACHINE_SLOTS))
    on_it = make_machine(device)
    # systemd ends the sessions of all users at once, also that of who asked
    (device / "usr/sbin/reboot").write_text("#!/bin/sh\nkill -TERM $PPID\n")
    at = ("--version", f"{server.url}v2/", "--cacert", str(server.cacert), "--no-self-confirm")
    argv = [*on_it, *ota_argv(), "update", *at, "--reboot", "--json"]
    done = subprocess.run(argv, env=environment(), check=False, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stdout
