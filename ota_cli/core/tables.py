"""The text tables of an image: one entry a line (FORMATS section 1, "Tables").

Reading refuses (ImageDamaged, naming table and line) what could lead outside the slot or be
read in two ways; `core.tree` checks what only shows across entries. Writing gives the strict
form of the field's generator.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, Iterable, List, Mapping, Match

from ..compressed import CompressedFiles
from ..entries import Digest, DirEntry, FileEntry, LinkEntry
from ..model import Claims, Tables
from ..packed import PackedFiles
from ..packedothers import PackedDirectories, PackedLinks
from .attributes import memory_bytes as attributes_bytes
from .attributes import parse_attributes
from .lines import (
    MAX_PATH_BYTES,
    META,
    QUOTED,
    join,
    quote,
    read_entries,
    read_mode,
    read_owner,
    read_path,
    unquote,
)
from .tree import check_tree

_DIRECTORY = re.compile(rf"{META},{QUOTED}")
_SYMLINK = re.compile(rf"{META},{QUOTED},{QUOTED}")
_REGULAR = re.compile(
    rf"{META},[0-9]{{1,10}},([0-9a-f]{{64}}),{QUOTED}"
    r"(?:,([0-9]{0,18})(?:,([0-9]{0,20})(?:,(zst)?)?)?)?"
)
_PERSISTENT = re.compile(QUOTED)
#: Memory for a line of usual length, while it is read.
_ENTRY_BYTES = 250


def parse_tables(claims: Claims, files: Mapping[str, bytes]) -> Tables:
    """All tables that `claims` names, from `files` whose digests have been checked.

    Raises ImageDamaged for a line that does not parse and for a tree that can not exist.
    """
    tables = Tables(
        regulars=parse_regulars(files[claims.regulars.name], claims.regulars.name),
        directories=parse_directories(files[claims.directories.name], claims.directories.name),
        symlinks=parse_symlinks(files[claims.symlinks.name], claims.symlinks.name),
        persistents=tuple(
            parse_persistents(files[claims.persistents.name], claims.persistents.name)
        ),
        attributes=None,
    )
    found = claims.details.attributes
    if found:
        attributes = parse_attributes(files[found.name], found.name, tables)
        tables = replace(tables, attributes=attributes)
    check_tree(tables, claims)
    return tables


def memory_bytes(claims: Claims, files: CompressedFiles) -> int:
    """What `parse_tables` takes, about; not much less for any image, nor more for an honest one."""
    attributes = claims.details.attributes
    need = largest = 0
    for ref in claims.table_refs:
        if ref == attributes:
            need += attributes_bytes(files[ref.name], ref.name)
            continue
        lines = total = 0
        for piece in files.pieces(ref.name):
            lines, total = lines + piece.count(b"\n"), total + len(piece)
        need += max(lines * _ENTRY_BYTES, total)
        largest = max(largest, total)
    return need + largest


def parse_directories(data: bytes, table: str = "dirs.txt") -> PackedDirectories:
    """`mode,uid,gid,'path'` a line."""

    def entry(match: Match[str]) -> DirEntry:
        mode, uid, gid, path = match.groups()
        return DirEntry(read_path(path), read_mode(mode), read_owner(uid), read_owner(gid))

    return PackedDirectories(read_entries(data, table, _DIRECTORY, entry))


def parse_symlinks(data: bytes, table: str = "symlinks.txt") -> PackedLinks:
    """`mode,uid,gid,'link','target'` a line; the mode of a symlink means nothing."""

    def entry(match: Match[str]) -> LinkEntry:
        _, uid, gid, path, target = match.groups()
        return LinkEntry(read_path(path), _target(target), read_owner(uid), read_owner(gid))

    return PackedLinks(read_entries(data, table, _SYMLINK, entry))


def parse_regulars(data: bytes, table: str = "regulars.txt") -> PackedFiles:
    """`mode,uid,gid,nlink,sha256,'path'[,size[,inode[,compression]]]` a line."""

    def entry(match: Match[str]) -> FileEntry:
        mode, uid, gid, digest, path, size, inode, compression = match.groups()
        return FileEntry(
            read_path(path), read_mode(mode), read_owner(uid), read_owner(gid),
            Digest(bytes.fromhex(digest)),
            int(size) if size else None, inode or None, bool(compression),
        )  # fmt: skip

    return PackedFiles(read_entries(data, table, _REGULAR, entry))


def parse_persistents(data: bytes, table: str = "persistents.txt") -> List[str]:
    """One quoted path a line."""
    return list(read_entries(data, table, _PERSISTENT, lambda match: read_path(match.group(1))))


def format_directories(entries: Iterable[DirEntry]) -> bytes:
    """The table of `entries`, in their order."""
    return join(f"{e.mode:04o},{e.uid},{e.gid},{quote(e.path)}" for e in entries)


def format_symlinks(entries: Iterable[LinkEntry]) -> bytes:
    """The table of `entries`, in their order; the mode is always 0777, as in the field."""
    return join(f"0777,{e.uid},{e.gid},{quote(e.path)},{quote(e.target)}" for e in entries)


def format_regulars(entries: Iterable[FileEntry], link_counts: Dict[str, int]) -> bytes:
    """The table of `entries`, in their order. `link_counts`: names by hard-link group."""
    return join(_regular_line(entry, link_counts) for entry in entries)


def format_persistents(paths: Iterable[str]) -> bytes:
    """The table of `paths`, in their order."""
    return join(quote(path) for path in paths)


def _target(quoted: str) -> str:
    target = unquote(quoted)
    if not target or "\0" in target:
        raise ValueError("symlink target is empty or holds a NUL")
    if len(target.encode()) >= MAX_PATH_BYTES:
        raise ValueError(f"symlink target is longer than {MAX_PATH_BYTES - 1} bytes")
    return target


def _regular_line(entry: FileEntry, link_counts: Dict[str, int]) -> str:
    links = link_counts.get(entry.inode, 1) if entry.inode else 1
    size = "" if entry.size is None else entry.size
    compression = "zst" if entry.compressed else ""
    return (
        f"{entry.mode:04o},{entry.uid},{entry.gid},{links},{entry.digest.hex()},"
        f"{quote(entry.path)},{size},{entry.inode or ''},{compression}"
    )
