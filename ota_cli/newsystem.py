"""Making a filled slot the system of this very device, and proving that it reached the disk."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional

from .boot.base import backend_for
from .boot.rootspec import root_spec
from .core import cmdline, fstab
from .core.kernels import newest_kernel
from .core.plan import Plan, Source
from .entries import FileEntry
from .errors import DoesNotFit, NoSpace, SlotUnusable
from .events import Emit, Meter, Phase, PhaseStarted
from .host.content import digest_files, drop_from_cache, made_readable
from .host.files import syncfs
from .host.inside import resolve, resolve_parent
from .model import BootFile, BootFiles, Device, Image, SlotName
from .persist import persist, reading

_FSTAB = "/etc/fstab"
_MAX_TEXT_BYTES = 1024 * 1024


def adapt(
    device: Device, slot: SlotName, image: Image, running: Optional[Path], standby: Path, emit: Emit
) -> List[str]:
    """Carries persistent files over, fixes fstab, and what else has to name the slot for it to
    boot; returns the paths that differ from the image.

    Raises OSError, DoesNotFit, BootRefused where it is not clear what would boot, and SlotUnusable
    where the running slot can not be read.
    """
    emit(PhaseStarted(Phase.FINISH, "carrying over what belongs to this device"))
    carried = _name_slot(device, slot, standby)
    if running is None:
        return carried
    carried += persist(image.tables.persistents, device.settings.persist, running, standby, emit)
    text = fstab.merge(_text(standby, _FSTAB), _text(running, _FSTAB), root_spec(device, slot))
    if text != (_text(standby, _FSTAB) or ""):
        _replace_text(standby, _FSTAB, text)
        carried.append(_FSTAB)
    return carried


def _name_slot(device: Device, slot: SlotName, standby: Path) -> List[str]:
    wanted = backend_for(device).adapted(device, slot, partial(_text, standby))
    for path, text in wanted.items():
        _replace_text(standby, path, text)
    return list(wanted)


class Kernel(NamedTuple):
    """A kernel of an image, the initrd made for it, and their version; empty without one."""

    kernel: FileEntry
    initrd: Optional[FileEntry]
    version: str


def kernel_of(image: Image) -> Optional[Kernel]:
    """The newest kernel of an image, if it holds one."""
    regulars = image.tables.regulars
    in_boot = (regulars[row] for row in regulars.paths.below("/boot"))
    there = {entry.path[len("/boot/") :]: entry for entry in in_boot if entry.path.count("/") == 2}
    names = newest_kernel(there)
    if names is None:
        return None
    initrd = there[names.initrd] if names.initrd else None
    return Kernel(there[names.kernel], initrd, names.version)


def require_kernel(image: Image) -> Kernel:
    """The same. Raises DoesNotFit without one."""
    found = kernel_of(image)
    if found is None:
        raise DoesNotFit(
            "the image holds no kernel in /boot",
            hint="install a kernel package into the image's root file system",
            slug="no-kernel",
        )
    return found


def boot_files(device: Device, slot: SlotName, image: Image, standby: Path, txn: str) -> BootFiles:
    """What the boot loader needs of the filled slot, by the digests of the signed image."""
    kernel, initrd, _ = require_kernel(image)
    arguments = cmdline.build(
        device.cmdline, _text(standby, "/etc/ota/cmdline"), slot, txn, root_spec(device, slot),
        device.settings.commit_deadline_s,
    )  # fmt: skip
    return BootFiles(
        _boot_file(standby, kernel), _boot_file(standby, initrd) if initrd else None, arguments
    )


def read_back_bytes(image: Image, plan: Plan) -> int:
    """How much `flush_and_read_back` reads, carried files included."""
    regulars = image.tables.regulars
    in_boot = set(regulars.paths.below("/boot")).difference(plan.steps.rows(Source.DOWNLOADED))
    return plan.size_bytes(Source.DOWNLOADED) + sum(regulars.size(row) or 0 for row in in_boot)


def flush_and_read_back(
    standby: Path, image: Image, plan: Plan, carried: Iterable[str], emit: Emit
) -> None:
    """Everything on the disk, and what matters most read again from there (DESIGN 4.4).

    Downloaded files, kernel and initrd are re-hashed with the page cache dropped. Raises
    OSError, NoSpace, and SlotUnusable where the disk gives something else than was written.
    """
    emit(PhaseStarted(Phase.VERIFY, "writing out and reading back"))
    _write_out(standby)
    left_out = set(carried)
    below = tuple(f"{each}/" for each in left_out)
    wanted = [step.entry for step in plan.downloads]
    regulars = image.tables.regulars
    wanted += [regulars[row] for row in regulars.paths.below("/boot")]
    entries = {
        entry.path: entry
        for entry in wanted
        if entry.path not in left_out and not entry.path.startswith(below)
    }
    for path in entries:
        with made_readable(f"{standby}{path}"):
            drop_from_cache(f"{standby}{path}")
    sizes = {path: entry.size or 0 for path, entry in entries.items()}
    meter = Meter(emit, Phase.VERIFY, sum(sizes.values()))
    digests = digest_files(standby, sizes.items(), emit, meter.add, unlock=True)
    for (path, entry), digest in zip(entries.items(), digests):
        if digest != entry.digest:
            raise SlotUnusable(
                f"{path} does not read back as it was written",
                hint="the slot's storage is failing; see the kernel log",
                slug="read-back",
            )


def _write_out(standby: Path) -> None:
    """A file system that is full says so before; what lies below it only here."""
    try:
        syncfs(standby)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(
            "the storage below the standby slot has no room for what was written there",
            hint="make room: a disk is full, or a quota used up, below a directory, a thin volume "
            "or a sparse file",
            slug="storage-full",
        ) from error


def _boot_file(standby: Path, entry: FileEntry) -> BootFile:
    return BootFile(Path(f"{standby}{entry.path}"), entry.digest)


def _text(root: Path, path: str) -> Optional[str]:
    place = f"{root}{resolve(root, path)}"
    try:
        # newline="": a lone carriage return in a comment ends no line for mount(8) either
        with reading(place), open(
            place, encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            text = file.read(_MAX_TEXT_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(text) > _MAX_TEXT_BYTES:
        raise DoesNotFit(f"{path} is larger than {_MAX_TEXT_BYTES} bytes", slug="text-too-large")
    return text


def _replace_text(root: Path, path: str, text: str) -> None:
    """A new file in place of `path`: never a write through a hard link or symlink."""
    place = f"{root}{resolve_parent(root, path)}"
    mode = 0o644
    if os.path.lexists(place):
        mode = os.lstat(place).st_mode & 0o777 if not os.path.islink(place) else mode
        os.unlink(place)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
