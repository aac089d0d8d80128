"""Making a filled slot the system of this very device."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional

from .boot.base import backend_for
from .boot.rootspec import root_spec
from .core import cmdline, fstab
from .core.kernels import newest_kernel
from .entries import FileEntry
from .errors import DoesNotFit
from .events import Emit, Phase, PhaseStarted
from .host.inside import reading, resolve_parent, whole_text
from .model import BootFile, BootFiles, Device, Image, SlotName
from .persist import persist

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
    text = _fstab(device, slot, running, standby)
    if text != (_text(standby, _FSTAB) or ""):
        _replace_text(standby, _FSTAB, text)
        carried.append(_FSTAB)
    return carried


def is_adapted(device: Device, slot: SlotName, running: Optional[Path], standby: Path) -> bool:
    """Whether all that has to name the slot does; persistent files are not looked at.

    Raises what `adapt` raises.
    """
    texts = dict(_naming_slot(device, slot, standby))
    if running is not None:
        texts[_FSTAB] = _fstab(device, slot, running, standby)
    return all((_text(standby, path) or "") == text for path, text in texts.items())


def _fstab(device: Device, slot: SlotName, running: Path, standby: Path) -> str:
    """The new system's own table, with this device's lines in it."""
    return fstab.merge(_text(standby, _FSTAB), _text(running, _FSTAB), root_spec(device, slot))


def _name_slot(device: Device, slot: SlotName, standby: Path) -> List[str]:
    wanted = _naming_slot(device, slot, standby)
    for path, text in wanted.items():
        _replace_text(standby, path, text)
    return list(wanted)


def _naming_slot(device: Device, slot: SlotName, standby: Path) -> Mapping[str, str]:
    return backend_for(device).adapted(device, slot, partial(_text, standby))


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


def _boot_file(standby: Path, entry: FileEntry) -> BootFile:
    return BootFile(Path(f"{standby}{entry.path}"), entry.digest)


def _text(root: Path, path: str) -> Optional[str]:
    with reading(f"{root}{path}"):
        return whole_text(root, path, _MAX_TEXT_BYTES)


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
