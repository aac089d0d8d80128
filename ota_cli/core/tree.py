"""What only shows across the entries of an image: could this tree exist?

A tree is refused (ImageDamaged) when a path is there twice, when something lies below a thing
that is not a directory, or when the names of one hard-linked file disagree about it.
"""

from __future__ import annotations

from sys import intern
from typing import Dict, Iterable, Iterator, Set, Tuple

from ..errors import ImageDamaged
from ..model import Claims, Tables
from ..packed import PackedFiles
from .text import printable

#: Of all directories that something lies in, as paths; 90,000 directories have 8 MB of them.
MAX_DIRECTORIES_BYTES = 64 * 1024 * 1024


def check_tree(tables: Tables, claims: Claims) -> None:
    """Raises ImageDamaged, naming table and path, when `tables` describe no possible tree."""
    kinds = _kinds(tables, claims)
    _check_doubles(tables, claims, kinds)
    regulars = tables.regulars.paths
    for parent, child in _parents(_samples(tables)):
        table = kinds.get(parent)
        if table is None and regulars.find(parent) is not None:
            table = claims.regulars.name
        if table not in (None, claims.directories.name):
            raise ImageDamaged(
                f"'{printable(child)}' lies below '{printable(parent)}', which is no directory "
                f"({table})",
                slug="bad-tree",
            )
    _check_groups(tables.regulars, claims.regulars.name)
    _check_attributes(tables, kinds, claims.directories.name)


def parent_of(path: str) -> str:
    """The directory of `path`; the root is the empty string."""
    return path[: path.rindex("/")]


def implied_directories(tables: Tables) -> Set[str]:
    """Directories that entries lie in although the image has no line for them."""
    listed = tables.directories.paths
    return {parent for parent, _ in _parents(_samples(tables)) if listed.find(parent) is None}


def _samples(tables: Tables) -> Iterator[str]:
    """Of each table, a path in each directory that something lies in."""
    for entries in (tables.regulars, tables.symlinks, tables.directories):
        yield from entries.paths.samples()
    if tables.attributes:
        yield from (node.path for node in tables.attributes.nodes)


def _kinds(tables: Tables, claims: Claims) -> Dict[str, str]:
    """The path of everything but regular files, with the name of the table that holds it."""
    kinds: Dict[str, str] = {}
    nodes = tables.attributes.nodes if tables.attributes else ()
    attributes = claims.details.attributes.name if claims.details.attributes else ""
    for table, paths in (
        (claims.directories.name, (entry.path for entry in tables.directories)),
        (claims.symlinks.name, (entry.path for entry in tables.symlinks)),
        (attributes, (node.path for node in nodes)),
    ):
        for number, path in enumerate(paths, 1):
            if path in kinds:
                raise _double(table, number, path)
            kinds[path] = table
    return kinds


def _check_doubles(tables: Tables, claims: Claims, kinds: Dict[str, str]) -> None:
    """Raises ImageDamaged when a regular file has the path of anything else."""
    paths = tables.regulars.paths
    doubled = paths.doubled()
    rows = [row for row in map(paths.find, kinds) if row is not None]
    if doubled is not None:
        rows.append(doubled)
    if rows:
        raise _double(claims.regulars.name, rows[0] + 1, paths[rows[0]])


def _double(table: str, number: int, path: str) -> ImageDamaged:
    return ImageDamaged(
        f"{table} line {number}: '{printable(path)}' is in the image twice", slug="bad-tree"
    )


def _parents(paths: Iterable[str]) -> Iterator[Tuple[str, str]]:
    """Each ancestor directory once, with one path that lies below it.

    Raises ImageDamaged for more of them than any system has: a table of some megabytes can name so
    many that they fill a device's memory.
    """
    seen: Set[str] = {""}
    held = 0
    for path in paths:
        child = path
        while child:
            parent = intern(parent_of(child))  # the tables have most of them
            if parent in seen:
                break
            seen.add(parent)
            held += len(parent)
            if held > MAX_DIRECTORIES_BYTES:
                raise ImageDamaged(
                    f"the names of the directories take more than {MAX_DIRECTORIES_BYTES} bytes",
                    slug="too-large",
                )
            yield parent, path
            child = parent


def _check_groups(regulars: PackedFiles, table: str) -> None:
    for row, names in regulars.linked().items():
        first, entry = regulars[names[0]], regulars[row]
        if (first.digest, first.mode, first.uid, first.gid) != (
            entry.digest, entry.mode, entry.uid, entry.gid,
        ):  # fmt: skip
            raise ImageDamaged(
                f"{table}: '{printable(first.path)}' and '{printable(entry.path)}' are one file "
                "by inode but differ",
                slug="bad-tree",
            )


def _check_attributes(tables: Tables, kinds: Dict[str, str], directories: str) -> None:
    if tables.attributes is None:
        return
    for path in (*tables.attributes.mtimes_ns, *tables.attributes.xattrs):
        if path not in kinds and tables.regulars.paths.find(path) is None:
            raise ImageDamaged(
                f"attributes of '{printable(path)}', which is not in the image", slug="bad-tree"
            )
    for path, pairs in tables.attributes.xattrs.items():
        if kinds.get(path) not in (None, directories) and any(map(_is_of_content, pairs)):
            raise ImageDamaged(
                f"'{printable(path)}' is neither file nor directory: it can not have attributes "
                "of users",
                slug="bad-tree",
            )


def _is_of_content(pair: Tuple[str, bytes]) -> bool:
    """Only files and directories have these: xattr(7)."""
    return pair[0].startswith("user.")
