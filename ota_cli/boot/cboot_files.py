"""The files that CBoot loads of a slot, and whether they are what was installed.

With the root on NVMe it loads them from a copy of the slot's `/boot` on eMMC, which nothing else
reads. What was put there is listed in `/boot/ota/slot-X/ready`, in sha256sum's format:

    <sha256>  boot/extlinux/extlinux.conf
    <sha256>  boot/Image
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from ..core import extlinux
from ..core.extlinux import Entry
from ..errors import BootRefused
from ..host.content import digest_of
from ..host.inside import resolve
from ..host.mounts import enter_private_namespace
from ..model import DeviceSlot, DirectorySlot, FileSlot
from ..slots import readable

EXTLINUX = Path("boot/extlinux/extlinux.conf")

_LISTED = re.compile(r"(?m)^([0-9a-f]{64})  (\S.*)$")


def entry_problem(tree: Path) -> Optional[str]:
    """Why CBoot would not boot the system in `tree`; None where it would."""
    path = _configuration(tree)
    try:
        entry = _entry(tree)
    except BootRefused as error:
        return error.message
    except OSError as error:
        return f"{path} can not be read: {error.strerror}"
    missing = [each for each in _named(entry) if not os.path.isfile(f"{tree}{_inside(tree, each)}")]
    if missing:
        return f"{path} names {missing[0]}, which is not there"
    return None if entry.linux else f"{path} names no kernel for {entry.label}"


def listing(tree: Path) -> bytes:
    """The files of `tree`, of which `entry_problem` finds nothing, that CBoot needs.

    Raises BootRefused for one that is not below `/boot`, so that it would not be in the copy.
    """
    inside = [_inside(tree, each) for each in (f"/{EXTLINUX}", *_named(_entry(tree)))]
    outside = [each for each in inside if not each.startswith("/boot/")]
    if outside:
        raise BootRefused(
            f"CBoot reads a copy of /boot, where {outside[0]} is not",
            hint=f"keep all that /{EXTLINUX} names below /boot",
            slug="extlinux",
        )
    digests = [f"{digest_of(f'{tree}{each}').hex()}  {each[1:]}\n" for each in inside]
    return "".join(digests).encode("utf-8", "surrogateescape")


def listed(ready: bytes) -> Dict[str, str]:
    """Digests by path; none in what an `ota` wrote that listed nothing."""
    lines = _LISTED.findall(ready.decode("utf-8", "surrogateescape"))
    return {path: digest for digest, path in lines}


def holds(tree: Path, wanted: Dict[str, str]) -> bool:
    """Whether `tree` has the files `wanted`, at least one that boots where none are known.

    Raises BootRefused where that can not be read: a disk that fails once is no reason to make them
    anew.
    """
    if not wanted:
        return entry_problem(tree) is None
    return all(_digest(tree / path) == digest for path, digest in wanted.items())


@contextmanager
def seen(place: Path) -> Iterator[Path]:
    """The tree at `place`, a directory, a device or a disk-image file, for reading only.

    Raises NeedsRoot, and SlotUnusable where it can not be mounted.
    """
    if place.is_dir():
        with readable(DirectorySlot(place)) as tree:
            yield tree
        return
    enter_private_namespace()
    with readable(FileSlot(place) if place.is_file() else DeviceSlot(str(place))) as tree:
        yield tree


def _configuration(tree: Path) -> Path:
    return Path(f"{tree}{resolve(tree, f'/{EXTLINUX}')}")


def _entry(tree: Path) -> Entry:
    return extlinux.default_entry(_configuration(tree).read_text("utf-8", "surrogateescape"))


def _named(entry: Entry) -> List[str]:
    return [each for each in (entry.linux, entry.initrd, entry.fdt) if each]


def _inside(tree: Path, path: str) -> str:
    return resolve(tree, f"/{path.lstrip('/')}")


def _digest(path: Path) -> str:
    """Empty for what is no regular file."""
    if path.is_symlink() or not path.is_file():
        return ""
    try:
        return digest_of(str(path)).hex()
    except OSError as error:
        raise BootRefused(
            f"{path} can not be read: {error.strerror}", hint="see `dmesg`", slug="boot-unreadable"
        ) from None
