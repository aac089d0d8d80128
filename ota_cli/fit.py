"""Does a verified image fit this device, and is there room for it? Reads, never writes."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Iterable, Iterator, NamedTuple, Optional, Set, Tuple

from .boot.base import backend_for
from .core.claims import image_id
from .core.local import LocalFile, LocalTree
from .core.plan import Plan, Source
from .core.record import Record
from .errors import DoesNotFit, NoSpace, TrialFailed
from .events import Ahead, Phase
from .fill import METERED
from .host.index import INDEX, most_bytes
from .host.net_staging import unfinished_bytes
from .host.room import (
    BLOCK_BYTES,
    allocated_bytes,
    allocated_of,
    directory_bytes,
    in_blocks,
    require_kernel_room,
)
from .model import Claims, Device, Image, SlotName
from .newsystem import require_kernel
from .persistent import carried
from .readback import read_back_bytes
from .source import exact_on_the_wire, on_the_wire
from .survey import METADATA, STAGING

#: Kept free on the standby slot besides what is known to be written: journal, large directories.
SPARE_BYTES = 4 * 1024 * 1024
#: The same in inodes: metadata, bodies of downloads under way.
SPARE_INODES = 128
#: Sources whose content takes new room in the standby slot.
WRITTEN = (Source.COPIED, Source.DUPLICATED, Source.DOWNLOADED)


def require_fit(
    device: Device, record: Record, claims: Claims, allow_downgrade: bool, retry_failed: bool
) -> None:
    """Raises DoesNotFit for another device's image or a downgrade, TrialFailed for an image
    that fell back on this device before; `claims` are those of the image."""
    wanted, offered = device.ecu.compatible, claims.details.compatible
    if wanted is not None and wanted != offered:
        raise DoesNotFit(
            f"the image is for {offered or 'no named kind of device'}, this device is {wanted}",
            hint="check the URL, and `compatible` in /boot/ota/ecu_info.yml",
            slug="incompatible",
        )
    if image_id(claims) in record.failed and not retry_failed:
        raise TrialFailed(
            "this very image fell back on this device before",
            hint="--retry-failed tries it again",
            slug="failed-before",
        )
    if not allow_downgrade and device.running is not None:
        _require_not_older(claims.details.created, record.slots[device.running].created)


def _require_not_older(created: Optional[datetime], running_created: Optional[str]) -> None:
    """Only the signed `created` orders images; one without it is older than any with it."""
    if running_created is None:
        return
    if created is None or created < _when(running_created):
        raise DoesNotFit(
            f"the image ({created or 'without a date'}) is older than the running system "
            f"({running_created})",
            hint="--allow-downgrade installs it all the same",
            slug="downgrade",
        )


def _when(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


class Room(NamedTuple):
    """Room in a slot."""

    size_bytes: int = 0
    inodes: int = 0


NO_ROOM = Room()


def carried_room(device: Device, image: Image, plan: Plan, running: Optional[Path]) -> Room:
    """What the persistent files of `running` take in the standby slot besides what `plan` does.

    As far as they can be looked at now: what can not fails the update when it is carried. Raises
    what `persistent.present` raises but OSError.
    """
    size, inodes = 0, 0
    if running:
        with suppress(OSError):
            listed, globs = image.tables.persistents, device.settings.persist
            for place, status in _one_name_each(carried(listed, globs, running)):
                room = _more_room(image, plan, place, status)
                size, inodes = size + room.size_bytes, inodes + room.inodes
    return Room(size, inodes)


def _one_name_each(
    found: Iterable[Tuple[str, os.stat_result]],
) -> Iterator[Tuple[str, os.stat_result]]:
    """The first name of each file: the others become hard links in the new slot, too."""
    seen: Set[Tuple[int, int]] = set()
    for place, status in found:
        file = status.st_dev, status.st_ino
        if file not in seen:
            yield place, status
        if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
            seen.add(file)


def _more_room(image: Image, plan: Plan, place: str, status: os.stat_result) -> Room:
    """For what is carried to `place`; what the image has there is replaced by it, or merged."""
    regulars = image.tables.regulars
    row = regulars.paths.find(place)
    others = (plan.directories.paths, plan.symlinks.paths)
    is_new = row is None and all(paths.find(place) is None for paths in others)
    if stat.S_ISREG(status.st_mode):
        there = 0 if row is None else regulars.size(row) or 0
        return Room(max(allocated_of(status) - in_blocks(there), 0), int(is_new))
    is_new_directory = is_new and stat.S_ISDIR(status.st_mode)
    return Room(BLOCK_BYTES if is_new_directory else 0, int(is_new))


def space_bytes(
    image: Image, plan: Plan, local: LocalTree, slot: Optional[Path], more: Room
) -> int:
    """Bytes, in whole blocks, that are written to the standby slot: content, directories and
    `/.ota` that are new there, and `more`. `local`: what lies at `slot`; None: it will be made
    empty."""
    content = sum(map(in_blocks, plan.steps.sizes(*WRITTEN)))
    # those that go are removed before others are made
    directories = len(plan.directories) - local.others.directories()
    each = directory_bytes(str(slot)) if slot else BLOCK_BYTES
    return max(content + directories * each + _metadata_bytes(image, slot) + more.size_bytes, 0)


def _metadata_bytes(image: Image, slot: Optional[Path]) -> int:
    """What `/.ota` takes more than now. Tables are replaced one by one; an index stays until the
    new one is complete."""
    fresh = sum(map(in_blocks, (*image.metadata.sizes(), most_bytes(len(image.tables.regulars)))))
    old = 0
    if slot:
        with suppress(OSError), os.scandir(slot / METADATA) as entries:
            files = (each for each in entries if each.is_file(follow_symlinks=False))
            old = sum(allocated_bytes(each.path) for each in files if each.name != INDEX)
    return max(fresh - old, 0)


def freed_room(slot: Path, plan: Plan, local: LocalTree) -> Room:
    """What the plan's removals of files give back; stashed content is moved, not freed."""
    size, inodes = 0, 0
    for file in _freed(plan, local):
        size, inodes = size + allocated_bytes(f"{slot}{file.path}"), inodes + 1
    return Room(size, inodes)


def new_inodes(plan: Plan, local: LocalTree) -> int:
    """How many inodes the fill takes, whatever files it removes; others that go count."""
    others = len(plan.directories) + len(plan.symlinks) + len(plan.nodes) - len(local.others)
    return plan.files(*WRITTEN, Source.EMPTY) + others


def _freed(plan: Plan, local: LocalTree) -> Iterator[LocalFile]:
    """One name of each file that is gone when all removals are done."""
    stashed = {_inode(local, path) for path in plan.stash.values()}
    removed: Dict[int, int] = {}
    for path in plan.removals:
        file = local.files.find(path)
        if file is not None and file.inode not in stashed:
            names = removed[file.inode] = removed.get(file.inode, 0) + 1
            if names == file.links:
                yield file


def _inode(local: LocalTree, path: str) -> int:
    file = local.files.find(path)
    assert file is not None, path
    return file.inode


def require_room(
    slot: Path, image: Image, plan: Plan, local: LocalTree, more: Room = NO_ROOM
) -> bool:
    """Raises NoSpace when the file system of `slot` lacks bytes or inodes for `plan`, made for
    `image`, and for `more`. Whether it has them also before anything is removed."""
    free = os.statvfs(slot)
    freed = freed_room(slot, plan, local)
    available = free.f_bavail * free.f_frsize
    available += unfinished_bytes(slot / STAGING)  # gone on with, or removed
    needed = space_bytes(image, plan, local, slot, more) + SPARE_BYTES
    if needed > available + freed.size_bytes:
        raise NoSpace(
            f"the slot needs {needed} bytes and has {available + freed.size_bytes}",
            hint="use a smaller image or larger slots",
            slug="slot-too-small",
        )
    inodes = new_inodes(plan, local) + more.inodes + SPARE_INODES
    if free.f_files and inodes > free.f_favail + freed.inodes:
        raise NoSpace(
            f"the slot needs {inodes - freed.inodes} more inodes and has {free.f_favail}",
            hint="make the slot's file system with more inodes",
            slug="slot-too-small",
        )
    return needed <= available and (not free.f_files or inodes <= free.f_favail)


def require_boot_room(device: Device, slot: SlotName, image: Image) -> None:
    """Raises NoSpace when the boot partition is too small for what is to be copied there."""
    if not backend_for(device).needs_boot_files:
        return
    kernel, initrd, _ = require_kernel(image)
    needed = sum(in_blocks(entry.size or 0) for entry in (kernel, initrd) if entry)
    require_kernel_room(device.boot, needed, backend_for(device).occupied_bytes(device, slot))


def wire_bytes(image: Image, plan: Plan) -> Tuple[int, bool]:
    """Bytes the server would send for `plan`, and whether that is exact or a limit.

    Field images do not say how large their compressed blobs are; then the content's size counts.
    """
    total, exact = 0, True
    for step in plan.steps.of(Source.DOWNLOADED):
        total += on_the_wire(image, step)
        exact = exact and exact_on_the_wire(image, step) is not None
    return total, exact


def work_ahead(image: Image, plan: Plan, *, copies: bool = False) -> Ahead:
    """What carrying out `plan` takes, from here to the end, in the bytes of each phase. `copies`:
    they are read back as well."""
    return Ahead(
        (
            (Phase.FILL, plan.size_bytes(*METERED)),
            (Phase.DOWNLOAD, wire_bytes(image, plan)[0]),
            (Phase.FINISH, 0),
            (Phase.VERIFY, read_back_bytes(image.tables.regulars, plan, copies=copies)),
            (Phase.BOOT, 0),
        )
    )
