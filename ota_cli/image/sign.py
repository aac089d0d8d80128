"""Signing an image: metadata.jwt is written last and at once (FORMATS section 1)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..core import claims as jwt
from ..core.text import printable
from ..errors import ConfigError, SlotUnusable
from ..host.files import read_limited, write_durably
from ..model import TableRef
from .draft import claims_of, digest_of_bytes, read_draft

CERTIFICATE = "sign.pem"
_MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True)
class SignReport:
    """An image that is signed now."""

    version: Optional[str]
    signer: str


def sign(directory: Path, key: Path, certificate: Path, now: datetime) -> SignReport:
    """Signs the image built in `directory`; `created` is SOURCE_DATE_EPOCH, else `now`.

    Raises ConfigError for a key or certificate that can not sign images, ImageDamaged for a
    directory without a finished image.
    """
    draft = read_draft(directory)
    pem = _read(certificate)
    signer = _certificate(certificate, pem)
    private = _private_key(key)
    if private.public_key().public_numbers() != _public_numbers(signer):
        raise ConfigError(f"{key} is not the key of {certificate}")
    claims = claims_of(directory, draft, created=_created(now))
    payload = jwt.format_claims(claims, TableRef(CERTIFICATE, digest_of_bytes(pem)))
    signed = jwt.signing_input(payload)
    token = jwt.join_jwt(signed, private.sign(signed, ec.ECDSA(hashes.SHA256())))
    try:
        write_durably(directory / CERTIFICATE, pem)
        write_durably(directory / "metadata.jwt", token)
    except OSError as error:
        raise SlotUnusable(f"{directory} can not be written: {error.strerror}") from None
    return SignReport(draft.version, _common_name(signer))


def _created(now: datetime) -> datetime:
    """The build date: reproducible builds set it (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return now.replace(microsecond=0)
    if not epoch.isdigit():
        raise ConfigError(f"SOURCE_DATE_EPOCH={printable(epoch)} is not a number of seconds")
    return datetime.fromtimestamp(int(epoch), timezone.utc)


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, _MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None


def _certificate(path: Path, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigError(f"{path} is no certificate in PEM form") from None


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise ConfigError(f"{path} is encrypted", hint="give it decrypted, on a pipe") from None
    except ValueError:
        raise ConfigError(f"{path} is no private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigError(f"{path} is no EC P-256 key", hint="images are signed with ES256")
    return key


def _public_numbers(certificate: x509.Certificate) -> Optional[ec.EllipticCurvePublicNumbers]:
    key = certificate.public_key()
    return key.public_numbers() if isinstance(key, ec.EllipticCurvePublicKey) else None


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "a signer without a name"
