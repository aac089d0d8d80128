"""Opening a slot: everything after this sees only a directory.

A slot is opened for writing only when nobody else can be using it: not the running one, not
mounted anywhere, opened O_EXCL (the kernel then refuses whoever comes second).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, ContextManager, Iterator, List, NamedTuple, Optional, Tuple

from .errors import NeedsRoot, SlotUnusable
from .events import Emit, Note
from .host import mounts
from .host.files import fsync, make_directory_durably
from .host.filesystem import EXT_KINDS, make_file_system, probe_file_system
from .host.run import CommandFailed, run
from .host.superblock import is_clean, read_superblock
from .model import Device, DeviceSlot, DirectorySlot, FileSlot, SlotLocation, SlotName

#: Surrounds the making of a file system, which destroys what a slot holds.
Formatting = Callable[[], ContextManager[None]]

MOUNT_BASE = Path("/run/ota")
#: Apart, for all may be open at once: one mounted over another would be read in its place.
_RUNNING_AT, _FILLED_AT, _READ_AT = (MOUNT_BASE / name for name in ("running", "standby", "read"))
IN_USE = "slot-in-use"
_LOOP_PATIENCE_S = 1.0


def needs_mounts(device: Device) -> bool:
    """True when working on the slots of `device` mounts something."""
    return any(not isinstance(slot, DirectorySlot) for slot in device.slots.values())


@contextmanager
def running_root(device: Device) -> Iterator[Optional[Path]]:
    """The running system's tree, for reading only; None where there is none to read."""
    if device.running is None:
        yield None
        return
    location = device.slots[device.running]
    if isinstance(location, DirectorySlot):
        yield location.path
    elif device.is_this_machine:
        with mounts.read_only_view(Path("/"), _RUNNING_AT) as view:
            yield view
    else:
        with _view(location, _RUNNING_AT) as view:
            yield view


@contextmanager
def readable(location: SlotLocation) -> Iterator[Path]:
    """A slot's tree for reading only, without writing to it (no journal replay)."""
    if isinstance(location, DirectorySlot):
        yield location.path
    else:
        with _view(location, _READ_AT) as view:
            yield view


@contextmanager
def sole_view(location: SlotLocation) -> Iterator[Path]:
    """The same of a slot that nobody else uses. Raises SlotUnusable where somebody does."""
    with ExitStack() as stack:
        if not isinstance(location, DirectorySlot):
            stack.enter_context(_claimed(location))
        yield stack.enter_context(readable(location))


@contextmanager
def standby_root(
    device: Device, slot: SlotName, emit: Emit, *, may_format: bool, formatting: Formatting
) -> Iterator[Path]:
    """The slot that is to be filled, checked, and mounted where it needs to be.

    Raises SlotUnusable when it is the running one, is in use, or has no usable file system and
    `may_format` is False; NeedsRoot without root for devices and files.
    """
    if slot == device.running:
        raise SlotUnusable(f"slot {slot} is the running one", slug="running-slot")
    location = device.slots[slot]
    if isinstance(location, DirectorySlot):
        with _directory(device, location.path) as path:
            yield path
        return
    template = _template(device)
    with mounted_for_filling(location, emit, may_format, formatting, template) as path:
        yield path


@contextmanager
def mounted_for_filling(
    location: SlotLocation,
    emit: Emit,
    may_format: bool,
    formatting: Formatting,
    template: Optional[SlotLocation] = None,
) -> Iterator[Path]:
    """A device or disk-image file, checked by e2fsck or made by mkfs.ext4, then mounted.

    A new file system gets the features of the one at `template`, so that the boot loader and
    kernel that read that one can read the new one too (FIELD-LESSONS 14). Raises SlotUnusable,
    after the block as well: where not all of it reached the disk.
    """
    with ExitStack() as stack:
        claim = stack.enter_context(_claimed(location))
        node = claim.node
        found = probe_file_system(node)
        if found.kind in EXT_KINDS and _healthy(claim):
            emit(Note(f"{node}: file system is clean"))
        elif may_format:
            emit(Note(f"{node}: no usable file system; making a new ext4"))
            with formatting():
                model = node_of(template) if template else None
                make_file_system(node, found, model, claim.held)
        else:
            raise _not_formatted(node)
        options = list(mounts.STANDBY_OPTIONS)
        options += ["loop"] if isinstance(location, FileSlot) else []
        with mounts.mounted(node, _FILLED_AT, options) as path:
            yield path
        _require_written(node)


def _not_formatted(node: str) -> SlotUnusable:
    return SlotUnusable(
        f"{node} holds no usable file system",
        hint="`mkfs.ext4` makes one, or `ota update` without --no-format",
    )


def _require_written(node: str) -> None:
    """Raises SlotUnusable when the file system on `node` was not left whole.

    umount(8) tells nothing of the last writes, and a kernel that finds errors may go on.
    """
    try:
        fsync(os.path.realpath(node))
        whole = is_clean(read_superblock(node))
    except OSError:
        whole = False
    if not whole:
        raise SlotUnusable(
            f"{node}: when the file system was unmounted its last writes failed, or the kernel had "
            "found errors in it",
            hint="see `dmesg`; the same command begins with a check of the file system",
            slug="slot-damaged",
        )


def will_format(location: SlotLocation) -> bool:
    """True when a fill would have to make a file system there first (reads only)."""
    if isinstance(location, DirectorySlot):
        return False
    return probe_file_system(node_of(location)).kind not in EXT_KINDS


def require_formatted(location: SlotLocation) -> None:
    """Raises SlotUnusable when it would (reads only)."""
    if will_format(location):
        raise _not_formatted(node_of(location))


def require_left_whole(location: SlotLocation) -> None:
    """Raises SlotUnusable for a slot that can not be told without writing to it: one that is not
    mounted and was not unmounted either. Part of what it holds is in its journal alone.
    """
    if isinstance(location, DirectorySlot):
        return
    node = node_of(location)
    if not mounted_at(node, location) and not is_clean(read_superblock(node)):
        raise SlotUnusable(
            f"{node}: the file system was not unmounted, or the kernel had found errors in it; "
            "what it holds can not be told without writing to it",
            hint=f"`e2fsck -p {node}` writes out its journal; then run this again",
            slug="slot-damaged",
        )


def require_sound(location: SlotLocation) -> None:
    """Raises SlotUnusable for a slot whose file system no kernel could mount.

    What e2fsck mends by itself is mended. One that is mounted somewhere is left alone.
    """
    if isinstance(location, DirectorySlot):
        return
    try:
        with _claimed(location) as claim:
            node = claim.node
            kind = probe_file_system(node).kind
            sound = _healthy(claim) if kind in EXT_KINDS else bool(kind)
    except SlotUnusable as error:
        if error.slug != IN_USE:
            raise
        return
    if not sound:
        raise SlotUnusable(
            f"the file system on {node} is damaged",
            hint="`ota update` makes a new one there",
            slug="slot-damaged",
        )


def node_of(location: SlotLocation) -> str:
    """The path to open for a device or file slot. Raises SlotUnusable when there is none."""
    if isinstance(location, DeviceSlot):
        return _resolve(location.spec)
    assert not isinstance(location, DirectorySlot)
    if not location.path.is_file():
        raise SlotUnusable(f"{location.path} is not a disk-image file")
    return str(location.path)


def _resolve(spec: str) -> str:
    """The device node that `PARTUUID=`, `UUID=`, `LABEL=` or a path names; two are one too many."""
    if spec.startswith("/"):
        found = [spec] if os.path.exists(spec) else []
    else:
        out = run(
            ["blkid", "-c", "/dev/null", "-t", spec, "-o", "device"], ok=(0, 2)
        ).stdout.decode()
        found = out.split()
    if len(found) != 1:
        raise SlotUnusable(
            f"{spec} names {'no device' if not found else 'several: ' + ' '.join(found)}",
            hint="see `lsblk -o NAME,PARTUUID,UUID,LABEL` and `slots:` in ecu_info.yml",
        )
    if not stat.S_ISBLK(os.stat(found[0]).st_mode):
        raise SlotUnusable(f"{spec} is not a block device")
    return os.path.realpath(found[0])


def device_number(location: SlotLocation) -> Optional[int]:
    """st_rdev of a device slot; None for the others."""
    return os.stat(_resolve(location.spec)).st_rdev if isinstance(location, DeviceSlot) else None


@contextmanager
def _directory(device: Device, path: Path) -> Iterator[Path]:
    if path.is_symlink():
        raise SlotUnusable(f"{path} is a symlink, not a directory")
    running = device.slots[device.running] if device.running else None
    if isinstance(running, DirectorySlot) and path.exists() and path.samefile(running.path):
        raise SlotUnusable(f"{path} is the running slot as well", slug="running-slot")
    require_no_mounts_inside(path)
    try:
        make_directory_durably(path)
        os.chmod(path, 0o755)  # noqa: S103 (a root directory is for everybody)
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        raise SlotUnusable(f"slot directory {path}: {error.strerror}") from None
    if not writable:
        raise SlotUnusable(f"slot directory {path} is not writable", hint="check its owner")
    yield path


def require_no_mounts_inside(path: Path) -> None:
    """Raises SlotUnusable when something is mounted below the slot directory `path`."""
    inside = next((m.path for m in mounts.mount_points() if _is_below(m.path, path)), None)
    if inside is not None:
        raise SlotUnusable(
            f"{inside} is mounted inside of the slot directory {path}: what is not in the image "
            "would be removed there",
            hint=f"umount {inside}",
            slug="mount-inside",
        )


def _is_below(target: str, path: Path) -> bool:
    return target.startswith(f"{os.path.realpath(path)}/")


class _Claim(NamedTuple):
    """A node that no other `ota` takes, and the descriptors that keep it away.

    A program that writes to the node gets them too: should this process be killed, the claim
    lasts until that program is done.
    """

    node: str
    held: Tuple[int, ...] = ()


@contextmanager
def _claimed(location: SlotLocation) -> Iterator[_Claim]:
    """The node of `location`, held so that no other `ota` takes it; refused while in use."""
    node = node_of(location)
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        descriptor = os.open(node, flags | (os.O_EXCL if isinstance(location, DeviceSlot) else 0))
    except PermissionError:
        raise NeedsRoot(f"{node} can not be opened", hint="run it with sudo") from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(node) from None
        raise SlotUnusable(f"{node} can not be opened: {error.strerror}") from None
    if isinstance(location, DeviceSlot):
        os.close(descriptor)  # mkfs, e2fsck and mount claim it themselves from here on
        yield _Claim(node)
        return
    try:
        if _stays_attached(node):
            raise _in_use(node)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _Claim(node, (descriptor,))
    except BlockingIOError:
        raise _in_use(node) from None
    finally:
        os.close(descriptor)


def _stays_attached(node: str) -> bool:
    """Whether a loop device keeps the file `node`. The kernel gives one back a moment after its
    unmount, where somebody just looks at all of them."""
    until_s = time.monotonic() + _LOOP_PATIENCE_S
    while run(["losetup", "-j", node]).stdout.strip():
        if time.monotonic() > until_s:
            return True
        time.sleep(_LOOP_PATIENCE_S / 20)
    return False


def _in_use(node: str) -> SlotUnusable:
    return SlotUnusable(
        f"{node} is in use (mounted, or held by another program)",
        hint="unmount it; `findmnt` and `losetup -l` tell where it is",
        slug=IN_USE,
    )


def _healthy(claim: _Claim) -> bool:
    """True when e2fsck finds or makes the file system clean."""
    try:
        mounts.check_file_system(claim.node, claim.held)
    except CommandFailed as error:
        if error.returncode is None:
            raise
        return False
    return True


def _template(device: Device) -> Optional[SlotLocation]:
    """The running slot, if its file system can be a model for a new one."""
    if device.running is None:
        return None
    location = device.slots[device.running]
    if isinstance(location, DirectorySlot):
        return None
    return location if probe_file_system(node_of(location)).kind == "ext4" else None


@contextmanager
def _view(location: SlotLocation, target: Path) -> Iterator[Path]:
    """A read-only mount that leaves the bytes of the slot alone, or a view of where it is."""
    node = node_of(location)
    place = mounted_at(node, location)
    if place:
        with mounts.read_only_view(Path(place), target) as view:
            yield view
        return
    options = ["ro", "noload", *mounts.STANDBY_OPTIONS]
    options += ["loop"] if isinstance(location, FileSlot) else []
    with mounts.mounted(node, target, options) as view:
        yield view


def mounted_at(node: str, location: SlotLocation) -> str:
    """Where the whole of `node` is mounted already, if anywhere."""
    numbers = [os.stat(node).st_rdev] if isinstance(location, DeviceSlot) else _loops(node)
    wanted = {f"{os.major(number)}:{os.minor(number)}" for number in numbers}
    for point in mounts.mount_points():
        if point.device in wanted and point.root == "/":
            return point.path
    return ""


def _loops(node: str) -> List[int]:
    listing = run(["losetup", "-j", node, "-O", "NAME", "-n"]).stdout.decode().split()
    return [os.stat(loop).st_rdev for loop in listing]
