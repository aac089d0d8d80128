"""The boot files of a slot, in two sets, as the rule in `custom.cfg` finds them.

An update installs the first set while nothing boots the slot. A slot that boots is never
without a complete set: a new kernel of its own packages goes into the set that is not in use,
and one `ready` mark made or removed decides between them.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ..core import grubcfg
from ..errors import BootRefused
from ..host.content import digest_of
from ..host.ops import (
    CopyVerified,
    Flush,
    MakeDirectory,
    Op,
    ReadBack,
    ReadBackStart,
    Remove,
    RequireRoom,
    WriteFile,
)
from ..host.room import in_blocks
from ..model import BootFile, Device, SlotName
from . import layout

#: For what a second set has besides kernel and initrd, and for what is noted meanwhile.
_SPARE_BYTES = 64 * 1024


@dataclass(frozen=True)
class FileSet:
    """Kernel, initrd, arguments and the `ready` mark that lists their digests."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "kernel"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def arguments(self) -> Path:
        return self.directory / "arguments.cfg"

    @property
    def ready(self) -> Path:
        return self.directory / "ready"

    @property
    def files(self) -> Tuple[Path, ...]:
        """What `ready` is about."""
        return (self.kernel, self.initrd, self.arguments)

    @property
    def is_taken(self) -> bool:
        """What the rule asks before it takes a set."""
        return all(
            layout.holds_something(path) for path in (self.ready, self.arguments, self.kernel)
        )

    @property
    def is_complete(self) -> bool:
        """Of a set that is taken: whether it has the initrd that it needs."""
        return layout.holds_something(self.initrd) or not self._needs_initrd

    @property
    def _needs_initrd(self) -> bool:
        """Where that can not be told, `is_intact` tells it."""
        with suppress(BootRefused):
            _, has_initrd = grubcfg.read_arguments_file(read(self.arguments))
            return has_initrd
        return False

    def digests(self) -> Dict[str, str]:
        """What `ready` lists, by name: sha256sum's format, relative names."""
        lines = read(self.ready).decode("ascii", "replace").splitlines()
        return {Path(line[66:]).name: line[:64] for line in lines}


def first_set(device: Device, slot: SlotName) -> FileSet:
    return FileSet(layout.slot_directory(device, slot))


def refreshed_set(device: Device, slot: SlotName) -> FileSet:
    return FileSet(layout.slot_directory(device, slot) / "refreshed")


def booted_set(device: Device, slot: SlotName) -> Optional[FileSet]:
    """The set GRUB takes; None where the slot is not ready."""
    sets = (refreshed_set(device, slot), first_set(device, slot))
    taken = next((each for each in sets if each.is_taken), None)
    return taken if taken is not None and taken.is_complete else None


def is_intact(device: Device, slot: SlotName) -> bool:
    """Whether the boot files are what `ready` says. Raises BootRefused where that can not be
    read: a disk that fails once is no reason to make them anew."""
    booted = booted_set(device, slot)
    if booted is None:
        return False
    digests = booted.digests()
    if not digests.keys() >= {"kernel", "arguments.cfg"}:
        return False
    for name, digest in digests.items():
        path = booted.directory / name
        if not path.is_file() or path.is_symlink() or _digest(path) != digest:
            return False
    return True


def _digest(path: Path) -> str:
    try:
        return digest_of(str(path)).hex()
    except OSError as error:
        raise _unreadable(path, error) from None


def occupied_bytes(device: Device, slot: SlotName) -> int:
    """What `empty` gives back on the boot partition."""
    paths = [
        path
        for each in (first_set(device, slot), refreshed_set(device, slot))
        for path in each.files
    ]
    return sum(path.stat().st_blocks * 512 for path in paths if path.is_file())


def empty(device: Device, slot: SlotName) -> List[Op]:
    """No set is ready, and no file of one takes room."""
    return [*withdraw(device, slot), *_emptied(first_set(device, slot))]


def withdraw(device: Device, slot: SlotName) -> List[Op]:
    """No set is ready, and only the first one is left."""
    first, refreshed = first_set(device, slot), refreshed_set(device, slot)
    ops: List[Op] = [MakeDirectory(first.directory)]
    if refreshed.directory.is_dir():
        ops += [Remove(refreshed.ready), Flush((refreshed.directory,))]
    ops += [Remove(first.ready), Flush((first.directory,))]
    return [*ops, *_emptied(refreshed)]


def fill(
    target: FileSet, kernel: BootFile, initrd: Optional[BootFile], words: List[str]
) -> List[Op]:
    """Makes `target`, which nothing boots now, ready: read back and flushed, `ready` last."""
    text = grubcfg.arguments_file(words, initrd is not None).encode()
    copies = [CopyVerified(kernel.path, target.kernel, kernel.digest)]
    leftover: List[Op] = [Remove(target.initrd)]
    if initrd is not None:
        copies.append(CopyVerified(initrd.path, target.initrd, initrd.digest))
        leftover = []
    ready_text = _ready_text(copies, text)
    return [
        MakeDirectory(target.directory),
        Remove(target.ready),
        Flush((target.directory,)),
        *leftover,
        *copies,
        WriteFile(target.arguments, text),
        Flush((target.directory, *(op.target for op in copies), target.arguments)),
        *(ReadBack(op.target, op.digest) for op in copies),
        ReadBackStart(target.arguments, text),
        WriteFile(target.ready, ready_text),
        Flush((target.ready, target.directory)),
        ReadBackStart(target.ready, ready_text),
    ]


def refresh(
    device: Device, slot: SlotName, kernel: BootFile, initrd: Optional[BootFile]
) -> List[Op]:
    """The slot boots this kernel with the arguments it has; nothing where it does already.

    Whole at every instant: the old set stays until the new one is ready. What an earlier try has
    left of one gives its room back first. Raises BootRefused when the slot is not ready.
    """
    old = booted_set(device, slot)
    if old is None:
        raise BootRefused(
            f"slot {slot} has no complete boot files", hint="run `ota setup`", slug="not-ready"
        )
    listed = old.digests()
    if listed.get("kernel") == kernel.digest.hex() and listed.get("initrd") == (
        initrd.digest.hex() if initrd else None
    ):
        return []
    first, refreshed = first_set(device, slot), refreshed_set(device, slot)
    new = first if old == refreshed else refreshed
    words, _ = grubcfg.read_arguments_file(read(old.arguments))
    sizes = [each.path.stat().st_size for each in (kernel, initrd) if each]
    return [
        *_cleared(new),
        RequireRoom(device.boot, sum(map(in_blocks, sizes)) + _SPARE_BYTES),
        *fill(new, kernel, initrd, words),
        Remove(old.ready),
        Flush((old.directory,)),
        *_emptied(old),
    ]


def read(path: Path) -> bytes:
    """The bytes of a file of the boot partition. Raises BootRefused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> BootRefused:
    return BootRefused(f"{path} can not be read: {error.strerror}", slug="boot-partition")


def _cleared(unused: FileSet) -> List[Op]:
    """A set that does not boot is not ready, and takes no room."""
    if not unused.directory.is_dir():
        return []
    return [Remove(unused.ready), Flush((unused.directory,)), *_emptied(unused)]


def _emptied(unused: FileSet) -> List[Op]:
    """Makes room: nothing boots these files any more."""
    if not unused.directory.is_dir():
        return []
    return [Remove(path) for path in unused.files]


def _ready_text(copies: List[CopyVerified], arguments: bytes) -> bytes:
    lines = [f"{op.digest.hex()}  {op.target.name}\n" for op in copies]
    lines.append(f"{hashlib.sha256(arguments).hexdigest()}  arguments.cfg\n")
    return "".join(lines).encode()
