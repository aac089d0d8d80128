"""Putting what a confirmed trial boot needs into an image's root file system.

Units, their links, hooks of the kernel packages, the anchors the next image is checked with,
and the directory for health checks. Idempotent; symlinks of the tree are followed inside the
tree only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

from ..core.certificate import read_certificates
from ..core.certs import load_store
from ..core.hooks import INITRAMFS_SCRIPT, hooks
from ..core.systemd import VERIFIER_PATH, VERIFIER_TEXT, VERIFIER_UNIT, units
from ..errors import ConfigError, ImageDamaged
from ..events import Emit, Note
from ..host.anchors import load_anchors
from ..host.files import is_directory, make_directory_durably, read_limited
from ..host.inside import is_executable, resolve
from ..host.units import holds_unit
from .draft import write_failure

_MAX_CERTIFICATE_BYTES = 64 * 1024
_PROGRAMS = ("/usr/bin/ota", "/usr/local/bin/ota")


@dataclass(frozen=True)
class Prepared:
    """What was put into the tree, by path, and whether it holds an `ota` to run."""

    written: Tuple[str, ...]
    unchanged: Tuple[str, ...]
    holds_ota: bool


def prepare(rootfs: Path, anchors: Sequence[Path], emit: Emit) -> Prepared:
    """Makes `rootfs` able to confirm its own trial boot.

    Raises ConfigError for anchors that are no certificates, NoSpace and SlotUnusable when the tree
    can not be written.
    """
    if not is_directory(rootfs / "etc"):
        raise ConfigError(f"{rootfs} is no root file system: it has no /etc")
    wanted = _unit_files(rootfs)
    wanted += [(f"/etc/ota/certs/{path.name}", _certificate(path)) for path in anchors]
    written: List[str] = []
    unchanged: List[str] = []
    try:
        _directory(rootfs, "/etc/ota/health.d")
        for path, data in wanted:
            (written if _write(rootfs, path, data) else unchanged).append(path)
        for hook in hooks():
            if os.path.isdir(f"{rootfs}{resolve(rootfs, hook.path.rsplit('/', 2)[0])}"):
                done = _write(rootfs, hook.path, hook.text.encode(), 0o755)
                (written if done else unchanged).append(hook.path)
        for unit in units():
            link = f"/etc/systemd/system/{unit.wanted_by}.wants/{unit.name}"
            done = _link(rootfs, link, f"../{unit.name}")
            (written if done else unchanged).append(link)
    except OSError as error:
        raise write_failure(rootfs, error) from None
    if INITRAMFS_SCRIPT in written:
        emit(Note(f"{rootfs}: run `update-initramfs -u` in it: its initrd lacks a script of ota"))
    if anchors:
        load_anchors(Path(f"{rootfs}{resolve(rootfs, '/etc/ota/certs')}"))
    holds_ota = any(is_executable(rootfs, program) for program in _PROGRAMS)
    if not holds_ota:
        emit(Note(f"{rootfs} holds no ota: install it there before the image is built"))
    return Prepared(tuple(written), tuple(unchanged), holds_ota)


def _unit_files(rootfs: Path) -> List[Tuple[str, bytes]]:
    wanted = [(f"/etc/systemd/system/{unit.name}", unit.text.encode()) for unit in units()]
    if holds_unit(rootfs, VERIFIER_UNIT):
        wanted.append((VERIFIER_PATH, VERIFIER_TEXT.encode()))
    return wanted


def _certificate(path: Path) -> bytes:
    try:
        data = read_limited(path, _MAX_CERTIFICATE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None
    except ImageDamaged as error:
        raise ConfigError(error.message) from None
    if path.suffix != ".pem":
        raise ConfigError(f"{path} is no certificate in PEM form named *.pem")
    load_store({str(path): data}, None)
    # Nothing else of the file: it may hold the CA's private key, which images would publish.
    return b"".join(each.pem for each in read_certificates(data))


def _directory(rootfs: Path, path: str) -> str:
    place = f"{rootfs}{resolve(rootfs, path)}"
    make_directory_durably(Path(place))
    return place


def _write(rootfs: Path, path: str, data: bytes, mode: int = 0o644) -> bool:
    """Puts `data` at `path`; False when it is there already."""
    directory, name = path.rsplit("/", 1)
    place = Path(_directory(rootfs, directory)) / name
    if place.is_file() and not place.is_symlink():
        there = (place.read_bytes(), place.stat().st_mode & 0o777)
        if there == (data, mode):
            return False
    if os.path.lexists(place):
        place.unlink()
    place.write_bytes(data)
    place.chmod(mode)
    return True


def _link(rootfs: Path, path: str, target: str) -> bool:
    directory, name = path.rsplit("/", 1)
    place = f"{_directory(rootfs, directory)}/{name}"
    if os.path.islink(place) and os.readlink(place) == target:
        return False
    if os.path.lexists(place):
        os.unlink(place)
    os.symlink(target, place)
    return True
