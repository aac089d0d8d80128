"""What is asked of a machine that came back from a power cut."""

from __future__ import annotations

from typing import Any, Dict

from tests.support.nginx import Nginx
from tests.support.vm.machine import Machine
from tests.support.vm.verbs import status, update_line


def require_truth(machine: Machine) -> Dict[str, Any]:
    """What `ota status` says is what the machine does."""
    found = status(machine)
    words = machine.must("cat /proc/cmdline").split()
    running = next((w[-1] for w in words if w.startswith("ota.slot=")), "a")
    assert found["running"] == running
    code = found["verdict"]["code"]
    if "ota.trial=1" in words:
        assert code in ("trial", "confirmed"), found
    elif running == "b":
        assert code == "confirmed", found
    else:
        assert code in ("confirmed", "never_updated", "armed", "fell_back"), found
    return found


def require_whole_boot_files(machine: Machine) -> None:
    """No set of boot files, of either slot, is marked ready that is torn."""
    machine.must(
        "for ready in /boot/ota/slot-[ab]/ready /boot/ota/slot-[ab]/refreshed/ready; do "
        '[ ! -s "$ready" ] || (cd "${ready%/*}" && sha256sum --quiet --check ready) || exit 1; done'
    )


def require_completion(machine: Machine, server: Nginx) -> None:
    """The same command again, and a reboot, end in the new system.

    A trial that was cut off in user space is one that failed, for all the old system can tell.
    """
    if "ota.trial=1" in machine.must("cat /proc/cmdline"):
        machine.must("systemctl start ota-commit.service")
    ran = machine.run(update_line(server, "v2"))
    if ran.code == 18 and "--retry-failed" in ran.err:
        ran = machine.run(f"{update_line(server, 'v2')} --retry-failed")
    assert ran.code == 0, ran.out + ran.err
    if status(machine)["running"] == "a":
        machine.reboot()
        machine.must("systemctl start ota-commit.service")
    found = status(machine)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("b", "b", "confirmed")
