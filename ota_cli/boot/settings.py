"""The settings of a back-end in one file, where the boot loader keeps none for us.

One JSON object, filled with blanks to one sector:

    {"schema": 1, "default": "a", "trial": "b" | null, "good": ["a"], "txn": "..."}

It is overwritten in place, which needs no room: what is armed can be taken back on a disk that is
full. A sector is old or new, never half of each. A file of another size, as an older `ota` wrote
it, is first replaced by a durable rename.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

from ..core.grubenv import REPAIR_HINT, BootVariables
from ..errors import BootRefused
from ..host.ops import Op, ReadBackStart, ReplaceInPlace, WriteFile
from ..model import SLOT_NAMES
from . import layout

_SECTOR_BYTES = 512


def load(path: Path) -> BootVariables:
    """What the file says. Raises BootRefused, with slug `boot-not-set-up` when it is missing."""
    return parse(_text(path), path.name)


def create(path: Path, wanted: BootVariables) -> List[Op]:
    """A new file that says `wanted`, in place of whatever is there."""
    text = compose(wanted)
    return [WriteFile(path, text), ReadBackStart(path, text)]


def save(path: Path, wanted: BootVariables) -> List[Op]:
    """Makes the file, which is there, say `wanted`."""
    text = compose(wanted)
    if not len(text) == _size_of(path) == _SECTOR_BYTES:
        return create(path, wanted)
    return [ReplaceInPlace(path, text), ReadBackStart(path, text)]


def parse(text: bytes, name: str) -> BootVariables:
    """The content of such a file, called `name`. Raises BootRefused when it is damaged."""
    try:
        document = json.loads(text)
        found = BootVariables(
            default=document["default"],
            trial=document["trial"] or None,
            good=tuple(document["good"]),
            txn=str(document["txn"]),
        )
        if {found.default, found.trial or "a", *found.good} - set(SLOT_NAMES):
            raise ValueError("it names no slot")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BootRefused(
            f"{name} is damaged: {error}", hint=REPAIR_HINT, slug="env-damaged"
        ) from None
    return found


def compose(variables: BootVariables) -> bytes:
    """The content of a file that says `variables`."""
    document = {
        "schema": 1,
        "default": variables.default,
        "trial": variables.trial,
        "good": list(variables.good),
        "txn": variables.txn,
    }
    return json.dumps(document).encode().ljust(_SECTOR_BYTES - 1) + b"\n"


def _size_of(path: Path) -> int:
    """0 for what is not there, or can not be looked at: it is made anew."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BootRefused(
            f"{path} is missing", hint="run `ota setup`", slug=layout.NOT_SET_UP
        ) from None
    except OSError as error:
        raise BootRefused(f"{path} can not be read: {error.strerror}") from None
