"""Signing an image: metadata.jwt is written last and at once (FORMATS section 1)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..core import claims as jwt
from ..core.certificate import Certificate, read_certificate
from ..core.certs import require_able_to_sign
from ..core.text import printable
from ..errors import ConfigError, ImageDamaged, NotTrusted
from ..host.files import read_limited, write_durably
from ..model import Details, TableRef
from .draft import claims_of, digest_of_bytes, read_draft, write_failure

CERTIFICATE = "sign.pem"
_MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True)
class SignReport:
    """An image that is signed now."""

    version: Optional[str]
    signer: str


def sign(directory: Path, key: Path, certificate: Path, now: datetime) -> SignReport:
    """Signs the image built in `directory`; `created` is SOURCE_DATE_EPOCH, else `now`.

    Raises ConfigError for a key and certificate that do not belong together, NotTrusted for a
    certificate no device accepts, ImageDamaged for a directory without a finished image.
    """
    draft = read_draft(directory)
    signer = _certificate(certificate)
    private = _private_key(key)
    if signer.key is None or private.public_key().public_numbers() != signer.key.public_numbers():
        raise ConfigError(f"{key} is not the key of {certificate}")
    require_able_to_sign(signer, now)
    claims = claims_of(directory, draft, created=_created(now))
    _require_dates(claims.details, signer)
    payload = jwt.format_claims(claims, TableRef(CERTIFICATE, digest_of_bytes(signer.pem)))
    jwt.read_claims(payload)
    signed = jwt.signing_input(payload)
    token = jwt.join_jwt(signed, private.sign(signed, ec.ECDSA(hashes.SHA256())))
    try:
        write_durably(directory / CERTIFICATE, signer.pem)
        write_durably(directory / jwt.ENTRY_POINT, token)
    except OSError as error:
        raise write_failure(directory, error) from None
    return SignReport(draft.version, signer.common_name or "a signer without a name")


def _require_dates(details: Details, signer: Certificate) -> None:
    """Raises NotTrusted for dates that no device would accept."""
    for end, what in ((details.expires, "the image"), (signer.not_after, signer.subject_text)):
        if details.created is not None and end is not None and details.created > end:
            raise NotTrusted(
                f"{what} expires on {jwt.format_date(end)}, before the image is made on "
                f"{jwt.format_date(details.created)}",
                hint="is the clock set, or SOURCE_DATE_EPOCH?",
                slug="made-after-expiry",
            )


def _created(now: datetime) -> datetime:
    """The build date: reproducible builds set it (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return now.replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH={printable(epoch)} is not a number of seconds"
        ) from None


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, _MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None
    except ImageDamaged as error:
        raise ConfigError(error.message) from None


def _certificate(path: Path) -> Certificate:
    try:
        return read_certificate(_read(path))
    except ValueError:
        raise ConfigError(f"{path} is no certificate in PEM form") from None


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise ConfigError(f"{path} is encrypted", hint="give it decrypted, on a pipe") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is no private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigError(f"{path} is no EC P-256 key", hint="images are signed with ES256")
    return key
