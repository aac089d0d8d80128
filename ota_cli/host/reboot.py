"""Restarting this machine."""

from __future__ import annotations

import os

from .interrupts import ignore_interrupts
from .run import run


def reboot_machine() -> None:
    """Asks the init system for an orderly reboot; returns while it is under way.

    Nothing interrupts this program from then on: init ends the session that it runs in at once,
    and how the command ended is told all the same.
    """
    os.sync()
    ignore_interrupts()
    run(["reboot"])
