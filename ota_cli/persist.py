"""Carrying persistent files from the running slot into the new one (FORMATS section 1).

A directory is merged, the running slot's files winning; nothing of the image disappears. Paths
are followed inside each slot only. Owners are mapped by name. Whatever can not be carried fails
the update; only what is absent is skipped.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .core.accounts import OwnerMap, owner_map
from .events import Emit, Note
from .host.content import write_at
from .host.held import Gone, Held, held, held_directory
from .host.inside import reading, resolve, resolve_parent, whole_text
from .host.tree import remove
from .persistent import ACCOUNTS, conflict, named, parents, present, require_shallow

_MAX_ACCOUNTS_BYTES = 16 * 1024 * 1024


class _Twins:
    """Where in the new slot files with several names are, for the other names of each.

    A file counts as another one once it was changed: its inode may be a new file's by then.
    """

    def __init__(self) -> None:
        self._targets: Dict[_Version, str] = {}
        self._versions: Dict[str, _Version] = {}

    def add(self, status: os.stat_result, target: str) -> None:
        """Notes that `target` is a copy of the file of `status`."""
        if status.st_nlink > 1:
            self._targets[_version(status)] = target
            self._versions[target] = _version(status)

    def of(self, status: os.stat_result) -> Optional[str]:
        """Where a copy of the file of `status` is, if there is one."""
        target = self._targets.get(_version(status), "")
        return target if self._versions.get(target) == _version(status) else None

    def forget(self, target: str) -> None:
        """Notes that something else comes to `target`."""
        self._versions.pop(target, None)


#: Device, inode and time of the last change.
_Version = Tuple[int, int, int]


def _version(status: os.stat_result) -> _Version:
    return status.st_dev, status.st_ino, status.st_ctime_ns


@dataclass(frozen=True)
class _Carrier:
    """What every copy needs. `owners`: apply owners and attributes (root only).

    `places`: where something was put in the new slot, symlinks resolved; all below them counts.
    """

    running: Path
    standby: Path
    owners: bool
    owner_map: OwnerMap
    emit: Emit
    places: List[str] = field(default_factory=list)
    twins: _Twins = field(default_factory=_Twins)

    def note(self, target: str) -> None:
        """Remembers that `target` of the new slot is not the image's any more."""
        if not any(target == place or target.startswith(f"{place}/") for place in self.places):
            self.places.append(target)


def persist(
    listed: Iterable[str], globs: Iterable[str], running: Path, standby: Path, emit: Emit
) -> List[str]:
    """Copies what the image lists and what the device's globs match; returns where it went.

    Raises OSError, SlotUnusable where one can not be read, DoesNotFit where a path leads nowhere in
    one of the systems or is a directory in only one of them, and as `whole_text` does for the names
    of owners.
    """
    carrier = _Carrier(
        running, standby, os.geteuid() == 0,
        owner_map(_accounts(running), _accounts(standby)), emit,
    )  # fmt: skip
    for path in present(listed, globs, running):
        with named(path):
            _carry_listed(carrier, path)
    return carrier.places


def _carry_listed(carrier: _Carrier, path: str) -> None:
    """Copies what the running slot has at `path` to where that leads in the new one."""
    parent, _, name = resolve_parent(carrier.running, path).rpartition("/")
    with suppress(Gone), held_directory(carrier.running, parent) as directory:
        _make_parents(carrier, path)
        _carry(carrier, directory, name, path)


def _carry(carrier: _Carrier, directory: Held, name: str, path: str) -> None:
    """Copies `name` in `directory` of the running slot to where `path` leads in the new one;
    nothing where it is gone since it was listed: the running system works on."""
    place = f"{carrier.running}{path}"
    with suppress(Gone), held(directory.descriptor, name, place) as source:
        mode = source.status.st_mode
        if stat.S_ISDIR(mode):
            _carry_directory(carrier, source, path)
        elif stat.S_ISLNK(mode):
            _carry_symlink(carrier, source, path)
        elif stat.S_ISREG(mode):
            _carry_file(carrier, source, path)
        else:
            carrier.emit(Note(f"{path} is a socket, fifo or device; not carried over"))


def _carry_directory(carrier: _Carrier, source: Held, path: str) -> None:
    names, looks = sorted(source.names()), _looks(carrier, source)
    target = resolve(carrier.standby, path)
    place = f"{carrier.standby}{target}"
    existed = os.path.lexists(place)
    if existed and not stat.S_ISDIR(os.lstat(place).st_mode):
        raise conflict(path)
    carrier.note(target)
    if not existed:
        _make_directories(os.path.dirname(place))
        os.mkdir(place, 0o700)
    for name in names:
        _carry(carrier, source, name, require_shallow(f"{path}/{name}"))
    _dress(carrier, target, looks)


def _carry_symlink(carrier: _Carrier, source: Held, path: str) -> None:
    leads_to, looks = source.leads_to(), _looks(carrier, source)
    target = _cleared(carrier, path)
    os.symlink(leads_to, f"{carrier.standby}{target}")
    _dress(carrier, target, looks)


def _carry_file(carrier: _Carrier, source: Held, path: str) -> None:
    twin = carrier.twins.of(source.status)
    if twin is not None:
        _link(carrier, twin, path)
        return
    looks = _looks(carrier, source)
    target = _cleared(carrier, path)
    _copy(source, f"{carrier.standby}{target}")
    _dress(carrier, target, looks)
    carrier.twins.add(source.status, target)


def _link(carrier: _Carrier, twin: str, path: str) -> None:
    if resolve_parent(carrier.standby, path) != twin:
        target = _cleared(carrier, path)
        os.link(f"{carrier.standby}{twin}", f"{carrier.standby}{target}", follow_symlinks=False)


def _make_parents(carrier: _Carrier, path: str) -> None:
    """Missing directories above `path`, each like the running slot's."""
    for parent in parents(path):
        target = resolve(carrier.standby, parent)
        if os.path.isdir(f"{carrier.standby}{target}"):
            continue
        with held_directory(carrier.running, resolve(carrier.running, parent)) as source:
            looks = _looks(carrier, source)
        _make_directories(f"{carrier.standby}{target}")
        _dress(carrier, target, looks)


def _make_directories(place: str) -> None:
    """Makes `place` and all above it, whatever the umask: a dangling link may lead deep."""
    if os.path.isdir(place):
        return
    _make_directories(os.path.dirname(place))
    os.mkdir(place)
    os.chmod(place, 0o755)  # noqa: S103 (a directory above others' files is for everybody)


def _cleared(carrier: _Carrier, path: str) -> str:
    """Where `path` leads in the new slot. What the image has there is removed: a new inode, never
    a write through a hard link."""
    target = resolve_parent(carrier.standby, path)
    place = f"{carrier.standby}{target}"
    carrier.note(target)
    if os.path.lexists(place):
        if stat.S_ISDIR(os.lstat(place).st_mode):
            raise conflict(path)
        remove(carrier.standby, target)
        carrier.twins.forget(target)
    return target


def _copy(source: Held, place: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(place, flags, 0o600)
    try:
        for offset, piece in source.data():
            write_at(descriptor, offset, piece)
        now_bytes = os.fstat(source.descriptor).st_size  # it may have been cut off meanwhile
        os.ftruncate(descriptor, min(source.status.st_size, now_bytes))
    finally:
        os.close(descriptor)


class _Looks(NamedTuple):
    """What a copy gets besides content."""

    status: os.stat_result
    attributes: Mapping[str, bytes]


def _looks(carrier: _Carrier, source: Held) -> _Looks:
    return _Looks(source.status, source.attributes() if carrier.owners else {})


def _dress(carrier: _Carrier, target: str, looks: _Looks) -> None:
    """Owner (by name), attributes, mode and times of the running slot's file."""
    place, status = f"{carrier.standby}{target}", looks.status
    if carrier.owners:
        uid, gid = carrier.owner_map(status.st_uid, status.st_gid)
        os.chown(place, uid, gid, follow_symlinks=False)
    for name, value in looks.attributes.items():
        os.setxattr(place, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(place, stat.S_IMODE(status.st_mode))
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(place, ns=times, follow_symlinks=False)


def _accounts(root: Path) -> Tuple[str, str]:
    """The texts of passwd and group of a slot; empty where it has none."""
    passwd, group = ACCOUNTS
    with reading(f"{root}{passwd}"):
        users = whole_text(root, passwd, _MAX_ACCOUNTS_BYTES)
    with reading(f"{root}{group}"):
        groups = whole_text(root, group, _MAX_ACCOUNTS_BYTES)
    return users or "", groups or ""
