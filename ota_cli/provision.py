"""Filling an empty slot without a running system: first provisioning, flashing on the bench.

The target is a directory, a disk-image file or a partition. There is nothing to compare with
and nothing to carry over; everything else is the fill of an update.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from .core.certs import CertStore, SignerPolicy
from .core.delta import Plan, make_plan
from .errors import Footprint, SlotUnusable, leaving
from .events import Emit
from .fill import fill, slot_errors
from .fit import require_room, wire_bytes
from .host.mounts import enter_private_namespace
from .host.net import Fetcher
from .model import DeviceSlot, DirectorySlot, FileSlot, Image, SlotLocation
from .newsystem import flush_and_read_back
from .slots import mounted_for_filling
from .source import fetching, obtain
from .survey import survey
from .verify import write_metadata


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
    if stat.S_ISBLK(mode):
        return DeviceSlot(str(target.absolute()))
    return FileSlot(target.absolute()) if stat.S_ISREG(mode) else DirectorySlot(target)


def unpack(
    fetcher: Fetcher, target: Path, store: CertStore, policy: SignerPolicy, emit: Emit
) -> Unpacked:
    """Fills `target` with the fetcher's image; re-run after an interruption, it goes on.

    Raises SlotUnusable for a directory that holds something no unpack began.
    """
    image = obtain(fetcher, store, policy, emit)
    fetch = fetching(fetcher, image, lambda count: None)
    with leaving(Footprint.OUTPUT), _opened(target, emit) as root:
        seen = survey(image.tables, root, None, emit, unlock=True)
        plan = make_plan(image.tables, seen.standby, seen.content)
        require_room(root, plan, seen.standby)
        fill(root, None, plan, seen.standby, image.tables.attributes, fetch, emit)
        with slot_errors(root):
            write_metadata(root, image, ())
            flush_and_read_back(root, image, plan, (), emit)
    return Unpacked(image, target, plan, wire_bytes(image, plan)[0])


@contextmanager
def _opened(target: Path, emit: Emit) -> Iterator[Path]:
    location = target_location(target)
    if isinstance(location, DirectorySlot):
        _require_ours(target)
        yield target
        return
    enter_private_namespace()
    with mounted_for_filling(location, emit, may_format=True) as root:
        yield root


def _require_ours(target: Path) -> None:
    """An absent or empty directory, or one an earlier unpack worked on."""
    try:
        target.mkdir(mode=0o755, exist_ok=True)
        names: List[str] = os.listdir(target)
    except OSError as error:
        raise SlotUnusable(f"{target} can not be used: {error.strerror}") from None
    if names and ".ota" not in names:
        raise SlotUnusable(
            f"{target} is not empty and holds no image", hint="give an empty or new directory"
        )
