"""Certificate chains of every kind, good and bad, and images signed with them."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ota_cli.core.certs import CertStore, SignerPolicy, load_store
from ota_cli.core.claims import format_claims, join_jwt, signing_input
from ota_cli.entries import Digest
from ota_cli.model import Claims, Details, TableRef

NOW = datetime(2027, 3, 1, tzinfo=timezone.utc)
BUILT = datetime(2026, 11, 24, tzinfo=timezone.utc)
POLICY = SignerPolicy(now=NOW, build_date=BUILT)

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


# DER of the version field and of the two signature algorithms (RFC 5280, RFC 5758).
_VERSION_3 = bytes.fromhex("a003020102")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


@dataclass(frozen=True)
class Party:
    """A certificate together with its private key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(  # type: ignore[no-any-return]
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def new_key(kind: str = "p256") -> Any:
    """A private key: `p256`, `p384` or `rsa`."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP384R1())


def issue(
    name: str,
    by: Optional[Party] = None,
    *,
    ca: Optional[bool] = None,
    path_length: Optional[int] = None,
    usage: Optional[Sequence[str]] = None,
    extended: Optional[List[x509.ObjectIdentifier]] = None,
    start: datetime = NOW - timedelta(days=90),
    end: datetime = NOW + timedelta(days=365),
    key: Any = None,
    signed_with: Any = None,
    critical: Optional[x509.ExtensionType] = None,
) -> Party:
    """A certificate for `name`, self-signed unless `by` someone; None leaves an extension out.

    `signed_with`: the key that makes the signature, where that is not the issuer's.
    """
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usage is not None:
        flags = {flag: flag in usage for flag in _USAGES}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if critical is not None:
        builder = builder.add_extension(critical, critical=True)
    signing_key = signed_with or (by.key if by else key)
    return Party(builder.sign(signing_key, hashes.SHA256()), key)


def root(name: str = "Root", **changes: Any) -> Party:
    """A self-signed CA."""
    return issue(name, **{"ca": True, **changes})


def intermediate(by: Party, name: str = "Intermediate", **changes: Any) -> Party:
    """A CA below `by`."""
    return issue(name, by, **{"ca": True, **changes})


def version_1(party: Party, by: Optional[Party] = None) -> Party:
    """`party`'s certificate as X.509 v1, signed again by its issuer `by` (None: by itself)."""
    body = _content(party.certificate.tbs_certificate_bytes)
    assert body.startswith(_VERSION_3)
    return _signed_again(party, by, body[len(_VERSION_3) :], _ECDSA_SHA256, hashes.SHA256())


def sha1_signed(party: Party, by: Optional[Party] = None) -> Party:
    """`party`'s certificate signed by its issuer `by` (None: by itself) over SHA-1."""
    body = _content(party.certificate.tbs_certificate_bytes)
    body = body.replace(_ECDSA_SHA256, _ECDSA_SHA1)
    return _signed_again(party, by, body, _ECDSA_SHA1, hashes.SHA1())  # noqa: S303


def _signed_again(
    party: Party, by: Optional[Party], body: bytes, algorithm: bytes, digest: hashes.HashAlgorithm
) -> Party:
    tbs = _der(0x30, body)
    signature = (by or party).key.sign(tbs, ec.ECDSA(digest))
    whole = _der(0x30, tbs + algorithm + _der(0x03, b"\0" + signature))
    return Party(x509.load_der_x509_certificate(whole), party.key)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _content(der: bytes) -> bytes:
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]


def store(*installed: Party, revoked: Sequence[Party] = ()) -> CertStore:
    """A device that has these certificates installed."""
    pems = {f"{number}.pem": party.pem for number, party in enumerate(installed)}
    lines = "".join(f"{party.fingerprint}\n" for party in revoked)
    return load_store(pems, lines.encode())


def openssl_accepts(
    signer: Party, anchors: Sequence[Party], others: Sequence[Party], directory: Path
) -> bool:
    """What `openssl verify` says of the chain at NOW. `directory`: where this may write."""
    argv = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), *_without_the_systems_own()]
    for name, parties in (("CAfile", anchors), ("untrusted", others)):
        if parties:
            (directory / name).write_bytes(b"".join(party.pem for party in parties))
            argv += [f"-{name}", str(directory / name)]
    (directory / "signer").write_bytes(signer.pem)
    argv.append(str(directory / "signer"))
    done = subprocess.run(argv, check=False, capture_output=True)
    assert done.returncode == 0 or b"depth lookup" in done.stderr, done.stderr
    return done.returncode == 0


@lru_cache(maxsize=None)
def _without_the_systems_own() -> List[str]:
    """The options against anchors of the system; OpenSSL 1.1 has no store of them."""
    told = subprocess.run(["openssl", "verify", "-help"], check=False, capture_output=True)
    known = (told.stdout + told.stderr).decode().split()
    return [each for each in ("-no-CAfile", "-no-CApath", "-no-CAstore") if each in known]


# --- signed images ---------------------------------------------------------------------------

EMPTY_TABLES: Dict[str, bytes] = {
    "dirs.txt": b"0755,0,0,'/etc'\n",
    "symlinks.txt": b"",
    "regulars.txt": b"",
    "persistents.txt": b"",
}


def table_ref(name: str, data: bytes) -> TableRef:
    return TableRef(name, Digest(hashlib.sha256(data).digest()))


def claims_for(tables: Dict[str, bytes], details: Optional[Details] = None) -> Claims:
    """Claims that name `tables`, which come in the order dirs, symlinks, regulars, persistents."""
    refs = [table_ref(name, data) for name, data in tables.items()]
    return Claims(
        refs[0], refs[1], refs[2], refs[3], "rootfs", None, None, details or Details()
    )  # fmt: skip


def sign(claims: Claims, signer: Party) -> bytes:
    """The `metadata.jwt` of `claims`."""
    payload = format_claims(claims, table_ref("sign.pem", signer.pem))
    return sign_payload(payload, signer)


def sign_payload(payload: bytes, signer: Party) -> bytes:
    """The `metadata.jwt` of any payload, also of one our writer would not make."""
    signed = signing_input(payload)
    return join_jwt(signed, signer.key.sign(signed, ec.ECDSA(hashes.SHA256())))
