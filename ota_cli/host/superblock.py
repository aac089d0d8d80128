"""What the superblock of an ext2, ext3 or ext4 says of a file system that is not mounted.

See the kernel's documentation, filesystems/ext4, "Super Block".
"""

from __future__ import annotations

import struct

_AT, _BYTES = 1024, 1024
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
_STATE_AT, _CLEAN, _ERRORS = 0x3A, 0x1, 0x2
_INCOMPATIBLE_AT, _NEEDS_RECOVERY = 0x60, 0x4


def read_superblock(node: str) -> bytes:
    """Nothing where it can not be read: whoever goes on to use the slot tells why."""
    try:
        with open(node, "rb") as stream:
            stream.seek(_AT)
            return stream.read(_BYTES)
    except OSError:
        return b""


def is_clean(superblock: bytes) -> bool:
    """Whether the last unmount wrote everything out, and the kernel had found nothing wrong."""
    if len(superblock) < _BYTES:
        return False
    magic, state = struct.unpack_from("<HH", superblock, _MAGIC_AT)
    (incompatible,) = struct.unpack_from("<I", superblock, _INCOMPATIBLE_AT)
    is_valid = state & (_CLEAN | _ERRORS) == _CLEAN
    return magic == _MAGIC and is_valid and not incompatible & _NEEDS_RECOVERY
