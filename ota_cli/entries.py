"""What an image holds, entry by entry (FORMATS section 1). No effects, no parsing.

Paths are absolute inside the image ("/etc/hosts").
"""

from __future__ import annotations

from typing import NamedTuple, NewType, Optional

#: The 32 raw bytes of a sha256.
Digest = NewType("Digest", bytes)

#: sha256 of nothing: the empty file is made, never fetched.
EMPTY_DIGEST = Digest(
    bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
)

#: The last time that images and packed rows can tell, in 2262; its negative, in 1677, is the first.
MAX_TIME_NS = 2**63 - 1


def told_time(time_ns: int) -> int:
    """`time_ns`, or the nearest time that 64 bits can tell: file systems know later ones."""
    return max(-MAX_TIME_NS, min(time_ns, MAX_TIME_NS))


class DirEntry(NamedTuple):
    """`mtime_ns` is None in field images."""

    path: str
    mode: int
    uid: int
    gid: int
    mtime_ns: Optional[int] = None


class LinkEntry(NamedTuple):
    """`mtime_ns` is None in field images."""

    path: str
    target: str
    uid: int
    gid: int
    mtime_ns: Optional[int] = None


class FileEntry(NamedTuple):
    """One name of a regular file.

    `size` in bytes, None where the image does not say. Entries with an equal `inode` (not
    None) are names of one file. `compressed`: the server holds a zstd blob of it, `blob_bytes`
    long. That and `mtime_ns` are None in field images.
    """

    path: str
    mode: int
    uid: int
    gid: int
    digest: Digest
    size: Optional[int]
    inode: Optional[str]
    compressed: bool
    mtime_ns: Optional[int] = None
    blob_bytes: Optional[int] = None


class NodeEntry(NamedTuple):
    """A device node or fifo; `kind` is one of `b`, `c`, `p`."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    major: int
    minor: int
