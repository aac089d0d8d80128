"""Since when an ECU below does not answer: `/run/ota-ecus.json`, forgotten at a reboot.

One JSON object: the time (RFC 3339) at which each was first found unreachable, by its name.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Dict, Sequence, Tuple

from ..errors import ImageDamaged
from ..host.files import read_limited, write_durably
from ..host.store import now
from ..model import Device
from .report import Ecu

_MAX_BYTES = 64 * 1024


def note_reachable(device: Device, ecus: Sequence[Ecu]) -> Tuple[Ecu, ...]:
    """`ecus` with the times since when they can not be reached, which are kept for later.

    An ordinary user reads what root has noted.
    """
    before = _load(_path(device))
    since = {each.ecu_id: before.get(each.ecu_id) or now() for each in ecus if each.trouble}
    if since != before:
        with suppress(PermissionError, FileNotFoundError):
            write_durably(_path(device), json.dumps(since).encode())
    return tuple(replace(each, unreachable_since=since.get(each.ecu_id)) for each in ecus)


def _path(device: Device) -> Path:
    return device.root / "run" / "ota-ecus.json"


def _load(path: Path) -> Dict[str, str]:
    """What was noted; nothing where that can not be read."""
    try:
        found = json.loads(read_limited(path, _MAX_BYTES))
    except (OSError, ImageDamaged, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(time) for name, time in found.items()}
