"""The mark of a trial boot in the slot that is tried, `/.ota/trial`, where no kernel command line
can say it: one line of the words that would stand there, and the way back."""

from __future__ import annotations

from ..model import SlotName
from .jetson import Loader, number_of

#: Its name below the slot's `/.ota`, which only root may read; and a copy for all others, which
#: `ota-once.service` makes of it at each boot.
TRIAL = "trial"
RUN_MARK = "run/ota-trial"


def trial_words(slot: SlotName, txn: str, deadline_s: int, loader: Loader, home: SlotName) -> str:
    """The content of the mark: a trial of `slot` that returns to slot `home`."""
    slots = "bootloader" if loader.unified else "rootfs"
    return (
        f"ota.trial=1 ota.slot={slot} ota.txn={txn} ota.deadline={deadline_s} "
        f"ota.back={slots}:{number_of(home)}"
    )
