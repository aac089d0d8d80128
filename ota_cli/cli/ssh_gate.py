"""`ota ssh-gate`: the one command that an ECU above this one may run here."""

from __future__ import annotations

import os

from .. import __version__
from ..core.protocol import SCHEMA
from ..events import Hello
from ..fleet.gate import Lifeline, alive, require_gate_command, require_no_circle
from ..fleet.tree import read_tree
from ..model import Device
from ..probe import probe
from ..status import read_status
from .options import Call, Result, command
from .status import document


@command("ssh-gate", output="jsonl")
def ssh_gate(call: Call) -> Result:
    """Answer the ECU above, over SSH: a forced command for its key.

    It reads one request, a JSON object, from standard input, and prints JSON lines. It ends when
    standard input does: the ECU above is gone.
    """
    require_gate_command(os.environ.get("SSH_ORIGINAL_COMMAND"))
    device = probe(call.root)
    call.emit(Hello(SCHEMA, __version__, device.ecu.ecu_id))
    lifeline = Lifeline(0)
    with alive(call.emit):
        request = lifeline.request()
        require_no_circle(device.ecu.ecu_id, request)
        return _status(device, request.budget_s, request.above)


def _status(device: Device, budget_s: int, above: tuple[str, ...]) -> Result:
    found = read_status(device)
    return Result(document=document(found, read_tree(device, budget_s, above)), lines=())
