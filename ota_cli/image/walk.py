"""Reading a root file system for an image: what is in it, in one order, whatever the disk's.

Symlinks are never followed. Other file systems mounted inside are left out with a warning, as
are sockets, `/.ota` and an ext4's `/lost+found`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Set, Tuple

from ..core.attributes import MAX_XATTRS, is_xattr_name
from ..core.kernels import boot_names, kernels
from ..core.lines import RESERVED
from ..core.text import printable
from ..entries import DirEntry, LinkEntry, NodeEntry, told_time
from ..errors import ConfigError, ImageDamaged
from ..events import Emit, Note, Warned
from ..host.tree import xattrs_of

#: Belongs to the publisher's machine, not to the image.
_FOREIGN_XATTRS = ("security.selinux", "security.ima", "security.evm", "security.SMACK64")

Ignored = Callable[[str, bool], bool]


@dataclass(frozen=True)
class Found:
    """A regular file: its path, stat, and (for one of several names) its group."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    group: Optional[Tuple[int, int]]


@dataclass
class Tree:
    """All of a root file system, sorted by path once `walk` returns it."""

    directories: List[DirEntry] = field(default_factory=list)
    symlinks: List[LinkEntry] = field(default_factory=list)
    regulars: List[Found] = field(default_factory=list)
    nodes: List[NodeEntry] = field(default_factory=list)
    mtimes_ns: Dict[str, int] = field(default_factory=dict)
    xattrs: Dict[str, Tuple[Tuple[str, bytes], ...]] = field(default_factory=dict)


def walk(rootfs: Path, ignore: Optional[str], all_kernels: bool, emit: Emit) -> Tree:
    """The tree of `rootfs`. `ignore`: text of a gitignore-style file.

    Raises ImageDamaged for names an image can not express, ConfigError for a tree that can not
    be read.
    """
    tree = Tree()
    ignored = _ignored(ignore)
    try:
        walker = _Walker(rootfs, tree, ignored, _old_kernels(rootfs, all_kernels), emit)
        walker.walk(os.stat(rootfs).st_dev)
    except OSError as error:
        raise ConfigError(
            f"{printable(str(error.filename))} can not be read: {error.strerror}",
            hint="root file systems are usually read as root",
        ) from None
    tree.directories.sort()
    tree.symlinks.sort()
    tree.nodes.sort()
    tree.regulars.sort(key=lambda found: found.path)
    return tree


@dataclass(frozen=True)
class _Walker:
    rootfs: Path
    tree: Tree
    ignored: Ignored
    old_kernels: FrozenSet[str]
    emit: Emit
    left_out: Set[str] = field(default_factory=set)

    def walk(self, device: int) -> None:
        pending = [""]
        while pending:
            pending += self._directory(pending.pop(), device)

    def _directory(self, path: str, device: int) -> Iterator[str]:
        """Adds what is in one directory; yields the directories to go on with."""
        with os.scandir(f"{self.rootfs}{path}") as listing:
            entries = list(listing)
        for entry in entries:
            child = f"{path}/{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            if self._is_left_out(child, is_directory):
                continue
            _check_name(child, child)
            self._add(child, status)
            if is_directory and status.st_dev != device:
                self.emit(Warned(f"{child} is another file system: its content is left out"))
            elif is_directory:
                yield child

    def _is_left_out(self, path: str, is_directory: bool) -> bool:
        own = path in (RESERVED, "/lost+found")
        return own or path in self.old_kernels or self.ignored(path, is_directory)

    def _add(self, path: str, status: os.stat_result) -> None:
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        place = f"{self.rootfs}{path}"
        tree = self.tree
        if stat.S_ISSOCK(status.st_mode):
            self.emit(Note(f"{path} is a socket: left out"))
            return
        if stat.S_ISDIR(status.st_mode):
            tree.directories.append(DirEntry(path, mode, uid, gid))
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(place)
            _check_name(target, f"the target of the symlink {path}")
            tree.symlinks.append(LinkEntry(path, target, uid, gid))
        elif stat.S_ISREG(status.st_mode):
            group = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
            tree.regulars.append(Found(path, mode, uid, gid, status.st_size, group))
        else:
            tree.nodes.append(_node(path, status))
        tree.mtimes_ns[path] = told_time(status.st_mtime_ns)
        xattrs = tuple(self._xattrs(path, place))
        if xattrs:
            tree.xattrs[path] = xattrs

    def _xattrs(self, path: str, place: str) -> Iterator[Tuple[str, bytes]]:
        found = sorted((xattrs_of(place) or {}).items())
        if len(found) > MAX_XATTRS:
            raise ImageDamaged(
                f"{printable(path)} has more than {MAX_XATTRS} extended attributes: an image can "
                "not name them",
                hint="remove what a root file system does not need",
            )
        for name, value in found:
            _check_name(name, f"an extended attribute of {path}")
            if is_xattr_name(name):
                if name not in _FOREIGN_XATTRS:
                    yield name, value
            elif name not in self.left_out:
                self.left_out.add(name)
                self.emit(Warned(f"{path}: {name} is left out, here and elsewhere: no slot has it"))


def _node(path: str, status: os.stat_result) -> NodeEntry:
    kinds = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
    kind = kinds[stat.S_IFMT(status.st_mode)]
    device = status.st_rdev if kind != "p" else 0
    return NodeEntry(
        path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid,
        os.major(device), os.minor(device),
    )  # fmt: skip


def _check_name(name: str, what: str) -> None:
    """Raises ImageDamaged, naming `what`, for a `name` that a line of a table can not hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        why = "is not UTF-8"
    else:
        if "\n" not in name:
            return
        why = "holds a line break"
    raise ImageDamaged(
        f"{printable(what)} {why}: an image can not name it",
        hint="change it, or leave it out with --ignore",
    )


def _ignored(text: Optional[str]) -> Ignored:
    if text is None:
        return lambda path, is_directory: False
    import pathspec

    try:
        spec = pathspec.GitIgnoreSpec.from_lines(text.splitlines())
    except (ValueError, re.error) as error:
        raise ConfigError(f"the ignore file has a pattern that does not work: {error}") from None

    def matches(path: str, is_directory: bool) -> bool:
        return bool(spec.match_file(path[1:] + ("/" if is_directory else "")))

    return matches


def _old_kernels(rootfs: Path, all_kernels: bool) -> FrozenSet[str]:
    """Paths in `/boot` of every kernel but the newest."""
    boot = rootfs / "boot"
    if all_kernels or not boot.is_dir() or boot.is_symlink():
        return frozenset()
    names = [e.name for e in os.scandir(boot) if e.is_file(follow_symlinks=False)]
    found = kernels(names)
    newest = boot_names(found[0].version) if found else frozenset()
    old = {name for kernel in found[1:] if kernel.version for name in boot_names(kernel.version)}
    return frozenset(f"/boot/{name}" for name in old - newest)
