"""Mapping numeric owners between two systems by their names (passwd(5), group(5)). Pure."""

from __future__ import annotations

import re
from typing import Callable, Dict, Tuple

from .lines import MAX_OWNER

_NUMBER = re.compile("[0-9]{1,10}")

#: Takes (uid, gid) of the old system, gives those of the new one.
OwnerMap = Callable[[int, int], Tuple[int, int]]


def owner_map(old: Tuple[str, str], new: Tuple[str, str]) -> OwnerMap:
    """Maps owners from the system with `old` (passwd, group) texts to that with `new` ones.

    Numbers without a name, and names the new system does not know, keep their number.
    """
    users = _renumbering(old[0], new[0])
    groups = _renumbering(old[1], new[1])

    def mapped(uid: int, gid: int) -> Tuple[int, int]:
        return users.get(uid, uid), groups.get(gid, gid)

    return mapped


def _renumbering(old: str, new: str) -> Dict[int, int]:
    number_of = {name: number for number, name in _names(new).items()}
    return {n: number_of[name] for n, name in _names(old).items() if name in number_of}


def _names(text: str) -> Dict[int, str]:
    """Name by number; the first line of a number counts, lines that do not parse do not."""
    names: Dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and _NUMBER.fullmatch(fields[2]) and int(fields[2]) <= MAX_OWNER:
            names.setdefault(int(fields[2]), fields[0])
    return names
