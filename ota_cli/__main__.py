"""Where `ota` and `python -m ota_cli` begin: nothing may end the program before it can tell."""

from __future__ import annotations

import os
import sys

from .host.interrupts import hold_interrupts


def main() -> None:
    """Loads the program and runs it."""
    hold_interrupts()
    if sys.getfilesystemencoding() != "utf-8":
        _start_over_in_utf8()
    from .cli.main import main as run

    run()


def _start_over_in_utf8() -> None:
    """Names in images are UTF-8, whatever the locale makes of names; it decides on output only."""
    is_module = os.path.basename(sys.argv[0]) == "__main__.py"
    program = ["-m", "ota_cli"] if is_module else sys.argv[:1]
    shown = getattr(sys.stdout, "encoding", None) or "utf-8"
    environment = {**os.environ, "PYTHONIOENCODING": shown}
    argv = [sys.executable, "-X", "utf8", *program, *sys.argv[1:]]
    os.execve(sys.executable, argv, environment)  # noqa: S606 (this very program)


if __name__ == "__main__":
    main()
