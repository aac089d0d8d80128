"""Filling an empty slot without a running system: first provisioning, flashing on the bench.

The target is a directory, a disk-image file or a partition. There is nothing to compare with
and nothing to carry over; everything else is the fill of an update.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from .core.certs import CertStore, SignerPolicy
from .core.plan import Plan
from .errors import Footprint, SlotUnusable, leaving
from .events import Emit
from .fill import fill, slot_errors
from .fit import require_room, wire_bytes, work_ahead
from .host.filesystem import EXT_KINDS, probe_file_system
from .host.mounts import enter_private_namespace
from .host.net import Fetcher
from .model import DeviceSlot, DirectorySlot, FileSlot, Image, SlotLocation
from .readback import flush_and_read_back, reads_copies
from .slots import (
    mounted_for_filling,
    node_of,
    require_no_mounts_inside,
)
from .source import fetching, obtain
from .survey import planned
from .verify import write_metadata, write_slot_index

#: A partition table, a boot sector or a file's beginning lies in here.
_BLANK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Unpacked:
    """An image that was put into `target`."""

    image: Image
    target: Path
    plan: Plan
    wire_bytes: int


def target_location(target: Path) -> SlotLocation:
    """What kind of slot `target` is: a partition, an existing disk-image file, or a directory."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return DirectorySlot(target)
    except OSError as error:
        raise _unusable(target, error) from None
    if stat.S_ISBLK(mode):
        return DeviceSlot(str(target.absolute()))
    return FileSlot(target.absolute()) if stat.S_ISREG(mode) else DirectorySlot(target)


def unpack(
    fetcher: Fetcher, target: Path, store: CertStore, policy: SignerPolicy, emit: Emit
) -> Unpacked:
    """Fills `target` with the fetcher's image; re-run after an interruption, it goes on.

    Raises SlotUnusable for a target that holds something no unpack began.
    """
    image = obtain(fetcher, store, policy, emit)
    fetch = fetching(fetcher, image, lambda count: None, emit)
    with leaving(Footprint.OUTPUT), _opened(target, emit) as root:
        plan, before = planned(image.tables, root, None, emit, unlock=True)
        is_roomy = require_room(root, image, plan, before)
        copies = reads_copies(None, os.uname().release, emit)
        emit(work_ahead(image, plan, copies=copies))
        attributes = image.tables.attributes
        filled = fill(root, None, plan, before, attributes, fetch, emit, is_roomy=is_roomy)
        with slot_errors(root):
            write_metadata(root, image, ())
            flush_and_read_back(
                root, image.tables.regulars, plan, (), filled.proven, emit, copies=copies
            )
            write_slot_index(root, image, plan, before, ())
    return Unpacked(image, target, plan, wire_bytes(image, plan)[0])


@contextmanager
def _opened(target: Path, emit: Emit) -> Iterator[Path]:
    location = target_location(target)
    if isinstance(location, DirectorySlot):
        _make_directory(target)
        require_no_mounts_inside(target)
        _require_ours(target, target)
        yield target
        return
    enter_private_namespace()
    node = node_of(location)
    blank = _require_blank_or_ext(node)
    opened = mounted_for_filling(location, emit, may_format=blank, formatting=nullcontext)
    with opened as root:
        _require_ours(root, target)
        yield root


def _require_blank_or_ext(node: str) -> bool:
    """True for a blank partition or file, False for one with a file system to look into."""
    kind = probe_file_system(node).kind
    if kind in EXT_KINDS:
        return False
    with open(node, "rb") as stream:
        if not kind and not stream.read(_BLANK_BYTES).strip(b"\0"):
            return True
    raise SlotUnusable(
        f"{node} is not empty and holds no image ({kind or 'unknown content'})",
        hint=f"if nothing of it is needed, `mkfs.ext4 {shlex.quote(node)}` empties it",
        slug="not-empty",
    )


def _make_directory(target: Path) -> None:
    """Makes sure of a directory; the root of a device holds `.ota` as well and is none for us."""
    try:
        target.mkdir(mode=0o755, exist_ok=True)
        is_running = target.samefile("/")
    except OSError as error:
        raise _unusable(target, error) from None
    if is_running:
        raise SlotUnusable(f"{target} is the running system", slug="running-slot")


def _require_ours(root: Path, target: Path) -> None:
    """What is mounted or made at `root` is empty, or an earlier unpack worked on it."""
    try:
        names = set(os.listdir(root))
    except OSError as error:
        raise _unusable(target, error) from None
    if names - {"lost+found"} and ".ota" not in names:
        raise SlotUnusable(
            f"{target} is not empty and holds no image",
            hint="give an empty or new one",
            slug="not-empty",
        )


def _unusable(target: Path, error: OSError) -> SlotUnusable:
    return SlotUnusable(f"{target} can not be used: {error.strerror}")
