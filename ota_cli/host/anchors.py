"""The trust anchors of a device: `/etc/ota/certs/*.pem` and `revoked.txt` beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NoReturn, Optional

from ..core.certs import CertStore, load_store
from ..errors import ConfigError, ImageDamaged
from .files import read_limited

MAX_FILE_BYTES = 1024 * 1024


def load_anchors(directory: Path) -> CertStore:
    """The certificates in `directory`. Where none are, the store is empty and trusts nobody.

    Raises ConfigError, naming the file, for one that can not be read or is not what its name
    says: a certificate or a revocation that is silently left out would change who is trusted.
    """
    pems: Dict[str, bytes] = {}
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return CertStore()
    except OSError as error:
        _unreadable(directory, error.strerror or str(error))
    for name in names:
        if name.endswith(".pem"):
            pems[str(directory / name)] = _read(directory / name)
    revoked: Optional[bytes] = None
    if "revoked.txt" in names:
        revoked = _read(directory / "revoked.txt")
    return load_store(pems, revoked)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            _unreadable(path, "not a regular file")
        return read_limited(path, MAX_FILE_BYTES)
    except OSError as error:
        _unreadable(path, error.strerror or str(error))
    except ImageDamaged as error:
        raise ConfigError(error.message, hint="put certificates only there") from None


def _unreadable(path: Path, why: str) -> NoReturn:
    raise ConfigError(
        f"{path} can not be read: {why}", hint="mend or remove it", slug="unreadable-anchor"
    )
