"""One X.509 certificate, read once into the facts that the rules of `core.certs` ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import FrozenSet, List, Optional

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .text import printable

#: What the reading of a certificate raises besides ValueError.
_BROKEN = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
#: Critical extensions that are obeyed, or that restrict nothing asked for here.
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)
_STRONG_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True)
class Certificate:
    """A certificate that could be read; whom it belongs to is not verified.

    `fingerprint`: hex sha256 of its DER form. `common_name`: empty unless there is exactly one.
    `key`: None unless it is EC P-256. `is_ca` and the usages: None where the extension is
    absent. `not_understood`: object identifiers of critical extensions unknown here.
    """

    fingerprint: str
    common_name: str
    subject: x509.Name
    issuer: x509.Name
    subject_text: str
    issuer_text: str
    not_before: datetime
    not_after: datetime
    key: Optional[ec.EllipticCurvePublicKey]
    strong_hash: bool
    is_ca: Optional[bool]
    path_length: Optional[int]
    signs_data: Optional[bool]
    signs_certificates: Optional[bool]
    signs_code: Optional[bool]
    not_understood: FrozenSet[str]
    _x509: x509.Certificate = field(repr=False, compare=False)

    @property
    def pem(self) -> bytes:
        """The certificate alone: a file it was read from may also hold its private key."""
        return self._x509.public_bytes(serialization.Encoding.PEM)

    @property
    def is_self_signed(self) -> bool:
        """True when its own key made its signature; an equal name alone says nothing."""
        return self.is_issued_by(self)

    def is_issued_by(self, other: Certificate) -> bool:
        """True when `other` bears the issuer's name and its key made the signature."""
        if self.issuer != other.subject:
            return False
        try:
            self._x509.verify_directly_issued_by(other._x509)
        except (InvalidSignature, TypeError, *_BROKEN):
            return False
        return True


def read_certificate(pem: bytes) -> Certificate:
    """The first certificate in `pem`. Raises ValueError."""
    try:
        return _facts(x509.load_pem_x509_certificate(pem))
    except _BROKEN as error:
        raise ValueError(printable(str(error))) from None


def read_certificates(pem: bytes) -> List[Certificate]:
    """All certificates in `pem`, at least one. Raises ValueError."""
    try:
        return [_facts(certificate) for certificate in x509.load_pem_x509_certificates(pem)]
    except _BROKEN as error:
        raise ValueError(printable(str(error))) from None


def _facts(certificate: x509.Certificate) -> Certificate:
    extensions = certificate.extensions
    constraints = _constraints(extensions)
    usage = _usage(extensions)
    return Certificate(
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        common_name=_common_name(certificate.subject),
        subject=certificate.subject,
        issuer=certificate.issuer,
        subject_text=_readable(certificate.subject),
        issuer_text=_readable(certificate.issuer),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=_p256_key(certificate),
        strong_hash=_is_hash_strong(certificate),
        is_ca=constraints.ca if constraints else None,
        path_length=constraints.path_length if constraints else None,
        signs_data=usage.digital_signature if usage else None,
        signs_certificates=usage.key_cert_sign if usage else None,
        signs_code=_signs_code(extensions),
        not_understood=_not_understood(extensions),
        _x509=certificate,
    )


def _constraints(extensions: x509.Extensions) -> Optional[x509.BasicConstraints]:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _usage(extensions: x509.Extensions) -> Optional[x509.KeyUsage]:
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _signs_code(extensions: x509.Extensions) -> Optional[bool]:
    """Whether ExtendedKeyUsage names codeSigning; `anyExtendedKeyUsage` does not name it."""
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return ExtendedKeyUsageOID.CODE_SIGNING in purposes


def _not_understood(extensions: x509.Extensions) -> FrozenSet[str]:
    return frozenset(
        extension.oid.dotted_string
        for extension in extensions
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD)
    )


def _p256_key(certificate: x509.Certificate) -> Optional[ec.EllipticCurvePublicKey]:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def _is_hash_strong(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, _STRONG_HASHES)
    except UnsupportedAlgorithm:
        return False


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _readable(name: x509.Name) -> str:
    return printable(_common_name(name) or name.rfc4514_string() or "(no name)")
