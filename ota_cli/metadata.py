"""Owners, modes, times and extended attributes of a slot's files, as the image has them.

Owner before all else: a change of owner clears suid, sgid and file capabilities. Symlinks are
never followed. Without root, owners and privileged attributes are not applied; the report says
so.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Dict, Iterable, Optional, Tuple

from .core.local import LocalTree
from .core.plan import Plan
from .core.text import printable
from .entries import DirEntry, FileEntry
from .errors import ImageDamaged
from .host.tree import has_xattrs, xattrs_of
from .model import Attributes

#: Set by the running system's policy, not by an image that does not name them.
_POLICY_XATTRS = ("security.selinux", "security.ima", "security.evm", "security.SMACK64")

#: An image has no entry for its root; a slot's may be anything, and a system needs this.
ROOT_DIRECTORY = DirEntry("", 0o755, 0, 0)


class Finisher:
    """Gives the entries of one slot the metadata of the image.

    `owners`: apply owners and all extended attributes; else only the caller's own `user.*`.
    """

    def __init__(
        self, slot: Path, local: LocalTree, attributes: Optional[Attributes], *, owners: bool
    ) -> None:
        self._slot = str(slot)
        self._local = local
        self._owners = owners
        self._mtimes = attributes.mtimes_ns if attributes else {}
        self._xattrs = attributes.xattrs if attributes else {}

    def file(self, entry: FileEntry, mtime_ns: Optional[int]) -> None:
        """All metadata of a file that was just made; `mtime_ns` where the image gives none."""
        target = f"{self._slot}{entry.path}"
        self._own(target, entry.uid, entry.gid)
        self._fit_xattrs(target, entry.path)
        os.chmod(target, entry.mode)
        self._date(target, mtime_ns if entry.mtime_ns is None else entry.mtime_ns)

    def new_file(self, descriptor: int, entry: FileEntry, mtime_ns: int) -> None:
        """All metadata of a new file that is still open; `mtime_ns` where the image gives none."""
        if self._owners:
            os.fchown(descriptor, entry.uid, entry.gid)
        if entry.path in self._xattrs or has_xattrs(descriptor):  # such as a default ACL
            self._fit_xattrs(f"{self._slot}{entry.path}", entry.path)
        os.fchmod(descriptor, entry.mode)
        mtime_ns = mtime_ns if entry.mtime_ns is None else entry.mtime_ns
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    def keep(self, plan: Plan) -> None:
        """Corrects what differs on kept files; writes nothing to those that are right."""
        for entry, have in plan.steps.kept(self._local.files):
            target = f"{self._slot}{entry.path}"
            wrong_owner = self._owners and (have.uid, have.gid) != (entry.uid, entry.gid)
            if wrong_owner:
                self._own(target, entry.uid, entry.gid)
            changed = self._fit_xattrs(target, entry.path)
            if wrong_owner or changed or have.mode != entry.mode:
                os.chmod(target, entry.mode)
            if entry.mtime_ns not in (None, have.mtime_ns):
                self._date(target, entry.mtime_ns)

    def symlinks_and_nodes(self, plan: Plan) -> None:
        """Makes missing symlinks, nodes and fifos; corrects the owners of all of them."""
        for link in plan.symlinks:
            target = f"{self._slot}{link.path}"
            if not self._present(link.path, "l", link.target):
                os.symlink(link.target, target)
            self._dress(target, link.path, link.uid, link.gid, link.mtime_ns)
        for node in plan.nodes:
            target = f"{self._slot}{node.path}"
            if node.kind == "p":
                if not self._present(node.path, "p", ""):
                    os.mkfifo(target, 0o600)
            elif self._owners:
                kind = 0o060000 if node.kind == "b" else 0o020000
                os.mknod(target, kind | 0o600, os.makedev(node.major, node.minor))
            else:
                continue  # only root makes device nodes
            self._dress(target, node.path, node.uid, node.gid, self._mtimes.get(node.path))
            os.chmod(target, node.mode)

    def directories(self, entries: Iterable[DirEntry]) -> None:
        """Metadata of directories, given deepest first: nothing below them changes afterwards."""
        for entry in entries:
            target = f"{self._slot}{entry.path}"
            have = os.lstat(target)
            wrong_owner = self._owners and (have.st_uid, have.st_gid) != (entry.uid, entry.gid)
            if wrong_owner:
                self._own(target, entry.uid, entry.gid)
            changed = self._fit_xattrs(target, entry.path)
            if wrong_owner or changed or have.st_mode & 0o7777 != entry.mode:
                os.chmod(target, entry.mode)
            if entry.mtime_ns not in (None, have.st_mtime_ns):
                self._date(target, entry.mtime_ns)

    def has_right_xattrs(self, path: str) -> bool:
        """Whether the extended attributes at `path` are those of the image."""
        return self._own_xattrs(f"{self._slot}{path}") == self._wanted_xattrs(path)

    def _present(self, path: str, kind: str, link_target: str) -> bool:
        other = self._local.others.get(path)
        return other is not None and (other.kind, other.target) == (kind, link_target)

    def _dress(self, target: str, path: str, uid: int, gid: int, mtime_ns: Optional[int]) -> None:
        have = os.lstat(target)
        if (have.st_uid, have.st_gid) != (uid, gid):
            self._own(target, uid, gid)
        self._fit_xattrs(target, path)
        if mtime_ns not in (None, have.st_mtime_ns):
            self._date(target, mtime_ns)

    def _own(self, target: str, uid: int, gid: int) -> None:
        if self._owners:
            os.chown(target, uid, gid, follow_symlinks=False)

    def _date(self, target: str, mtime_ns: Optional[int]) -> None:
        if mtime_ns is not None:
            os.utime(target, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _fit_xattrs(self, target: str, path: str) -> bool:
        """Makes the extended attributes those of the image; True if anything was changed."""
        have, wanted = self._own_xattrs(target), self._wanted_xattrs(path)
        for name in have.keys() - wanted.keys():
            _remove_xattr(target, name)
        for name, value in wanted.items():
            if have.get(name) != value:
                _set_xattr(target, name, value)
        return have != wanted

    def _own_xattrs(self, target: str) -> Dict[str, bytes]:
        found = xattrs_of(target) or {}
        return {name: value for name, value in found.items() if self._may(name)}

    def _wanted_xattrs(self, path: str) -> Dict[str, bytes]:
        pairs: Tuple[Tuple[str, bytes], ...] = self._xattrs.get(path, ())
        return {name: value for name, value in pairs if self._may(name)}

    def _may(self, name: str) -> bool:
        return name not in _POLICY_XATTRS and (self._owners or name.startswith("user."))


def _set_xattr(target: str, name: str, value: bytes) -> None:
    try:
        os.setxattr(target, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ImageDamaged(
            f"{target}: the image's {printable(name)} is none that Linux takes", slug="bad-xattr"
        ) from error


def _remove_xattr(target: str, name: str) -> None:
    try:
        os.removexattr(target, name, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENODATA:  # a removed ACL can take its twin along
            raise
