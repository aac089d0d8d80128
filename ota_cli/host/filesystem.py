"""The file system on a device or in a disk-image file: what it is, and making a new one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Optional, Sequence

from ..errors import SlotUnusable
from .run import CommandFailed, run

EXT_KINDS = ("ext2", "ext3", "ext4")
_MKFS_TIMEOUT_S = 600.0
#: What a running file system has by having been used, and mkfs does not take.
_ACQUIRED_FEATURES = ("needs_recovery", "orphan_present")


@dataclass(frozen=True)
class FileSystem:
    """What a device or disk-image file holds. `kind` is empty where it holds nothing known."""

    kind: str = ""
    uuid: str = ""
    label: str = ""


def probe_file_system(node: str) -> FileSystem:
    """What lies on `node`, by blkid's low-level probing of the bytes themselves.

    Without a word blkid finds nothing where it can not read a place by which some other kind
    would be known, as the last bytes of a device: so it is asked for ext4 alone, too.
    """
    return _probed(node) or _probed(node, "-n", ",".join(EXT_KINDS)) or FileSystem()


def _probed(node: str, *words: str) -> Optional[FileSystem]:
    argv = ["blkid", "-p", "-o", "export", *words, node]
    found = run(argv, ok=(0, 2)).stdout.decode("utf-8", "replace")
    pairs = dict(line.split("=", 1) for line in found.splitlines() if "=" in line)
    if not pairs:
        return None
    label = _label(node, *words) if "LABEL" in pairs else ""
    return FileSystem(pairs.get("TYPE", ""), pairs.get("UUID", ""), label)


def _label(node: str, *words: str) -> str:
    """As it is: beside the other values blkid writes spaces and other alphabets as escapes."""
    argv = ["blkid", "-p", "-o", "value", "-s", "LABEL", *words, node]
    return os.fsdecode(run(argv, ok=(0, 2)).stdout).rstrip("\n")


def make_file_system(
    node: str, found: FileSystem, template: Optional[str], holding: Sequence[int] = ()
) -> None:
    """An empty ext4 on `node`, with UUID and LABEL of what was `found` there, and the features of
    the one on the node `template`. `holding`: as in `run`. Raises SlotUnusable."""
    argv = ["mkfs.ext4", "-q", "-F"]
    argv += ["-U", found.uuid] if found.uuid and found.kind.startswith("ext") else []
    argv += ["-L", found.label] if found.label else []
    features = _features(template) if template else []
    argv += ["-O", "none," + ",".join(features)] if features else []
    try:
        run([*argv, node], timeout_s=_MKFS_TIMEOUT_S, holding=holding)
    except CommandFailed as error:
        raise SlotUnusable(f"{node} can not be formatted: {error.message}") from None


def _features(node: str) -> List[str]:
    listing = run(["dumpe2fs", "-h", node]).stdout.decode("utf-8", "replace")
    for line in listing.splitlines():
        if line.startswith("Filesystem features:"):
            return [f for f in line.split(":", 1)[1].split() if f not in _ACQUIRED_FEATURES]
    return []
