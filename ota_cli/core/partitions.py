"""Finding the two root partitions in the partition table. Pure: takes lsblk's JSON.

The slots are the partition mounted on `/` and the one other partition of the same disk with
exactly its size (DESIGN section 3). The one with the lower partition number is slot a.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping

from ..model import DeviceSlot, SlotLocation, SlotName


def find_slots(lsblk_json: bytes, root_device: str) -> Mapping[SlotName, SlotLocation]:
    """Slots a and b, or nothing where the table does not show exactly one pair.

    `lsblk_json`: of `lsblk --json --bytes --list -o NAME,PATH,PKNAME,TYPE,SIZE,PARTUUID,
    MAJ:MIN`. `root_device`: `major:minor` of what is mounted on `/`.
    """
    rows: List[Dict[str, Any]] = json.loads(lsblk_json or b"{}").get("blockdevices", [])
    partitions = [row for row in rows if row.get("type") == "part" and row.get("partuuid")]
    root = next((row for row in partitions if row.get("maj:min") == root_device), None)
    if root is None:
        return {}
    pair = [
        row
        for row in partitions
        if row.get("pkname") == root.get("pkname") and _size(row) == _size(root)
    ]
    if len(pair) != 2 or pair[0]["partuuid"] == pair[1]["partuuid"]:
        return {}
    first, second = sorted(pair, key=_number)
    return {"a": _slot(first), "b": _slot(second)}


def find_numbered_slots(lsblk_json: bytes, root_device: str) -> Mapping[SlotName, SlotLocation]:
    """Partitions 1 and 2 of the disk that `/` is on, as NVIDIA's tools flash them; nothing where
    `/` is neither. Takes what `find_slots` takes."""
    rows: List[Dict[str, Any]] = json.loads(lsblk_json or b"{}").get("blockdevices", [])
    partitions = [row for row in rows if row.get("type") == "part" and row.get("partuuid")]
    root = next((row for row in partitions if row.get("maj:min") == root_device), None)
    if root is None:
        return {}
    disk = {_number(row): row for row in partitions if row.get("pkname") == root.get("pkname")}
    if _number(root) not in (1, 2) or not disk.keys() >= {1, 2}:
        return {}
    if disk[1]["partuuid"] == disk[2]["partuuid"]:
        return {}
    return {"a": _slot(disk[1]), "b": _slot(disk[2])}


def _slot(row: Mapping[str, Any]) -> DeviceSlot:
    return DeviceSlot(f"PARTUUID={row['partuuid']}")


def _size(row: Mapping[str, Any]) -> int:
    return int(row.get("size") or 0)


def _number(row: Mapping[str, Any]) -> int:
    """Partition number: the digits that end the kernel name."""
    name = str(row.get("name", ""))
    return int(name[len(name.rstrip("0123456789")) :] or 0)
