"""The GRUB environment block (FORMATS section 6): 1024 bytes that GRUB and Linux both write.

Invariant: the `ota_*` variables come first, in fixed order and of fixed total width, so that
everything the boot loader's choice hangs on lies inside the first 512-byte sector, and one
write of `head()` over the start of the file changes it as a whole or not at all. Variables of
others follow and never move.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from ..errors import BootRefused
from ..model import SlotName

BLOCK_BYTES = 1024
SECTOR_BYTES = 512
HEADER = b"# GRUB Environment Block\n"
REPAIR_HINT = "run `ota setup --repair`"

_OURS = ("ota_default", "ota_trial", "ota_good_a", "ota_good_b", "ota_txn", "ota_fill")
_TXN = re.compile(r"[A-Za-z0-9._-]{0,48}", re.ASCII)
_TXN_ROOM = 49


@dataclass(frozen=True)
class BootVariables:
    """Our part of the block. `default`: slot of an ordinary boot; `trial`: slot tried once at
    the next boot; `good`: slots known to work; `txn`: the transaction of the trial."""

    default: SlotName
    trial: Optional[SlotName]
    good: Tuple[SlotName, ...]
    txn: str = ""


def parse(block: bytes) -> Dict[str, str]:
    """All variables of a block, in order, escapes undone.

    Raises BootRefused for anything but exactly one well-formed block.
    """
    if len(block) != BLOCK_BYTES:
        raise _malformed(f"it has {len(block)} bytes instead of {BLOCK_BYTES}")
    if not block.startswith(HEADER):
        raise _malformed("its first line is not GRUB's")
    variables: Dict[str, str] = {}
    for line in _lines(block[len(HEADER) :]):
        name, equals, value = line.partition("=")
        if not equals or not name or name.startswith("#"):
            raise _malformed("a line is not name=value")
        if name in variables:
            raise _malformed(f"it sets {name} twice")
        variables[name] = value
    return variables


def compose(ours: BootVariables, others: Mapping[str, str]) -> bytes:
    """A whole block: our variables first, then `others` in their order.

    Raises BootRefused when they do not fit into the block.
    """
    block = head(ours) + b"".join(
        f"{name}={_escape(value)}\n".encode("utf-8", "surrogateescape")
        for name, value in others.items()
    )
    if len(block) > BLOCK_BYTES:
        raise BootRefused(
            "the GRUB environment has no room for all variables", hint=REPAIR_HINT, slug="env-full"
        )
    return block.ljust(BLOCK_BYTES, b"#")


def head(ours: BootVariables) -> bytes:
    """The start of a block: header and our variables, always of the same length.

    Written over the start of an existing block, this is the atomic switch.
    """
    if not _TXN.fullmatch(ours.txn):
        raise BootRefused(f"'{ours.txn}' can not be a transaction id in the GRUB environment")
    values = (
        ours.default,
        ours.trial or "0",
        "1" if "a" in ours.good else "0",
        "1" if "b" in ours.good else "0",
        ours.txn,
        "-" * (_TXN_ROOM - len(ours.txn)),
    )
    lines = "".join(f"{name}={value}\n" for name, value in zip(_OURS, values))
    return HEADER + lines.encode("ascii")


def boot_variables(block: bytes) -> BootVariables:
    """Our variables of `block`.

    Raises BootRefused when the block is malformed, or when our variables are not laid out as
    `head` lays them out, for then writing the head would destroy what lies behind it.
    """
    variables = parse(block)
    missing = [name for name in _OURS if name not in variables]
    if missing:
        raise _malformed(f"{missing[0]} is missing")
    found = BootVariables(
        default=_slot(variables, "ota_default"),
        trial=None if variables["ota_trial"] == "0" else _slot(variables, "ota_trial"),
        good=_good(variables),
        txn=variables["ota_txn"],
    )
    if not block.startswith(head(found)):
        raise _malformed("the ota variables are not in their place")
    return found


def foreign_variables(block: bytes) -> Dict[str, str]:
    """The variables of others, in order. Raises BootRefused when the block is malformed."""
    return {name: value for name, value in parse(block).items() if name not in _OURS}


def listing(ours: BootVariables) -> List[str]:
    """The `name=value` lines that any other reader of the block must print for `ours`."""
    return head(ours)[len(HEADER) :].decode("ascii").splitlines()


def _slot(variables: Mapping[str, str], name: str) -> SlotName:
    value = variables[name]
    if value == "a":
        return "a"
    if value == "b":
        return "b"
    raise _malformed(f"{name} names no slot")


def _good(variables: Mapping[str, str]) -> Tuple[SlotName, ...]:
    good: List[SlotName] = []
    slots: Tuple[SlotName, SlotName] = ("a", "b")
    for slot in slots:
        value = variables[f"ota_good_{slot}"]
        if value not in ("0", "1"):
            raise _malformed(f"ota_good_{slot} is neither 0 nor 1")
        if value == "1":
            good.append(slot)
    return tuple(good)


def _lines(body: bytes) -> Iterator[str]:
    """The unescaped lines of `body`; raises BootRefused when not only filling follows them."""
    text = body.decode("utf-8", "surrogateescape")
    position, line = 0, ""
    while position < len(text):
        character = text[position]
        if not line and character == "#":
            break
        position += 1
        if character == "\n":
            yield line
            line = ""
        elif character == "\\":
            line += text[position : position + 1]
            position += 1
        else:
            line += character
    if line or text[position:].strip("#"):
        raise _malformed("something else than filling follows its last line")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\\n")


def _malformed(why: str) -> BootRefused:
    return BootRefused(
        f"the GRUB environment is damaged: {why}", hint=REPAIR_HINT, slug="env-damaged"
    )
