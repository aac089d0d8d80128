"""Our own table of an image: what the field's layout lacks. zstd-compressed text, a line a fact:

    m,<mtime in ns>,'path'
    x,'<xattr name>',<base64 value>,'path'
    b|c|p,<octal mode>,<uid>,<gid>,<major>,<minor>,'path'
    z,<bytes of the compressed blob>,<sha256 of its content>

Reading refuses (ImageDamaged, naming table and line) what could be read in two ways.
"""

from __future__ import annotations

import base64
import binascii
import re
from sys import intern
from typing import Dict, Iterator, List, Mapping, Match, Optional, Tuple

from ..entries import MAX_TIME_NS, Digest, NodeEntry
from ..errors import ImageDamaged
from ..model import Attributes, Tables
from ..packed import PackedSizes
from .lines import (
    MAX_NAME_BYTES,
    MAX_TABLE_BYTES,
    META,
    PIECE_BYTES,
    QUOTED,
    bounded,
    explained,
    join,
    matched,
    quote,
    read_mode,
    read_owner,
    read_path,
    text_lines,
    too_large,
    unquote,
)

_WINDOW_BYTES = 128 * 1024 * 1024
#: What the kernel's device numbers hold (linux/kdev_t.h).
MAX_MAJOR, MAX_MINOR = 2**12 - 1, 2**20 - 1
#: Of one file; a block of ext4 holds some hundred.
MAX_XATTRS = 1000
#: Namespaces that Linux file systems have, each with a name in it (xattr(7)).
_XATTR_NAME = re.compile(
    r"(user|trusted|security)\.[^\0]+|system\.posix_acl_(access|default)", re.DOTALL
)
#: Memory for a line, while it is read: a time or a size, in what is there; anything else.
_PACKED_BYTES, _OBJECT_BYTES = 60, 700
_MTIME = re.compile(rf"m,(-?[0-9]{{1,20}}),{QUOTED}")
_XATTR = re.compile(rf"x,{QUOTED},([A-Za-z0-9+/=]*),{QUOTED}")
_BLOB = re.compile(r"z,([0-9]{1,18}),([0-9a-f]{64})")
_NODE = re.compile(rf"([bcp]),{META},([0-9]{{1,10}}),([0-9]{{1,10}}),{QUOTED}")


def parse_attributes(
    data: bytes, table: str = "attributes.txt.zst", into: Optional[Tables] = None
) -> Attributes:
    """Our own table; see the head of this file.

    `into`: its entries take their times and blobs: nobody needs them twice.
    """
    dated = (into.regulars, into.directories, into.symlinks) if into else ()
    mtimes: Dict[str, int] = {}
    xattrs: Dict[str, Dict[str, bytes]] = {}
    nodes: List[NodeEntry] = []
    blob_sizes = PackedSizes()

    def take(line: str) -> None:
        kind = line[:1]
        if kind == "m":
            mtime, path = matched(_MTIME, line).groups()
            path, mtime_ns = read_path(path), _time(mtime)
            if any(entries.date(path, mtime_ns) for entries in dated):
                return
            if path in mtimes:
                raise ValueError("it has a time already")
            mtimes[intern(path)] = mtime_ns
        elif kind == "x":
            name, value, path = matched(_XATTR, line).groups()
            _add_xattr(xattrs.setdefault(read_path(path), {}), unquote(name), _from_base64(value))
        elif kind == "z":
            size, digest = matched(_BLOB, line).groups()
            blob_sizes.append(Digest(bytes.fromhex(digest)), int(size))
        else:
            nodes.append(_node(matched(_NODE, line)))

    for _ in explained(text_lines(_decompressed(data, table), table), table, take):
        pass
    blob_sizes.sort()
    if blob_sizes.are_doubled():
        raise ImageDamaged(f"{table} has two sizes for one blob", slug="bad-line")
    if into is None:
        return Attributes(mtimes, _as_pairs(xattrs), tuple(nodes), blob_sizes)
    into.regulars.measure_blobs(blob_sizes)
    return Attributes(mtimes, _as_pairs(xattrs), tuple(nodes))


def _as_pairs(
    xattrs: Mapping[str, Mapping[str, bytes]],
) -> Dict[str, Tuple[Tuple[str, bytes], ...]]:
    return {path: tuple(values.items()) for path, values in xattrs.items()}


def memory_bytes(data: bytes, table: str) -> int:
    """What reading a table of attributes takes, about. Raises ImageDamaged for what is no such."""
    return sum(map(_weight, _decompressed(data, table)))


def _weight(text: bytes) -> int:
    """Attributes and nodes become objects that hold their text, times and sizes a few bytes in what
    is there."""
    packed = text.count(b"\nm,") + text.count(b"\nz,")
    objects = text.count(b"\n") - packed
    return packed * _PACKED_BYTES + objects * _OBJECT_BYTES + (len(text) if objects > 1 else 0)


def format_attributes(attributes: Attributes) -> bytes:
    """The compressed attributes table, sorted by path: equal attributes give equal bytes."""
    import zstandard

    lines = [f"m,{mtime},{quote(path)}" for path, mtime in sorted(attributes.mtimes_ns.items())]
    for path, pairs in sorted(attributes.xattrs.items()):
        lines += [
            f"x,{quote(name)},{_base64(value)},{quote(path)}" for name, value in sorted(pairs)
        ]
    lines += [
        f"{n.kind},{n.mode:04o},{n.uid},{n.gid},{n.major},{n.minor},{quote(n.path)}"
        for n in sorted(attributes.nodes)
    ]
    lines += [f"z,{size},{digest.hex()}" for digest, size in sorted(attributes.blob_sizes.items())]
    return zstandard.ZstdCompressor(level=10).compress(join(lines))


def _node(match: Match[str]) -> NodeEntry:
    kind, mode, uid, gid, major, minor, path = match.groups()
    return NodeEntry(
        read_path(path), kind, read_mode(mode), read_owner(uid), read_owner(gid),
        bounded(major, MAX_MAJOR), bounded(minor, MAX_MINOR),
    )  # fmt: skip


def _time(digits: str) -> int:
    mtime_ns = int(digits)
    if abs(mtime_ns) > MAX_TIME_NS:
        raise ValueError(f"{mtime_ns} is no time in nanoseconds")
    return mtime_ns


def is_xattr_name(name: str) -> bool:
    """Whether files of a slot can have an extended attribute of this name."""
    return bool(_XATTR_NAME.fullmatch(name)) and len(name.encode()) <= MAX_NAME_BYTES


def _add_xattr(to: Dict[str, bytes], name: str, value: bytes) -> None:
    """One more attribute of a file that has those in `to`."""
    if not is_xattr_name(name):
        raise ValueError("no file can have an extended attribute of this name")
    if len(to) >= MAX_XATTRS:
        raise ValueError(f"more than {MAX_XATTRS} extended attributes of one file")
    if name in to:
        raise ValueError("the extended attribute is there twice")
    to[name] = value


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _decompressed(data: bytes, table: str) -> Iterator[bytes]:
    """The text of a compressed table in pieces, never more than the limit of a table."""
    import io

    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    total = 0
    try:
        with decompressor.stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            while piece := reader.read(PIECE_BYTES):
                total += len(piece)
                if total > MAX_TABLE_BYTES:
                    raise too_large(table)
                yield bytes(piece)
    except zstandard.ZstdError as error:
        raise ImageDamaged(f"{table} can not be decompressed: {error}") from None


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
