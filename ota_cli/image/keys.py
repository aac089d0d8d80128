"""Throw-away keys and certificates: for the demo, the development server and tests.

Real images are signed with keys made and kept elsewhere; see the README on how.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import List, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class KeyPair:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


@dataclass(frozen=True)
class ImageKeys:
    """What signs images: `anchor` (PEM) goes to the devices, `signer` to the publisher."""

    anchor: bytes
    signer: KeyPair


def make_image_keys() -> ImageKeys:
    """A CA and a signer certificate below it, EC P-256."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Throw-away anchor")
    ca = _builder(ca_name, ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    anchor = ca.sign(ca_key, hashes.SHA256())
    key = ec.generate_private_key(ec.SECP256R1())
    signer = _builder(_name("Throw-away signer"), ca_name, key.public_key())
    signer = signer.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    signer = signer.add_extension(_digital_signature(), critical=True)
    signer = signer.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
    )
    return ImageKeys(
        _pem(anchor), KeyPair(_key_pem(key), _pem(signer.sign(ca_key, hashes.SHA256())))
    )


def make_server_certificate(hosts: Sequence[str]) -> KeyPair:
    """A self-signed TLS server certificate for `hosts` (names and addresses)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("ota image serve")
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)]),
        critical=False,
    )
    builder = builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )  # its own CA: clients name it with --cacert
    return KeyPair(_key_pem(key), _pem(builder.sign(key, hashes.SHA256())))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    """Raises ValueError for a name that is empty or not ASCII."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not host:
            raise
        return x509.DNSName(host)


def _digital_signature() -> x509.KeyUsage:
    others: List[bool] = [False] * 8
    return x509.KeyUsage(True, *others)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
