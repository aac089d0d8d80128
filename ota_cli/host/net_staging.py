"""What lies in the directory of downloads while they are not complete.

    <hex>            content that was verified
    <hex>.part       content so far; of a plain body, the next run goes on from it
    <hex>.body.part  a compressed body so far, as it came; the next run goes on from it

A decompressor can not be stored, so a compressed body is kept beside its content until that is
verified. Nothing of it is synced: a killed process leaves it in the page cache, after a power
cut its checksum decides. Flash is spared by that as well: what is removed again within the half
minute after which kernels write out was never written; on a slow link a large body is, once.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from ..entries import Digest
from ..errors import OtaError, SlotUnusable
from .net_crew import Many
from .room import no_space

#: Less of a body is fetched again. With 32 connections no more than 2 MiB is lost at a time,
#: 4 % of an update of 50 MiB; and most files are smaller and never kept twice.
WORTH_KEEPING_BYTES = 64 * 1024
#: Kept bodies leave so much to copies, more than those write between two looks, and at most
#: that share of the file system.
_SPARED_BYTES = 256 * 1024 * 1024
_SPARED_SHARE = 16
_STAT_BLOCK_BYTES = 512
_UNFINISHED = re.compile(r"([0-9a-f]{64})(?:\.body)?\.part")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Blob(NamedTuple):
    """One content to fetch. `location`: percent-encoded, relative to the base URL.

    `compressed`: the body is zstd of the content. `size`: of the content, None if not known.
    `wire_bytes`: of the body, as far as the image tells; it only says how far a download is.
    `number`: what whoever wants it knows it by.
    """

    digest: Digest
    size: Optional[int]
    location: str
    compressed: bool
    wire_bytes: int = 0
    number: int = 0


def unfinished_bytes(directory: Path) -> int:
    """Room that bodies take which an earlier run left below `directory`, if there is one."""
    found = 0
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(
        directory
    ) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if _UNFINISHED.fullmatch(entry.name) and status.st_nlink == 1:
                found += status.st_blocks * _STAT_BLOCK_BYTES
    return found


class Staging:
    """The directory that `blobs` are fetched into.

    Making it removes what earlier runs left of others. Raises NoSpace, SlotUnusable.
    """

    def __init__(self, directory: Path, blobs: Many[Blob]) -> None:
        self._directory = str(directory)
        self._left_bytes = sum(blob.size or 0 for blob in blobs)
        with disk_errors(self._directory):
            unfinished = list(filter(None, map(_UNFINISHED.fullmatch, os.listdir(directory))))
            there = {found[1] for found in unfinished}
            wanted = {name for name in (blob.digest.hex() for blob in blobs) if name in there}
            self._leftovers = {found[0] for found in unfinished if found[1] in wanted}
            for found in unfinished:
                if found[0] not in self._leftovers:
                    os.unlink(self.path(found[0]))
        self.keeps_bodies = True
        self.look()

    def path(self, name: str) -> str:
        """Where the file `name` is."""
        return f"{self._directory}/{name}"

    def create(self, name: str) -> int:
        """A new file, open for writing, in the place of what was left. Raises OSError."""
        if name in self._leftovers:
            self.remove(name)
        return os.open(self.path(name), _NEW, 0o600)

    def leftover(self, name: str) -> Optional[int]:
        """What an earlier run left, open for reading and writing; None without.

        Anything may lie there. What is not a file of ours, or not worth it, is removed.
        """
        if name not in self._leftovers:
            return None
        descriptor = self._open_ours(name)
        if descriptor is not None and os.fstat(descriptor).st_size >= WORTH_KEEPING_BYTES:
            return descriptor
        if descriptor is not None:
            os.close(descriptor)
        self.remove(name)
        return None

    def remove(self, name: str) -> None:
        """Removes a file that may be gone already."""
        self._leftovers.discard(name)
        with disk_errors(self.path(name)), suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def finished(self, blob: Blob) -> None:
        """`blob` needs no more room."""
        self._left_bytes -= blob.size or 0

    def look(self) -> None:
        """Gives up all kept bodies, for good, once others may need the room they take."""
        if not self.keeps_bodies:
            return
        with disk_errors(self._directory):
            disk = os.statvfs(self._directory)
            spared = min(_SPARED_BYTES, disk.f_blocks * disk.f_frsize // _SPARED_SHARE)
            if disk.f_bavail * disk.f_frsize < self._left_bytes + spared:
                self.keeps_bodies = False
                for name in os.listdir(self._directory):
                    if name.endswith(".body.part"):
                        self._empty(name)

    def _empty(self, name: str) -> None:
        """Gives back the room at once, though a thread may have the file open."""
        descriptor = self._open_ours(name)
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _open_ours(self, name: str) -> Optional[int]:
        """A regular file of ours that has no second name through which it might change."""
        with suppress(OSError):
            descriptor = os.open(self.path(name), _OLD)
            status = os.fstat(descriptor)
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_nlink == 1
                and status.st_uid == os.geteuid()
            ):
                return descriptor
            os.close(descriptor)
        return None

    def free_bytes(self) -> int:
        """Room on the file system. Raises SlotUnusable."""
        with disk_errors(self._directory):
            disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize


@contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Turns an OSError of the block into the failure of the slot that is written."""
    try:
        yield
    except OSError as error:
        raise disk_failure(path, error) from error


def disk_failure(path: str, error: OSError) -> OtaError:
    """What it means that `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(path)
    return SlotUnusable(
        f"{path} can not be written: {error.strerror}",
        hint="the kernel log tells more about the device",
    )
