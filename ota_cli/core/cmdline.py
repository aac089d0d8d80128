"""The kernel command line: what `ota` reads from the running one and gives to the next.

Arguments are separated by blanks; a double quote starts or ends a stretch in which blanks do
not separate, as in the kernel's own parser (Documentation/admin-guide/kernel-parameters).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Optional, Sequence

from ..errors import BootRefused
from ..model import DEFAULT_DEADLINE_S, SlotName

#: A system on trial that panics, hangs in its initrd or loses PID 1 must reset by itself.
FALL_BACK_ARGUMENTS = (
    "panic=10",
    "oops=panic",
    "systemd.crash_reboot=1",
    "rd.shell=0",
    "rd.emergency=reboot",
)
TRIAL_ARGUMENT = "ota.trial=1"

_SET_BY_US = {argument.partition("=")[0] for argument in FALL_BACK_ARGUMENTS}
_SET_BY_THE_BOOT = {"BOOT_IMAGE", "initrd", "root", "ro", "rw"}


@dataclass(frozen=True)
class OtaArguments:
    """What a command line says about the slot that was booted; the last of equals wins."""

    slot: Optional[SlotName] = None
    txn: Optional[str] = None
    trial: bool = False
    deadline_s: int = DEFAULT_DEADLINE_S


def parse(line: str) -> OtaArguments:
    """The `ota.*` arguments of a command line; unusable values count as absent."""
    values = {}
    for argument in split(line):
        name, _, value = unquote(argument).partition("=")
        values[name] = value
    return OtaArguments(
        slot=_slot(values.get("ota.slot")),
        txn=values.get("ota.txn") or None,
        trial=values.get("ota.trial") == "1",
        deadline_s=_seconds(values.get("ota.deadline", "")),
    )


def build(
    running: str,
    image: Optional[str],
    slot: SlotName,
    txn: str,
    root_spec: Optional[str],
    deadline_s: int = DEFAULT_DEADLINE_S,
) -> str:
    """The command line of `slot`'s system (DESIGN section 6), without `ota.trial`.

    `running`: the running system's line; `image`: content of the new slot's `/etc/ota/cmdline`,
    which replaces it, or None. `root_spec`: `PARTUUID=...` of the slot; None leaves `root=` out
    (directory slots have no partition to name). `deadline_s`: what the deadline unit gives a
    trial boot, named where it is not the default. What follows a `--` goes to init and stays last.
    """
    own = running if image is None else _without_comments(image)
    base = [argument for argument in split(own) if not _is_replaced(argument)]
    cut = base.index("--") if "--" in base else len(base)
    root = [] if root_spec is None else [f"root={root_spec}"]
    deadline = [] if deadline_s == DEFAULT_DEADLINE_S else [f"ota.deadline={deadline_s}"]
    ours = [*root, f"ota.slot={slot}", f"ota.txn={txn}", *deadline, *FALL_BACK_ARGUMENTS]
    return join([*base[:cut], *ours, *base[cut:]])


def split(line: str) -> List[str]:
    """The arguments of a line, quotes still in them."""
    arguments: List[str] = []
    current, quoted = "", False
    for character in line:
        if character == '"':
            quoted = not quoted
        if character.isspace() and not quoted:
            if current:
                arguments.append(current)
            current = ""
        else:
            current += character
    return [*arguments, current] if current else arguments


def join(arguments: Sequence[str]) -> str:
    """The line made of `arguments`."""
    return " ".join(arguments)


def unquote(argument: str) -> str:
    """The argument as the kernel's consumers see it: without double quotes."""
    return argument.replace('"', "")


def grub_words(line: str) -> List[str]:
    """The arguments of a line as single words for GRUB's `linux` command.

    GRUB puts a word with blanks into double quotes itself and puts a backslash before every
    quote and backslash, so those can not be handed on. Raises BootRefused for such arguments
    and for control characters.
    """
    words = [unquote(argument) for argument in split(line)]
    for word in words:
        if any(c in "'\\" or not c.isprintable() for c in word):
            raise BootRefused(
                f"GRUB can not pass the kernel argument {word!r} on",
                hint="change it in `/etc/ota/cmdline` of the image or on the running system",
                slug="kernel-argument",
            )
    return words


def _is_replaced(argument: str) -> bool:
    name = unquote(argument).partition("=")[0]
    return name in _SET_BY_US or name in _SET_BY_THE_BOOT or name.startswith("ota.")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def _seconds(value: str) -> int:
    """As the deadline unit reads it."""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) else DEFAULT_DEADLINE_S


def _slot(value: Optional[str]) -> Optional[SlotName]:
    if value == "a":
        return "a"
    return "b" if value == "b" else None
