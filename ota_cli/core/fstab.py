"""`/etc/fstab` of a filled slot: the image's, but for the lines that belong to the device.

Which partition is `/`, `/boot`, `/boot/efi` or `/boot/ota` only the device knows, so these lines
come from the running slot; every other line stays as the image has it, byte for byte (DESIGN 4.3).
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional

_OF_THE_DEVICE = ("/", "/boot", "/boot/efi", "/boot/ota")
_FIELDS = re.compile(r"[ \t]*([^ \t\n#][^ \t\n]*)[ \t]+([^ \t\n]+)")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

_Lines = Dict[str, List[str]]


def merge(image: Optional[str], running: Optional[str], root_spec: Optional[str]) -> str:
    """The fstab for the new slot.

    `image`, `running`: content of the two files, None where there is none. `root_spec`: what
    `/` is mounted from in the new slot (`PARTUUID=...`); None keeps the running slot's line.

    A device line the running slot lacks is dropped, for the image's names a partition of
    another device; the image's `/` stays when `root_spec` can mend it. A running slot without
    any fstab says nothing: then the image's lines stay. Empty where no line results.
    """
    lines = _LINE.findall(image or "")
    own = _device_lines(running, lines, root_spec)
    merged: List[str] = []
    for line in lines:
        mount_point = _mount_point(line)
        if mount_point in _OF_THE_DEVICE:
            merged += own.pop(mount_point, [])
        else:
            merged.append(line)
    missing = [line for group in own.values() for line in group]
    if missing and merged and not merged[-1].endswith("\n"):
        merged.append("\n")
    return "".join([*merged, *missing])


def _device_lines(running: Optional[str], image: List[str], root_spec: Optional[str]) -> _Lines:
    """The lines to use, by mount point, the `/` line mounting `root_spec`."""
    found = _by_mount_point(image if running is None else _LINE.findall(running))
    if root_spec is not None:
        if "/" not in found:
            found.update({k: v for k, v in _by_mount_point(image).items() if k == "/"})
        found = {**found, "/": [_mounting(root_spec, line) for line in found.get("/", [])]}
    return found


def _by_mount_point(lines: List[str]) -> _Lines:
    found: _Lines = {}
    for line in lines:
        mount_point = _mount_point(line)
        if mount_point in _OF_THE_DEVICE:
            found.setdefault(mount_point, []).append(line.rstrip("\n") + "\n")
    return found


def _mount_point(line: str) -> str:
    """The mount point a line is for; empty for comments and blank lines."""
    fields = _FIELDS.match(line)
    return (fields.group(2).rstrip("/") or "/") if fields else ""


def _mounting(spec: str, line: str) -> str:
    """`line` with its first field replaced, all else untouched."""
    fields = _FIELDS.match(line)
    return line[: fields.start(1)] + spec + line[fields.end(1) :] if fields else line
