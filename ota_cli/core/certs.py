"""Who may sign images: local certificates, chains to an anchor, and every reason to refuse.

FORMATS section 1, "Certificates". There is no mode without anchors, and no result besides a
Signer: whatever is wrong raises NotTrusted, each reason with its own slug:

    no-anchors           nothing that is self-signed is installed
    self-signed          the signer's certificate is self-signed and not itself an anchor
    signer-is-ca, signer-usage      the signer's certificate is made for something else
    no-chain             no way from the signer to an anchor
    expired, not-yet-valid, revoked                          anywhere in the chain
    bad-key, weak-signature, unknown-extension               anywhere in the chain
    not-a-ca, path-length           an issuer that may not issue, or not that deep
    signer-not-allowed   `allowed_signers` is set and does not name the signer

If one chain of several is flawless, the signer is trusted. Otherwise the refusal tells what is
wrong with the chain that is easiest to mend.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Deque, Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple

from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import ConfigError, ImageDamaged, NotTrusted
from .certificate import Certificate, read_certificate, read_certificates
from .text import printable

MAX_CERTIFICATE_BYTES = 64 * 1024
#: Signer and anchor included.
MAX_CHAIN = 8
#: Signatures checked while looking for chains: cross-signed certificates make many.
MAX_TRIES = 1000

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
#: A chain whose only flaw is one of these can be mended without another certificate.
_MENDABLE = ("not-yet-valid", "expired")
_REISSUE = "the publisher has to issue it anew"

Chain = Tuple[Certificate, ...]


@dataclass(frozen=True)
class CertStore:
    """The certificates installed on a device. `revoked`: hex sha256 fingerprints."""

    anchors: Tuple[Certificate, ...] = ()
    intermediates: Tuple[Certificate, ...] = ()
    revoked: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class SignerPolicy:
    """The rules besides the certificates: the time now, when this client was built, and whom
    the device allows (None: everyone below an anchor). All times know their zone.

    `confirmed`: when the newest system that was confirmed on this device was made, as signed.
    """

    now: datetime
    build_date: datetime
    allowed_signers: Optional[Tuple[str, ...]] = None
    confirmed: Optional[datetime] = None

    @property
    def floor(self) -> datetime:
        """It is later than this, whatever the clock says (FORMATS section 1)."""
        return max(self.build_date, self.confirmed or self.build_date)

    @property
    def clock_is_wrong(self) -> bool:
        """True when it is earlier than the floor; a day may be the publisher's clock."""
        return self.now < self.floor - timedelta(days=1)

    @property
    def floor_text(self) -> str:
        """How the floor is known."""
        if self.floor == self.build_date:
            return f"this ota was built on {self.floor:%Y-%m-%d}"
        return f"a system that was confirmed here was made on {self.floor:%Y-%m-%d}"

    @property
    def clock_advice(self) -> str:
        """What to do where the clock is wrong."""
        if self.floor == self.build_date:
            return "set the clock"
        return "set the clock, or, where it is right, run `ota setup --repair`"

    def is_past(self, date: datetime) -> bool:
        """True after `date`. A clock set back does not make old things new again."""
        return date < max(self.now, self.floor)

    def clock_hint(self, otherwise: str) -> str:
        """The hint for a refusal because of a date."""
        if not self.clock_is_wrong:
            return otherwise
        return (
            f"the clock of this device is wrong: it says {self.now:%Y-%m-%d}, but "
            f"{self.floor_text}; {self.clock_advice}"
        )


@dataclass(frozen=True)
class Signer:
    """Someone this device accepts images from. `fingerprint`: hex sha256 of the certificate.

    `valid_until`: when the first certificate of the chain expires.
    """

    common_name: str
    fingerprint: str
    public_key: ec.EllipticCurvePublicKey
    valid_until: datetime


def load_store(pems: Mapping[str, bytes], revoked: Optional[bytes]) -> CertStore:
    """The store of PEM files (by name) and a list of revoked fingerprints, one a line.

    Certificates whose own key signed them are anchors, all others intermediates. In `revoked`,
    `#` starts a comment, and what `openssl x509 -fingerprint -sha256` prints is understood.
    Raises ConfigError, naming the file, for what can not be read.
    """
    known: Dict[str, Certificate] = {}
    for name, pem in sorted(pems.items()):
        known.update((each.fingerprint, each) for each in _certificates(name, pem))
    anchors = tuple(each for each in known.values() if each.is_self_signed)
    intermediates = tuple(each for each in known.values() if not each.is_self_signed)
    return CertStore(anchors, intermediates, _revoked(revoked or b""))


def check_signer(pem: bytes, store: CertStore, policy: SignerPolicy) -> Signer:
    """The signer whose certificate is the first in `pem`, if this device accepts it.

    Raises NotTrusted for each reason at the head of this file, ImageDamaged for what is not a
    certificate.
    """
    signer = _signer_certificate(pem)
    key = _signing_key(signer, store)
    flaws: List[NotTrusted] = []
    for chain in _chains(signer, store):
        flaw = next(_flaws(chain, store, policy), None)
        if flaw is None:
            _require_allowed(signer, policy)
            valid_until = min(each.not_after for each in chain)
            return Signer(signer.common_name, signer.fingerprint, key, valid_until)
        flaws.append(flaw)
    if not flaws:
        raise _no_chain(signer, store)
    raise min(flaws, key=lambda flaw: flaw.slug not in _MENDABLE)


def require_able_to_sign(signer: Certificate, now: datetime) -> None:
    """For a publisher: raises NotTrusted when no device would accept `signer`, whatever it has."""
    _require_usage(signer, f"the image would be signed by {signer.subject_text}")
    policy = SignerPolicy(now=now, build_date=now)
    flaws = [*_technical_flaws(signer, is_anchor=False), *_time_flaws(signer, policy)]
    if flaws:
        raise flaws[0]


# --- reading ---------------------------------------------------------------------------------


def _certificates(name: str, pem: bytes) -> List[Certificate]:
    try:
        return read_certificates(pem)
    except ValueError as error:
        raise ConfigError(
            f"{name} holds no readable certificate: {error}",
            hint="replace it by a PEM file, or remove it",
            slug="bad-anchor",
        ) from None


def _revoked(text: bytes) -> FrozenSet[str]:
    lines = text.decode("utf-8", "replace").split("\n")
    entries = [line.partition("#")[0].strip() for line in lines]
    return frozenset(
        _revoked_fingerprint(number, entry) for number, entry in enumerate(entries, 1) if entry
    )


def _revoked_fingerprint(number: int, entry: str) -> str:
    """A line that is silently skipped would revoke nothing."""
    fingerprint = _fingerprint(entry.rpartition("=")[2])
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ConfigError(
            f"revoked.txt line {number} is no sha256 fingerprint: {printable(entry[:80])}",
            hint="`openssl x509 -noout -fingerprint -sha256 -in FILE` prints one",
            slug="bad-revoked",
        )
    return fingerprint


def _fingerprint(text: str) -> str:
    """Fingerprints are compared without colons and case."""
    return text.strip().replace(":", "").lower()


def _signer_certificate(pem: bytes) -> Certificate:
    if len(pem) > MAX_CERTIFICATE_BYTES:
        raise ImageDamaged(
            f"the signer's certificate is larger than {MAX_CERTIFICATE_BYTES} bytes",
            slug="too-large",
        )
    try:
        return read_certificate(pem)
    except ValueError as error:
        raise ImageDamaged(
            f"the signer's certificate can not be read: {error}",
            hint="the image can not be used; ask its publisher",
            slug="bad-certificate",
        ) from None


# --- the signer alone ------------------------------------------------------------------------


def _signing_key(signer: Certificate, store: CertStore) -> ec.EllipticCurvePublicKey:
    """The key of a certificate that may sign images, if the rest of its chain holds."""
    who = f"the image is signed by {signer.subject_text}"
    if not store.anchors:
        raise NotTrusted(
            f"{who}, but no trust anchors are installed",
            hint="put the publisher's CA certificate into /etc/ota/certs (as NAME.pem)",
            slug="no-anchors",
        )
    if signer.is_self_signed and signer not in store.anchors:
        raise NotTrusted(
            f"{who}, whose certificate is self-signed and not installed",
            hint="install that very certificate in /etc/ota/certs only if it came from the "
            "publisher by another way",
            slug="self-signed",
        )
    if signer.key is None:
        raise _flaw("bad-key", signer, "has a key that is not EC P-256", _REISSUE)
    _require_usage(signer, who)
    return signer.key


def _require_usage(signer: Certificate, who: str) -> None:
    if signer.is_ca or (signer.is_ca is None and signer.signs_certificates):
        raise NotTrusted(
            f"{who}, whose certificate is for issuing certificates",
            hint="images are signed with a certificate below the CA, not by the CA",
            slug="signer-is-ca",
        )
    usages = (("digitalSignature", signer.signs_data), ("codeSigning", signer.signs_code))
    for usage, has in usages:
        if has is False:
            raise NotTrusted(
                f"{who}, whose certificate is not for {usage}",
                hint="sign it with a certificate made for signing images",
                slug="signer-usage",
            )


def _require_allowed(signer: Certificate, policy: SignerPolicy) -> None:
    names = policy.allowed_signers
    if names is not None and not any(_names(name, signer) for name in names):
        raise NotTrusted(
            f"the image is signed by {signer.subject_text}, whom `allowed_signers` does not name",
            hint=f"add its name or {signer.fingerprint} to /etc/ota/ota.yml to accept it",
            slug="signer-not-allowed",
        )


def _names(name: str, signer: Certificate) -> bool:
    return bool(name) and (name == signer.common_name or _fingerprint(name) == signer.fingerprint)


# --- chains ----------------------------------------------------------------------------------


def _chains(signer: Certificate, store: CertStore) -> Iterator[Chain]:
    """Chains from the signer up to an anchor in which every signature holds, shortest first."""
    if signer in store.anchors:
        yield (signer,)
        return
    waiting: Deque[Chain] = deque([(signer,)])
    tries = 0
    while waiting:
        chain = waiting.popleft()
        for issuer in _named(chain[-1], store):
            if issuer in chain:
                continue
            tries += 1
            if tries > MAX_TRIES:
                return
            if not chain[-1].is_issued_by(issuer):
                continue
            if issuer in store.anchors:
                yield (*chain, issuer)
            elif len(chain) < MAX_CHAIN - 1:
                waiting.append((*chain, issuer))


def _named(child: Certificate, store: CertStore) -> List[Certificate]:
    """The installed certificates that bear the name of the child's issuer, anchors first."""
    return [each for each in (*store.anchors, *store.intermediates) if each.subject == child.issuer]


def _no_chain(signer: Certificate, store: CertStore) -> NotTrusted:
    """Says where the way from the signer to an anchor ends."""
    return NotTrusted(
        f"the image is signed by {signer.subject_text}, and no chain leads from there to an "
        f"installed anchor: {_dead_end(signer, store)}",
        hint="install the missing CA or intermediate certificate in /etc/ota/certs, if you "
        "trust this publisher",
        slug="no-chain",
    )


def _dead_end(signer: Certificate, store: CertStore) -> str:
    seen = [signer]
    while len(seen) < MAX_CHAIN:
        last = seen[-1]
        named = _named(last, store)
        if not named:
            return f"{last.issuer_text}, who issued {last.subject_text}, is not installed"
        issuer = next((each for each in named if last.is_issued_by(each)), None)
        if issuer is None:
            return (
                f"a {last.issuer_text} is installed, but its key did not sign {last.subject_text}"
            )
        if issuer in seen:
            return "the intermediates sign each other in a circle"
        seen.append(issuer)
    return f"no anchor within {MAX_CHAIN} certificates"


# --- what can be wrong with a chain ----------------------------------------------------------


def _flaws(chain: Chain, store: CertStore, policy: SignerPolicy) -> Iterator[NotTrusted]:
    for certificate in chain:
        if certificate.fingerprint in store.revoked:
            yield _flaw(
                "revoked", certificate, "is revoked by revoked.txt", "do not use this image"
            )
    for certificate in chain:
        yield from _technical_flaws(certificate, is_anchor=certificate in store.anchors)
    yield from _issuer_flaws(chain)
    for certificate in chain:
        yield from _time_flaws(certificate, policy)


def _technical_flaws(certificate: Certificate, *, is_anchor: bool) -> Iterator[NotTrusted]:
    """The signature of an anchor proves nothing, so its hash may be weak."""
    if certificate.key is None:
        yield _flaw("bad-key", certificate, "has a key that is not EC P-256", _REISSUE)
    if not certificate.strong_hash and not is_anchor:
        yield _flaw("weak-signature", certificate, "is not signed over a SHA-2 hash", _REISSUE)
    if certificate.not_understood:
        what = (
            f"has critical extensions unknown here: {', '.join(sorted(certificate.not_understood))}"
        )
        yield _flaw("unknown-extension", certificate, what, _REISSUE)


def _issuer_flaws(chain: Chain) -> Iterator[NotTrusted]:
    """Anchors may be bare: whoever installed one meant it; an extension that forbids counts."""
    below = 0
    for position, issuer in enumerate(chain[1:], 1):
        is_anchor = position == len(chain) - 1
        may_issue = issuer.is_ca or (is_anchor and issuer.is_ca is None)
        if not may_issue or issuer.signs_certificates is False:
            yield _flaw("not-a-ca", issuer, "is not a CA but issued a certificate", "remove it")
        if issuer.path_length is not None and below > issuer.path_length:
            what = f"allows {issuer.path_length} intermediates below it, not {below}"
            yield _flaw("path-length", issuer, what, "sign with a certificate closer to it")
        below += issuer.subject != issuer.issuer


def _time_flaws(certificate: Certificate, policy: SignerPolicy) -> Iterator[NotTrusted]:
    if policy.now < certificate.not_before:
        what = f"is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC"
        hint = policy.clock_hint("check the clock of this device, or wait")
        yield _flaw("not-yet-valid", certificate, what, hint)
    if policy.is_past(certificate.not_after):
        what = f"expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC"
        hint = policy.clock_hint("ask the publisher for an image with a valid certificate")
        yield _flaw("expired", certificate, what, hint)


def _flaw(slug: str, certificate: Certificate, what: str, hint: str) -> NotTrusted:
    message = f"the image is not trusted: the certificate of {certificate.subject_text} {what}"
    return NotTrusted(message, hint=hint, slug=slug)
