"""The program's verbs, run inside a machine."""

from __future__ import annotations

import json
from typing import Any, Dict

from tests.support.nginx import Nginx
from tests.support.vm.machine import Machine


def adopt(machine: Machine, server: Nginx) -> None:
    """Makes an ordinary system one that `ota` updates from the server."""
    machine.must("cat > /etc/ota/cacert.pem", server.cacert.read_text())
    machine.must("ota setup")


def update_line(server: Nginx, version: str) -> str:
    """The command line that updates to a version."""
    at = f"--version {server.url}{version}/ --cacert /etc/ota/cacert.pem"
    return f"ota update {at} --allow-downgrade"


def update(machine: Machine, server: Nginx, version: str) -> Dict[str, Any]:
    said = machine.must(f"{update_line(server, version)} --json")
    result: Dict[str, Any] = json.loads(said)["result"]
    return result


def status(machine: Machine) -> Dict[str, Any]:
    result: Dict[str, Any] = json.loads(machine.must("ota status --json"))["result"]
    return result


def confirmed(machine: Machine) -> Dict[str, Any]:
    """The status once the system has confirmed itself, by its own unit."""
    machine.must("systemctl start ota-commit.service")
    return status(machine)
