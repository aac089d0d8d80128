"""From untrusted bytes to a verified image. The only module that makes an Image. Pure.

Order of trust (FORMATS section 1): the certificate's hash as claimed, its chain to a local
anchor, the signature; only then is the payload read; then the tables by their hashes. Each step
takes the result of the one before, so none can be left out, and each raises: there is no
result that means "no".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable, Mapping, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ..compressed import CompressedFiles
from ..errors import ImageDamaged, NotTrusted
from ..model import Claims, Image, TableRef
from .certs import CertStore, Signer, SignerPolicy, check_signer
from .claims import ENTRY_POINT, Envelope, format_date, image_id, read_claims
from .tables import memory_bytes, parse_tables
from .text import size

_TOO_MUCH = "the image lists so many files that reading the list takes more memory"


@dataclass(frozen=True)
class SignedClaims:
    """Claims whose signature and certificate chain held; only `verify_claims` makes one.

    `certificate`: the signer's, by name and hash. `metadata`: the bytes of both files.
    """

    claims: Claims
    signer: Signer
    certificate: TableRef
    metadata: Mapping[str, bytes]

    @property
    def image_id(self) -> str:
        """See `Image`: claims tell it without their tables."""
        return image_id(self.claims)


def verify_claims(
    envelope: Envelope, certificate_pem: bytes, store: CertStore, policy: SignerPolicy
) -> SignedClaims:
    """The claims of `envelope`, if its signer is trusted and the image has not expired.

    Raises NotTrusted, and ImageDamaged for a certificate other than the one claimed and for
    malformed claims.
    """
    _check_digest(envelope.certificate, [certificate_pem])
    signer = check_signer(certificate_pem, store, policy)
    _check_signature(envelope, signer)
    claims = read_claims(envelope.payload)
    _check_dates(claims, signer, policy)
    metadata = {ENTRY_POINT: envelope.token, envelope.certificate.name: certificate_pem}
    return SignedClaims(claims, signer, envelope.certificate, metadata)


def verify_image(
    signed: SignedClaims, files: CompressedFiles, free_bytes: Optional[int] = None
) -> Image:
    """The image of verified claims and its tables, by name; other `files` are left aside.

    `free_bytes`: what reading them may take of memory, None for any. Raises ImageDamaged, naming
    the file, when one is missing, is not the one that was signed, or does not parse, and where they
    take more.
    """
    claims = signed.claims
    for ref in claims.table_refs:
        if ref.name not in files:
            raise ImageDamaged(f"{ref.name} is missing", slug="incomplete")
        _check_digest(ref, files.pieces(ref.name))
    names = (ref.name for ref in claims.table_refs)
    metadata = files.chosen(names, signed.metadata)
    try:
        if free_bytes is not None:
            _require_memory(memory_bytes(claims, files), free_bytes)
        return Image(signed.image_id, claims, parse_tables(claims, files), metadata)
    except MemoryError:
        raise ImageDamaged(f"{_TOO_MUCH} than there is", slug="too-large") from None


def _require_memory(need_bytes: int, free_bytes: int) -> None:
    """Better no update than one for which the kernel ends what else runs here."""
    if need_bytes > free_bytes:
        raise ImageDamaged(
            f"{_TOO_MUCH}, {size(need_bytes)}, than is free, {size(free_bytes)}", slug="too-large"
        )


def _check_digest(ref: TableRef, pieces: Iterable[bytes]) -> None:
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    if hasher.digest() != ref.digest:
        raise ImageDamaged(
            f"{ref.name} is not the file that {ENTRY_POINT} names: its sha256 differs",
            hint="the server may be in the middle of a publication; try again later",
            slug="digest-mismatch",
        )


def _check_signature(envelope: Envelope, signer: Signer) -> None:
    """DER-encoded ECDSA, unlike the raw r||s of the JWS standard."""
    try:
        signer.public_key.verify(
            envelope.signature, envelope.signing_input, ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature:
        raise NotTrusted(
            f"the signature of {ENTRY_POINT} is wrong: it was changed after signing, or signed "
            "with another key than that of its certificate",
            hint="do not use this image; ask its publisher",
            slug="bad-signature",
        ) from None


def _check_dates(claims: Claims, signer: Signer, policy: SignerPolicy) -> None:
    """What is confirmed raises the floor of the device's time to `created`. One beyond the
    certificates' own end would have them expired, here, for good."""
    created, expires = claims.details.created, claims.details.expires
    if created is not None and created > signer.valid_until:
        raise NotTrusted(
            f"the image says that it was made on {format_date(created)}, but the certificates it "
            f"is signed by are only good until {format_date(signer.valid_until)}",
            hint="its publisher has to sign it again, with the clock set",
            slug="made-after-expiry",
        )
    if created is not None and expires is not None and created > expires:
        raise NotTrusted(
            f"the image expired on {format_date(expires)}, before it was made on "
            f"{format_date(created)}",
            hint="its publisher has to sign it again, with the clock set",
            slug="image-expired",
        )
    if expires is not None and policy.is_past(expires):
        raise NotTrusted(
            f"the image expired on {format_date(expires)}",
            hint=policy.clock_hint("update to a newer image"),
            slug="image-expired",
        )
