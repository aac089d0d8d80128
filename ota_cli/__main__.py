"""Where `ota` and `python -m ota_cli` begin: nothing may end the program before it can tell."""

from __future__ import annotations

from .host.interrupts import hold_interrupts


def main() -> None:
    """Loads the program and runs it."""
    hold_interrupts()
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
