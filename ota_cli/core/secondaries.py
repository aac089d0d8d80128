"""The ECUs below this one, as `ecu_info.yml` lists them (FORMATS section 3). Pure.

Their names, addresses and users become words of an `ssh` command and parts of URLs: what could
be taken for an option, a path or a second word is refused here.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Optional, Sequence, Tuple

from ..model import EcuInfo, Secondary
from .urls import is_host_name
from .yamlfile import Item, optional

#: No blanks, and nothing that is more than a name in a URL or a path.
_ECU_ID = re.compile(r"[^\s/?#%{}\\'\"]{1,64}")
#: As useradd(8) has them, and the capitals and dots that directories allow.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_PATH = re.compile(r"/[^\0]*")
_OURS = ("ssh_user", "ssh_port", "identity_file")


def read_secondaries(item: Item, own_id: str) -> Tuple[Secondary, ...]:
    """The `secondaries` of the ECU `own_id`. Raises ConfigError, naming file and line."""
    found = tuple(_secondary(each) for each in item.items())
    seen = {own_id}
    for each, secondary in zip(item.items(), found):
        if secondary.ecu_id in seen:
            whose = "this ECU" if secondary.ecu_id == own_id else "another secondary"
            raise each.wrong(f"{whose} is called {secondary.ecu_id} already")
        seen.add(secondary.ecu_id)
    return found


def on_the_way(ecu: EcuInfo, ecu_ids: Optional[Sequence[str]]) -> Sequence[Secondary]:
    """The secondaries that are named; all, where none is (None), and where a name is not among
    ours: they may know it."""
    ours = {ecu.ecu_id, *(each.ecu_id for each in ecu.secondaries)}
    if ecu_ids is None or set(ecu_ids) - ours:
        return ecu.secondaries
    return [each for each in ecu.secondaries if each.ecu_id in ecu_ids]


def _secondary(item: Item) -> Secondary:
    keys = item.mapping()
    for needed in ("ecu_id", "ip_addr"):
        if needed not in keys:
            raise item.wrong(f"a secondary needs {needed}")
    for key, value in keys.items():
        if key.startswith(("ssh_", "identity")) and key not in _OURS:
            raise value.wrong(f"unknown key {key}", hint=f"known are: {', '.join(_OURS)}")
    return Secondary(
        ecu_id=_matching(keys["ecu_id"], _ECU_ID, "a name without blanks, slashes, quotes"),
        ip_addr=_address(keys["ip_addr"]),
        ssh_user=optional(keys, "ssh_user", _user, None),
        ssh_port=optional(keys, "ssh_port", _port, None),
        identity_file=optional(keys, "identity_file", _absolute, None),
    )


def _matching(item: Item, form: re.Pattern[str], what: str) -> str:
    text = item.text()
    if not form.fullmatch(text):
        raise item.wrong(f"expected {what}")
    return text


def _address(item: Item) -> str:
    """An IP address, with a zone where it is link-local, or a host name."""
    text = item.text()
    bare, _, zone = text.partition("%")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not is_host_name(text) or text.startswith("-"):
            raise item.wrong("expected an IP address or a host name") from None
    if zone and not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", zone):
        raise item.wrong("expected the name of an interface after %")
    return text


def _user(item: Item) -> Optional[str]:
    return _matching(item, _USER, "the name of a user")


def _port(item: Item) -> Optional[int]:
    return item.whole_number(1, 65535)


def _absolute(item: Item) -> Optional[str]:
    return _matching(item, _PATH, "an absolute path")
