"""`ota demo`: the whole story on a throw-away device."""

from __future__ import annotations

import click

from .options import Call, Result, command


@command("demo", on_device=False)
@click.option("--keep", is_flag=True, help="Keep the directory to look around in.")
def demo(call: Call, keep: bool) -> Result:
    """Show a complete update on a throw-away device: no root, no network, no hardware."""
    from ..demo import demonstrate

    done = demonstrate(keep, call.emit)
    lines = [f"{len(done.steps)} commands ran as they should."]
    lines += [f"Kept in {done.kept}"] if keep else []
    return Result(
        document={
            "kept": done.kept or None,
            "steps": [
                {"why": s.why, "argv": list(s.argv), "exit_code": s.exit_code, "output": s.output}
                for s in done.steps
            ],
        },
        lines=tuple(lines),
    )
