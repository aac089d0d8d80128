"""The text tables of an image: one entry a line (FORMATS section 1, "Tables").

Reading refuses (ImageDamaged, naming table and line) what could lead outside the slot or be
read in two ways; `core.tree` checks what only shows across entries. Writing gives the strict
form of the field's generator.

Ours is the attributes table, zstd-compressed text, one line a fact:

    m,<mtime in ns>,'path'
    x,'<xattr name>',<base64 value>,'path'
    b|c|p,<octal mode>,<uid>,<gid>,<major>,<minor>,'path'
    z,<bytes of the compressed blob>,<sha256 of its content>
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Callable, Dict, Iterable, Iterator, List, Match, Pattern, Tuple, TypeVar

from ..errors import ImageDamaged
from ..model import (
    Attributes,
    Claims,
    Digest,
    DirEntry,
    FileEntry,
    LinkEntry,
    NodeEntry,
    Tables,
)
from .text import printable

MAX_TABLE_BYTES = 512 * 1024 * 1024
MAX_LINES = 5_000_000
MAX_LINE_BYTES = 16 * 1024
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
#: chown(2) takes the number above this one for "leave it as it is".
MAX_OWNER = 2**32 - 2
#: What the kernel's device numbers hold (linux/kdev_t.h).
MAX_MAJOR, MAX_MINOR = 2**12 - 1, 2**20 - 1

#: Where a slot keeps its metadata; no image may hold anything there (DESIGN section 3).
RESERVED = "/.ota"

#: Each character can match in one way only: a line without its last quote costs no time.
_QUOTED = r"'([^']*(?:'\\''[^']*)*)'"
_META = r"([0-7]{3,5}),([0-9]{1,10}),([0-9]{1,10})"
_DIRECTORY = re.compile(rf"{_META},{_QUOTED}")
_SYMLINK = re.compile(rf"{_META},{_QUOTED},{_QUOTED}")
_REGULAR = re.compile(
    rf"{_META},[0-9]{{1,10}},([0-9a-f]{{64}}),{_QUOTED}"
    r"(?:,([0-9]{0,18})(?:,([0-9]{0,20})(?:,(zst)?)?)?)?"
)
_PERSISTENT = re.compile(_QUOTED)
_MTIME = re.compile(rf"m,(-?[0-9]{{1,20}}),{_QUOTED}")
_XATTR = re.compile(rf"x,{_QUOTED},([A-Za-z0-9+/=]*),{_QUOTED}")
_BLOB = re.compile(r"z,([0-9]{1,18}),([0-9a-f]{64})")
_NODE = re.compile(rf"([bcp]),{_META},([0-9]{{1,10}}),([0-9]{{1,10}}),{_QUOTED}")

Entry = TypeVar("Entry")


def parse_tables(claims: Claims, files: Dict[str, bytes]) -> Tables:
    """All tables that `claims` names, from `files` whose digests have been checked.

    Raises ImageDamaged for a line that does not parse and for a tree that can not exist.
    """
    from .tree import check_tree

    attributes = claims.details.attributes
    tables = Tables(
        directories=parse_directories(files[claims.directories.name], claims.directories.name),
        symlinks=parse_symlinks(files[claims.symlinks.name], claims.symlinks.name),
        regulars=parse_regulars(files[claims.regulars.name], claims.regulars.name),
        persistents=tuple(
            parse_persistents(files[claims.persistents.name], claims.persistents.name)
        ),
        attributes=parse_attributes(files[attributes.name], attributes.name)
        if attributes
        else None,
    )
    check_tree(tables, claims)
    return tables


def parse_directories(data: bytes, table: str = "dirs.txt") -> List[DirEntry]:
    """`mode,uid,gid,'path'` a line."""

    def entry(match: Match[str]) -> DirEntry:
        mode, uid, gid, path = match.groups()
        return DirEntry(_path(path), _mode(mode), _owner(uid), _owner(gid))

    return _parse(data, table, _DIRECTORY, entry)


def parse_symlinks(data: bytes, table: str = "symlinks.txt") -> List[LinkEntry]:
    """`mode,uid,gid,'link','target'` a line; the mode of a symlink means nothing."""

    def entry(match: Match[str]) -> LinkEntry:
        _, uid, gid, path, target = match.groups()
        return LinkEntry(_path(path), _target(target), _owner(uid), _owner(gid))

    return _parse(data, table, _SYMLINK, entry)


def parse_regulars(data: bytes, table: str = "regulars.txt") -> List[FileEntry]:
    """`mode,uid,gid,nlink,sha256,'path'[,size[,inode[,compression]]]` a line."""

    def entry(match: Match[str]) -> FileEntry:
        mode, uid, gid, digest, path, size, inode, compression = match.groups()
        return FileEntry(
            _path(path), _mode(mode), _owner(uid), _owner(gid), Digest(bytes.fromhex(digest)),
            int(size) if size else None, inode or None, bool(compression),
        )  # fmt: skip

    return _parse(data, table, _REGULAR, entry)


def parse_persistents(data: bytes, table: str = "persistents.txt") -> List[str]:
    """One quoted path a line."""
    return _parse(data, table, _PERSISTENT, lambda match: _path(match.group(1)))


def parse_attributes(data: bytes, table: str = "attributes.txt.zst") -> Attributes:
    """Our own table; see the head of this file."""
    mtimes: Dict[str, int] = {}
    xattrs: Dict[str, Tuple[Tuple[str, bytes], ...]] = {}
    nodes: List[NodeEntry] = []
    blob_sizes: Dict[Digest, int] = {}

    def take(line: str) -> None:
        kind = line[:1]
        if kind == "m":
            mtime, path = _matched(_MTIME, line).groups()
            mtimes[_path(path)] = int(mtime)
        elif kind == "x":
            name, value, path = _matched(_XATTR, line).groups()
            path = _path(path)
            xattrs[path] = (*xattrs.get(path, ()), (_xattr_name(name), _from_base64(value)))
        elif kind == "z":
            size, digest = _matched(_BLOB, line).groups()
            blob_sizes[Digest(bytes.fromhex(digest))] = int(size)
        else:
            nodes.append(_node(_matched(_NODE, line)))

    for number, line in _lines(_decompress(data, table), table):
        _explained(table, number, line, take)
    return Attributes(mtimes, xattrs, tuple(nodes), blob_sizes)


def format_directories(entries: Iterable[DirEntry]) -> bytes:
    """The table of `entries`, in their order."""
    return _join(f"{e.mode:04o},{e.uid},{e.gid},{_quote(e.path)}" for e in entries)


def format_symlinks(entries: Iterable[LinkEntry]) -> bytes:
    """The table of `entries`, in their order; the mode is always 0777, as in the field."""
    return _join(f"0777,{e.uid},{e.gid},{_quote(e.path)},{_quote(e.target)}" for e in entries)


def format_regulars(entries: Iterable[FileEntry], link_counts: Dict[str, int]) -> bytes:
    """The table of `entries`, in their order. `link_counts`: names by hard-link group."""
    return _join(_regular_line(entry, link_counts) for entry in entries)


def format_persistents(paths: Iterable[str]) -> bytes:
    """The table of `paths`, in their order."""
    return _join(_quote(path) for path in paths)


def format_attributes(attributes: Attributes) -> bytes:
    """The compressed attributes table, sorted by path: equal attributes give equal bytes."""
    import zstandard

    lines = [f"m,{mtime},{_quote(path)}" for path, mtime in sorted(attributes.mtimes_ns.items())]
    for path, pairs in sorted(attributes.xattrs.items()):
        lines += [
            f"x,{_quote(name)},{_base64(value)},{_quote(path)}" for name, value in sorted(pairs)
        ]
    lines += [
        f"{n.kind},{n.mode:04o},{n.uid},{n.gid},{n.major},{n.minor},{_quote(n.path)}"
        for n in sorted(attributes.nodes)
    ]
    lines += [f"z,{size},{digest.hex()}" for digest, size in sorted(attributes.blob_sizes.items())]
    return zstandard.ZstdCompressor(level=10).compress(_join(lines))


# --- reading ---------------------------------------------------------------------------------


def _parse(
    data: bytes, table: str, pattern: Pattern[str], entry: Callable[[Match[str]], Entry]
) -> List[Entry]:
    return [
        _explained(table, number, line, lambda text: entry(_matched(pattern, text)))
        for number, line in _lines(data, table)
    ]


def _lines(data: bytes, table: str) -> Iterator[Tuple[int, str]]:
    """Numbered lines. Only `\\n` ends a line: names may hold U+2028 and its kind."""
    if len(data) > MAX_TABLE_BYTES:
        raise ImageDamaged(f"{table} is larger than {MAX_TABLE_BYTES} bytes", slug="too-large")
    if data.count(b"\n") > MAX_LINES:
        raise ImageDamaged(f"{table} has more than {MAX_LINES} lines", slug="too-large")
    start, number, end = 0, 1, len(data)
    while start < end:
        stop = data.find(b"\n", start)
        stop = end if stop < 0 else stop
        if stop - start > MAX_LINE_BYTES:
            raise ImageDamaged(f"{table} line {number} is longer than {MAX_LINE_BYTES} bytes")
        try:
            yield number, data[start:stop].decode("utf-8")
        except UnicodeDecodeError:
            raise ImageDamaged(f"{table} line {number} is not UTF-8", slug="bad-line") from None
        start, number = stop + 1, number + 1


def _explained(table: str, number: int, line: str, read: Callable[[str], Entry]) -> Entry:
    """What `read` makes of `line`; a ValueError names table and line."""
    try:
        return read(line)
    except ValueError as error:
        raise ImageDamaged(
            f"{table} line {number}: {error}: {printable(line[:120])}",
            hint="the image can not be used; ask its publisher",
            slug="bad-line",
        ) from None


def _matched(pattern: Pattern[str], line: str) -> Match[str]:
    match = pattern.fullmatch(line)
    if match is None:
        raise ValueError("not an entry of this table")
    return match


def _unquote(text: str) -> str:
    return text.replace("'\\''", "'") if "'" in text else text


def _path(quoted: str) -> str:
    return checked_path(_unquote(quoted))


def checked_path(path: str) -> str:
    """`path` itself; ValueError unless it names one place inside the slot and no other."""
    if not path.startswith("/"):
        raise ValueError("path is not absolute")
    if path == "/":
        raise ValueError("`/` itself has no entry")
    if "\0" in path:
        raise ValueError("path holds a NUL")
    components = path.split("/")[1:]
    if "" in components or "." in components or ".." in components:
        raise ValueError("path with an empty, `.` or `..` component")
    _check_lengths(path, components)
    if path == RESERVED or path.startswith(RESERVED + "/"):
        raise ValueError(f"{RESERVED} belongs to the updater")
    return path


def _check_lengths(path: str, components: List[str]) -> None:
    if len(path) * 4 <= MAX_NAME_BYTES:
        return
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"path is longer than {MAX_PATH_BYTES} bytes")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in components):
        raise ValueError(f"name is longer than {MAX_NAME_BYTES} bytes")


def _target(quoted: str) -> str:
    target = _unquote(quoted)
    if not target or "\0" in target:
        raise ValueError("symlink target is empty or holds a NUL")
    if len(target.encode()) >= MAX_PATH_BYTES:
        raise ValueError(f"symlink target is longer than {MAX_PATH_BYTES - 1} bytes")
    return target


def _node(match: Match[str]) -> NodeEntry:
    kind, mode, uid, gid, major, minor, path = match.groups()
    return NodeEntry(
        _path(path), kind, _mode(mode), _owner(uid), _owner(gid),
        _within(major, MAX_MAJOR), _within(minor, MAX_MINOR),
    )  # fmt: skip


def _mode(digits: str) -> int:
    return int(digits, 8) & 0o7777


def _owner(digits: str) -> int:
    return _within(digits, MAX_OWNER)


def _within(digits: str, most: int) -> int:
    number = int(digits)
    if number > most:
        raise ValueError(f"{number} is larger than {most}")
    return number


def _xattr_name(quoted: str) -> str:
    name = _unquote(quoted)
    if not name or "\0" in name or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"attribute name is empty, holds a NUL, or exceeds {MAX_NAME_BYTES} bytes")
    return name


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _decompress(data: bytes, table: str) -> bytes:
    """The text of a compressed table, never more than the limit of a table."""
    import io

    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=128 * 1024 * 1024)
    try:
        with decompressor.stream_reader(io.BytesIO(data)) as reader:
            text = reader.read(MAX_TABLE_BYTES + 1)
    except zstandard.ZstdError as error:
        raise ImageDamaged(f"{table} can not be decompressed: {error}") from None
    return bytes(text)


# --- writing ---------------------------------------------------------------------------------


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _regular_line(entry: FileEntry, link_counts: Dict[str, int]) -> str:
    links = link_counts.get(entry.inode, 1) if entry.inode else 1
    size = "" if entry.size is None else entry.size
    compression = "zst" if entry.compressed else ""
    return (
        f"{entry.mode:04o},{entry.uid},{entry.gid},{links},{entry.digest.hex()},"
        f"{_quote(entry.path)},{size},{entry.inode or ''},{compression}"
    )


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
