"""The running system's own kernel and initrd: what the boot loader boots a copy of.

Packages write them to `/boot`; in a slot that an update filled, the image's own lie in the
slot's `/boot`, which the boot partition hides.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence

from .boot.base import backend_for
from .boot.rootspec import root_spec
from .core import cmdline
from .core.kernels import KernelNames, kernels, version_key
from .errors import BootRefused
from .host.content import digest_of
from .host.inside import reading
from .model import BootCopies, BootFile, BootFiles, Device, SlotName, other_slot

#: The transaction of a system that no update brought here.
ADOPTED_TXN = "setup"


class KernelPaths(NamedTuple):
    """A kernel and the initrd made for it."""

    kernel: Path
    initrd: Optional[Path]


def adopted_files(device: Device, slot: SlotName, tree: Optional[Path]) -> BootFiles:
    """The running system's newest kernel, on this machine the very one that runs, and the
    arguments it shall have. Raises BootRefused when there is none."""
    places = [device.boot] if tree is None else [tree / "boot", device.boot]
    release = os.uname().release if device.is_this_machine else None
    found = kernel_of_release(places, release)
    if found is None:
        raise BootRefused(
            f"the kernel of the running system was found neither in "
            f"{' nor in '.join(str(place) for place in places)}",
            hint="install a kernel package; after a kernel upgrade reboot first",
            slug="no-kernel",
        )
    arguments = cmdline.build(
        device.cmdline, None, slot, ADOPTED_TXN, root_spec(device, slot),
        device.settings.commit_deadline_s,
    )  # fmt: skip
    initrd = boot_file(found.initrd) if found.initrd else None
    return BootFiles(boot_file(found.kernel), initrd, arguments)


def kernel_of_release(places: Sequence[Path], release: Optional[str]) -> Optional[KernelPaths]:
    """The kernel of `release` in the first of `places` that has it, else a plain one, which does
    not say of which release it is; the newest where `release` is None."""
    there = [(place, names) for place in places for names in _kernels_in(place)]
    exact = [each for each in there if release in (None, each[1].version)]
    plain = [each for each in there if not each[1].version]
    for place, names in [*exact, *plain][:1]:
        return KernelPaths(place / names.kernel, place / names.initrd if names.initrd else None)
    return None


class InUse(NamedTuple):
    """What the running system was booted with. `digests`: sha256 in hex of `kernel` and `initrd`,
    where the boot loader has copies of its own."""

    version: Optional[str]
    digests: Mapping[str, str]


def in_use(device: Device, tree: Optional[Path]) -> InUse:
    """The kernel that runs below `tree`; on another machine's device, the newest one there.

    Nothing is hashed; what can not be read is not known.
    """
    digests = _booted_digests(device)
    if device.is_this_machine:
        return InUse(os.uname().release, digests)
    places = [device.boot] if tree is None else [tree / "boot", device.boot]
    found = next((kernel for place in places for kernel in _kernels_in(place)), None)
    return InUse(found.version or None if found else None, digests)


def _booted_digests(device: Device) -> Mapping[str, str]:
    with suppress(OSError, BootRefused):
        copies = _copies(device)
        return copies.digests if copies else {}
    return {}


def _copies(device: Device) -> Optional[BootCopies]:
    return backend_for(device).copies(device, device.running) if device.running else None


def newest(device: Device, tree: Path) -> Optional[KernelPaths]:
    """The newest kernel that has its modules in `tree`, the running system.

    Where `/boot` and the slot both have a file, the one that came last counts. A system that
    boots with an initrd never gets a kernel without. None when no kernel is left.
    """
    booted = _copies(device)
    with_initrd = booted is not None and "initrd" in booted.digests
    places = [place for place in (device.boot, tree / "boot") if place.is_dir()]
    there = [(place, names) for place in places for names in _kernels_in(place)]
    versions = {names.version for _, names in there if names.version}
    for version in sorted(versions, key=version_key, reverse=True):
        if not (tree / "lib" / "modules" / version).is_dir():
            continue
        own = [(place, names) for place, names in there if names.version == version]
        kernel = _latest([place / names.kernel for place, names in own])
        initrd = _latest([place / names.initrd for place, names in own if names.initrd])
        if kernel is not None and (initrd is not None or not with_initrd):
            return KernelPaths(kernel, initrd)
    return None


class Brought(NamedTuple):
    """A kernel of the running system's packages and its initrd, with the digests they have."""

    kernel: BootFile
    initrd: Optional[BootFile]


def brought(device: Device, running: SlotName, tree: Path) -> Optional[Brought]:
    """What the running system shall boot: `newest`. None when there is none, or when all that is
    new is an initrd of the other slot. Raises SlotUnusable where a file can not be read."""
    found = newest(device, tree)
    if found is None:
        return None
    kernel, initrd = boot_file(found.kernel), boot_file(found.initrd) if found.initrd else None
    booted = _copies(device)
    is_booted = booted is not None and booted.digests.get("kernel") == kernel.digest.hex()
    if is_booted and initrd and _is_of_the_other(device, running, initrd.digest.hex()):
        return None
    return Brought(kernel, initrd)


def is_outdated(device: Device) -> bool:
    """Whether packages brought the running system a kernel or initrd of which no copy boots.

    Cheap: only a file that came after the copies is read. False where it can not be told.
    """
    running = device.running
    with suppress(OSError, BootRefused):
        booted = _copies(device)
        if booted is None or running is None:
            return False
        for name, path in zip(("kernel", "initrd"), newest(device, device.root) or ()):
            if path is None or path.stat().st_ctime_ns <= booted.made_ns:
                continue
            digest = digest_of(str(path)).hex()
            if digest != booted.digests.get(name):
                return name == "kernel" or not _is_of_the_other(device, running, digest)
    return False


def _is_of_the_other(device: Device, running: SlotName, initrd: str) -> bool:
    """Whether the other slot boots a copy of an initrd, given by its digest in hex.

    Both slots may have a kernel of the same version. Then their packages write its initrd to
    the same file of the boot partition, and the hook copies it for the slot that runs.
    """
    copies = backend_for(device).copies(device, other_slot(running))
    return copies is not None and copies.digests.get("initrd") == initrd


def boot_file(path: Path) -> BootFile:
    """`path` with the digest it has now. Raises SlotUnusable where it can not be read."""
    with reading(str(path)):
        return BootFile(path, digest_of(str(path)))


def _kernels_in(directory: Path) -> List[KernelNames]:
    if not directory.is_dir():
        return []
    return kernels(_regular_files(directory))


def _regular_files(directory: Path) -> Iterator[str]:
    with os.scandir(directory) as entries:
        yield from (each.name for each in entries if each.is_file(follow_symlinks=False))


def _latest(paths: List[Path]) -> Optional[Path]:
    return max(paths, key=lambda path: path.stat().st_ctime_ns, default=None)
