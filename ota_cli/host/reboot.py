"""Restarting this machine."""

from __future__ import annotations

import os

from .run import run


def reboot_machine() -> None:
    """Asks the init system for an orderly reboot; returns while it is under way."""
    os.sync()
    run(["reboot"])
