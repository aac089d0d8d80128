"""`ota setup`: install or repair the boot integration."""

from __future__ import annotations

import click

from ..probe import probe
from .options import Call, Result, command


@command("setup")
@click.option("--repair", is_flag=True, help="Also replace what is damaged.")
@click.option(
    "--refresh", is_flag=True,
    help="Also boot the newest kernel that packages installed; their hooks run this.",
)  # fmt: skip
def setup(call: Call, repair: bool, refresh: bool) -> Result:
    """Install the boot integration on this device, or mend it. Changes nothing twice."""
    from ..setup import setup as story

    report = story(probe(call.root), repair=repair, refresh=refresh, emit=call.emit)
    lines = [f"- {change}" for change in report.changes] or ["All was in order."]
    lines.append(f"Slot {report.running} runs; slot {report.default} is what boots.")
    return Result(
        document={
            "loader": report.loader, "boot_partition": report.boot_partition,
            "running": report.running, "default": report.default,
            "changes": list(report.changes),
        },
        lines=tuple(lines),
    )  # fmt: skip
