"""Finding and reading the configuration files of a device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional, Tuple

from ..core.config import parse_ecu_info, parse_proxy_info, parse_settings
from ..errors import ConfigError, ImageDamaged
from ..model import EcuInfo, ProxyInfo, Settings
from .files import read_limited

MAX_CONFIG_BYTES = 1024 * 1024


def load_ecu_info(boot: Path) -> EcuInfo:
    """`ecu_info.yml` on the boot partition; the defaults where there is none."""
    found = _find(boot / "ota", "ecu_info")
    return parse_ecu_info(*found) if found else EcuInfo()


def load_proxy_info(boot: Path) -> Tuple[ProxyInfo, List[str]]:
    """`proxy_info.yml` on the boot partition, with warnings; the defaults without a file."""
    found = _find(boot / "ota", "proxy_info")
    return parse_proxy_info(*found) if found else (ProxyInfo(), [])


def load_settings(root: Path) -> Settings:
    """`/etc/ota/ota.yml` below `root`, the environment winning over it."""
    text, name = _find(root / "etc" / "ota", "ota") or ("", "ota.yml")
    return parse_settings(text, name, os.environ)


def _find(directory: Path, stem: str) -> Optional[Tuple[str, str]]:
    """Text and path of `stem`.yml or `stem`.yaml; both at once would be two truths."""
    there = [path for path in (directory / f"{stem}.yml", directory / f"{stem}.yaml") if _is(path)]
    if len(there) > 1:
        raise ConfigError(f"{there[0]} and {there[1]} are both there", hint="remove one of them")
    return (_text(there[0]), str(there[0])) if there else None


def _is(path: Path) -> bool:
    """Whether something is there; a dangling link counts, or it would mean the defaults."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None
    return True


def _text(path: Path) -> str:
    try:
        return read_limited(path, MAX_CONFIG_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except ImageDamaged as error:
        raise ConfigError(error.message) from None
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None
