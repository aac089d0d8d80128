"""What only shows across the entries of an image: could this tree exist?

A tree is refused (ImageDamaged) when a path is there twice, when something lies below a thing
that is not a directory, or when the names of one hard-linked file disagree about it.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Set, Tuple

from ..errors import ImageDamaged
from ..model import Claims, FileEntry, Tables
from .text import printable


def check_tree(tables: Tables, claims: Claims) -> None:
    """Raises ImageDamaged, naming table and path, when `tables` describe no possible tree."""
    kinds = _kinds(tables, claims)
    leaves = {path for path, table in kinds.items() if table != claims.directories.name}
    for parent, child in _parents(kinds):
        if parent in leaves:
            raise ImageDamaged(
                f"{kinds[child]}: '{printable(child)}' lies below '{printable(parent)}', "
                f"which is no directory ({kinds[parent]})",
                slug="bad-tree",
            )
    _check_groups(tables.regulars, claims.regulars.name)
    _check_attributes(tables, kinds)


def parent_of(path: str) -> str:
    """The directory of `path`; the root is the empty string."""
    return path[: path.rindex("/")]


def implied_directories(tables: Tables) -> Set[str]:
    """Directories that entries lie in although the image has no line for them."""
    listed = {entry.path for entry in tables.directories}
    listed.add("")
    everything = [
        *(entry.path for entry in tables.regulars),
        *(entry.path for entry in tables.symlinks),
        *listed,
    ]
    if tables.attributes:
        everything += [node.path for node in tables.attributes.nodes]
    return {parent for parent, _ in _parents(everything) if parent not in listed}


def _kinds(tables: Tables, claims: Claims) -> Dict[str, str]:
    """Every path with the name of the table that holds it."""
    kinds: Dict[str, str] = {}
    nodes = tables.attributes.nodes if tables.attributes else ()
    attributes = claims.details.attributes.name if claims.details.attributes else ""
    for table, paths in (
        (claims.directories.name, (entry.path for entry in tables.directories)),
        (claims.symlinks.name, (entry.path for entry in tables.symlinks)),
        (claims.regulars.name, (entry.path for entry in tables.regulars)),
        (attributes, (node.path for node in nodes)),
    ):
        for number, path in enumerate(paths, 1):
            if path in kinds:
                raise ImageDamaged(
                    f"{table} line {number}: '{printable(path)}' is in the image twice",
                    slug="bad-tree",
                )
            kinds[path] = table
    return kinds


def _parents(paths: Iterable[str]) -> Iterator[Tuple[str, str]]:
    """Each ancestor directory once, with one path that lies below it."""
    seen: Set[str] = {""}
    for path in paths:
        child = path
        while child:
            parent = parent_of(child)
            if parent in seen:
                break
            seen.add(parent)
            yield parent, path
            child = parent


def _check_groups(regulars: Iterable[FileEntry], table: str) -> None:
    first_of: Dict[str, FileEntry] = {}
    for entry in regulars:
        if entry.inode is None:
            continue
        first = first_of.setdefault(entry.inode, entry)
        if (first.digest, first.mode, first.uid, first.gid) != (
            entry.digest, entry.mode, entry.uid, entry.gid,
        ):  # fmt: skip
            raise ImageDamaged(
                f"{table}: '{printable(first.path)}' and '{printable(entry.path)}' are one file "
                "by inode but differ",
                slug="bad-tree",
            )


def _check_attributes(tables: Tables, kinds: Dict[str, str]) -> None:
    if tables.attributes is None:
        return
    for path in (*tables.attributes.mtimes_ns, *tables.attributes.xattrs):
        if path not in kinds:
            raise ImageDamaged(
                f"attributes of '{printable(path)}', which is not in the image", slug="bad-tree"
            )
