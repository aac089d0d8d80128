"""The mark of a trial boot in the slot that is tried, `/.ota/trial`, where no kernel command line
can say it: one line of the words that would stand there, and the way back."""

from __future__ import annotations

import re

from ..errors import BootRefused
from ..model import SlotName
from .cmdline import TRIAL_ARGUMENT
from .jetson import Loader, number_of

#: Its name below the slot's `/.ota`, which only root may read; and a copy for all others, which
#: `ota-once.service` makes of it at each boot.
TRIAL = "trial"
RUN_MARK = "run/ota-trial"
MAX_MARK_BYTES = 256

_WHOLE = re.compile(
    rf"{TRIAL_ARGUMENT} ota\.slot=[ab] ota\.txn=[!-~]* ota\.deadline=[0-9]+ "
    r"ota\.back=(rootfs|bootloader):[01]( [!-~]+)*"
)


def trial_words(slot: SlotName, txn: str, deadline_s: int, loader: Loader, home: SlotName) -> str:
    """The content of the mark: a trial of `slot` that returns to slot `home`.

    Raises BootRefused for a transaction that could not be read back.
    """
    slots = "bootloader" if loader.unified else "rootfs"
    words = (
        f"{TRIAL_ARGUMENT} ota.slot={slot} ota.txn={txn} ota.deadline={deadline_s} "
        f"ota.back={slots}:{number_of(home)}"
    )
    if len(words) >= MAX_MARK_BYTES or not _WHOLE.fullmatch(words):
        raise BootRefused(
            f"the transaction {txn[:40]!r} can not be written into the mark of a trial",
            hint="a transaction is one short word",
            slug="trial-mark",
        )
    return words


def read_words(data: bytes) -> str:
    """What the mark `data` says. One that is damaged still says that this is a trial."""
    words = data.decode("ascii", "replace").strip()
    return words if _WHOLE.fullmatch(words) else TRIAL_ARGUMENT
