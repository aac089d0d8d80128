"""`ota wait`: for scripts that must know how an update ended."""

from __future__ import annotations

import signal

import click

from ..errors import SignalReceived, Unreachable
from ..host.run import CommandFailed, run
from ..probe import probe
from ..status import wait_for_end
from .options import Call, Result, command
from .show import verdict_document


@command("wait")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=3600.0, metavar="S",
    help="Give up after S seconds, with exit code 75; default 3600.",
)  # fmt: skip
def wait(call: Call, timeout_s: float) -> Result:
    """Wait until the armed update is confirmed; exit code 18 when it fell back."""
    try:
        found = wait_for_end(lambda: probe(call.root), timeout_s)
    except SignalReceived as received:
        if received.number == signal.SIGINT or not _is_going_down():
            raise
        raise Unreachable(
            "this machine is going down",
            hint="run `ota wait` again when it is up",
            slug="rebooting",
        ) from None
    version = found.last_update.version if found.last_update else None
    return Result(
        document={
            "running": found.running, "version": version,
            "verdict": verdict_document(found.verdict),
        },
        lines=(found.verdict.text,),
    )  # fmt: skip


def _is_going_down() -> bool:
    """Whether systemd stops this machine: then that is what ended the wait."""
    try:
        said = run(["systemctl", "is-system-running"], ok=range(256)).stdout
    except CommandFailed:  # there is none, or it goes down itself
        return False
    return said.strip() == b"stopping"
