"""The configuration files as values (FORMATS sections 3, 4 and 7). Pure.

A present file that is broken is an error with file and line, never another identity by default.
In the files shared with field clients unknown keys are left to those; in our own file, and in
our own sections, an unknown key is most likely a misspelt one and refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple, cast, get_args

from ..model import (
    DEFAULT_DEADLINE_S,
    DEFAULT_FLEET_DEADLINE_S,
    DEFAULT_PERSIST,
    SLOT_NAMES,
    DeviceSlot,
    DirectorySlot,
    EcuInfo,
    FileSlot,
    ProxyInfo,
    Settings,
    SlotLocation,
    SlotName,
    VerifyLocal,
)
from .secondaries import read_secondaries
from .yamlfile import Item, first_line, optional, parse_mapping, refuse_unknown

_DEVICE_SPEC = re.compile(r"(PARTUUID|UUID|LABEL)=[^\s,]+|/dev/\S+")
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)", re.IGNORECASE | re.ASCII)
_WILDCARDS = frozenset("*?[")
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_LOADERS = {
    "auto": "auto", "grub": "grub", "cboot": "cboot", "jetson-cboot": "cboot",
    "directory": "directory",
}  # fmt: skip


# --- ecu_info.yml ------------------------------------------------------------------------------


def parse_ecu_info(text: str, name: str) -> EcuInfo:
    """The identity of an ECU. Raises ConfigError."""
    keys = parse_mapping(text, name)
    if "ecu_id" not in keys:
        raise first_line(name, "ecu_id is missing", "every ECU with a file needs its name in it")
    if "format_version" in keys and keys["format_version"].value != "1":
        raise keys["format_version"].wrong("format_version is not 1")
    ecu_id = keys["ecu_id"].text()
    return EcuInfo(
        ecu_id=ecu_id,
        ip_addr=optional(keys, "ip_addr", Item.text, "localhost"),
        secondaries=optional(keys, "secondaries", lambda i: read_secondaries(i, ecu_id), ()),
        available_ecu_ids=optional(keys, "available_ecu_ids", _texts, (ecu_id,)),
        bootloader=optional(keys, "bootloader", lambda i: _LOADERS[i.one_of(_LOADERS)], "auto"),
        slots=optional(keys, "slots", _slots, None),
        compatible=optional(keys, "compatible", _optional_text, None),
    )


def _slots(item: Item) -> Optional[Mapping[SlotName, SlotLocation]]:
    keys = item.mapping()
    refuse_unknown(keys, SLOT_NAMES)
    missing = [slot for slot in SLOT_NAMES if slot not in keys]
    if missing:
        raise item.wrong(f"slot {missing[0]} is missing")
    slots: Dict[SlotName, SlotLocation] = {slot: _slot(keys[slot]) for slot in SLOT_NAMES}
    if slots["a"] == slots["b"]:
        raise item.wrong("slots a and b are the same")
    return slots


def _slot(item: Item) -> SlotLocation:
    keys = item.mapping()
    refuse_unknown(keys, ("device", "file", "directory"))
    if len(keys) != 1:
        raise item.wrong("a slot is one of device, file, directory")
    kind, value = next(iter(keys.items()))
    text = value.text()
    if kind == "device":
        if not _DEVICE_SPEC.fullmatch(text):
            raise value.wrong("expected PARTUUID=, UUID=, LABEL= or a path below /dev")
        return DeviceSlot(text)
    if not text.startswith("/"):
        raise value.wrong("expected an absolute path")
    return FileSlot(Path(text)) if kind == "file" else DirectorySlot(Path(text))


# --- proxy_info.yml ----------------------------------------------------------------------------


def parse_proxy_info(text: str, name: str) -> Tuple[ProxyInfo, List[str]]:
    """The proxy settings and warnings about unknown keys. Raises ConfigError.

    With a file, what it does not say is off; without one (`ProxyInfo()`) proxy and gateway are
    on. The older key `enable_ota_proxy: true` together with `upper_ota_proxy` means that the
    client itself asks that proxy.
    """
    keys = parse_mapping(text, name)
    known = (
        "format_version", "enable_local_ota_proxy", "enable_ota_proxy", "gateway",
        "upper_ota_proxy", "enable_local_ota_proxy_cache", "local_ota_proxy_listen_addr",
        "local_ota_proxy_listen_port", "logging_server",
    )  # fmt: skip
    warnings = [
        f"{name}:{item.line}: unknown key {key}" for key, item in keys.items() if key not in known
    ]
    upper = optional(keys, "upper_ota_proxy", _proxy_url, None)
    older = optional(keys, "enable_ota_proxy", Item.boolean, False) and upper is None
    return ProxyInfo(
        enable_local_ota_proxy=optional(keys, "enable_local_ota_proxy", Item.boolean, older),
        gateway=optional(keys, "gateway", Item.boolean, False),
        upper_ota_proxy=upper,
        enable_local_ota_proxy_cache=optional(
            keys, "enable_local_ota_proxy_cache", Item.boolean, True
        ),
        local_ota_proxy_listen_addr=optional(
            keys, "local_ota_proxy_listen_addr", _optional_text, None
        ),
        local_ota_proxy_listen_port=optional(keys, "local_ota_proxy_listen_port", _port, 8082),
    ), warnings


def _proxy_url(item: Item) -> Optional[str]:
    text = item.text()
    if not re.fullmatch(r"http://[^/\s@]+/?", text):
        raise item.wrong("expected http://HOST:PORT")
    return text


# --- ota.yml -----------------------------------------------------------------------------------


def parse_settings(text: str, name: str, environment: Mapping[str, str]) -> Settings:
    """Our own settings; `OTA_<KEY>` in `environment` wins over the file. Raises ConfigError."""
    keys = parse_mapping(text, name)
    known = (
        "server", "cacert", "cert", "key", "limit_rate", "connections", "no_progress_timeout",
        "persist", "allowed_signers", "health_timeout", "commit_deadline",
        "verify_local", "verify_writes", "fleet_deadline", "require_all",
    )  # fmt: skip
    refuse_unknown(keys, known)
    for key in known:
        value = environment.get(f"OTA_{key.upper()}")
        if value:
            keys[key] = Item(_listed(key, value), f"OTA_{key.upper()}", 1)
    return Settings(
        server=optional(keys, "server", _optional_text, None),
        cacert=optional(keys, "cacert", _path, None),
        cert=optional(keys, "cert", _path, None),
        key=optional(keys, "key", _path, None),
        limit_rate=optional(keys, "limit_rate", _rate, None),
        connections=optional(keys, "connections", lambda i: i.whole_number(1, 256), 32),
        no_progress_timeout_s=float(optional(keys, "no_progress_timeout", _seconds, 600)),
        persist=optional(keys, "persist", _persist, DEFAULT_PERSIST),
        allowed_signers=optional(keys, "allowed_signers", _optional_texts, None),
        health_timeout_s=float(optional(keys, "health_timeout", _seconds, 60)),
        commit_deadline_s=optional(keys, "commit_deadline", _seconds, DEFAULT_DEADLINE_S),
        verify_local=optional(keys, "verify_local", _verify_local, "full"),
        verify_writes=optional(keys, "verify_writes", _optional_boolean, None),
        fleet_deadline_s=optional(keys, "fleet_deadline", _seconds, DEFAULT_FLEET_DEADLINE_S),
        require_all=optional(keys, "require_all", Item.boolean, True),
    )


def parse_rate(text: str) -> Optional[int]:
    """Bytes per second of `500K`, `2M`, `1G` or a number; None when it is none of these."""
    match = _SIZE.fullmatch(text)
    if match is None or not int(match.group(1)):
        return None
    return int(match.group(1)) * _UNITS[match.group(2).upper()]


def _listed(key: str, value: str) -> object:
    if key not in ("persist", "allowed_signers"):
        return value
    return [Item(each, f"OTA_{key.upper()}", 1) for each in value.split()]


def _rate(item: Item) -> Optional[int]:
    rate = parse_rate(item.text())
    if rate is None:
        raise item.wrong("expected bytes per second like 500K or 2M")
    return rate


def _persist(item: Item) -> Tuple[str, ...]:
    for each in item.items():
        text = each.text()
        if not text.startswith("/") or any(part in ("", ".", "..") for part in text[1:].split("/")):
            raise each.wrong("expected an absolute path without `.` and `..`")
        if _WILDCARDS.intersection(text[1:].split("/")[0]):
            raise each.wrong("a wildcard here would carry the whole old system over the new one")
    return _texts(item)


def _verify_local(item: Item) -> VerifyLocal:
    text = item.text()
    if text in get_args(VerifyLocal):
        return cast(VerifyLocal, text)
    raise item.wrong("expected full or stat")


def _seconds(item: Item) -> int:
    return item.whole_number(1, 7 * 24 * 3600)


def _path(item: Item) -> Optional[Path]:
    if not item.text().startswith("/"):
        raise item.wrong("expected an absolute path")
    return Path(item.text())


def _texts(item: Item) -> Tuple[str, ...]:
    return tuple(each.text() for each in item.items())


def _optional_texts(item: Item) -> Optional[Tuple[str, ...]]:
    return _texts(item)


def _optional_text(item: Item) -> Optional[str]:
    return item.text()


def _optional_boolean(item: Item) -> Optional[bool]:
    return item.boolean()


def _port(item: Item) -> int:
    return item.whole_number(1, 65535)
