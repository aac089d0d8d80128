"""Who may sign: good and bad chains, each bad one refused for its own reason."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import pytest
from cryptography import x509

from ota_cli.core import certs
from ota_cli.core.certs import CertStore, SignerPolicy, check_signer, load_store
from ota_cli.errors import ConfigError, ImageDamaged, NotTrusted
from tests.support.chains import (
    BUILT,
    CODE_SIGNING,
    NOW,
    POLICY,
    SERVER_AUTH,
    Party,
    intermediate,
    issue,
    new_key,
    openssl_accepts,
    root,
    sha1_signed,
    store,
    version_1,
)

PAST = NOW - timedelta(days=1)
FUTURE = NOW + timedelta(days=1)


# Why `openssl verify` says something else.
ANY_KEY = "it takes keys of any kind, we those of P-256 only"
LAST_SECOND = "it takes the last second of a validity for over (RFC 5280, 4.1.2.5: it is included)"
NAMES = "it knows constraints of names, of which here none is concerned; we know none"
NO_LIST = "it is not told what revoked.txt says"
NO_PURPOSE = "it is not asked for a purpose: it has none of signing images"
ONE_TRY = "it tries one issuer of a name, without key identifiers the wrong one"
SELF_ISSUED = "it takes who bears the name of the issuer for self-signed"
TOO_LONG = "its limit is a longer chain than ours"


@dataclass(frozen=True)
class Case:
    """A signer, what is installed, and the slug of the refusal (None: trusted).

    `openssl`: why `openssl verify` says the opposite; None: it agrees.
    """

    signer: Party
    installed: Tuple[Party, ...]
    slug: Optional[str] = None
    revoked: Tuple[Party, ...] = ()
    openssl: Optional[str] = None

    @property
    def store(self) -> CertStore:
        return store(*self.installed, revoked=self.revoked)


CASES: Dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


# --- trusted ---------------------------------------------------------------------------------


@case
def signer_below_the_anchor() -> Case:
    top = root()
    return Case(issue("S", top), (top,))


@case
def signer_below_an_intermediate() -> Case:
    top = root()
    middle = intermediate(top)
    return Case(issue("S", middle), (top, middle))


@case
def signer_below_three_intermediates() -> Case:
    chain = [root()]
    for number in range(3):
        chain.append(intermediate(chain[-1], f"I{number}"))
    return Case(issue("S", chain[-1]), tuple(chain))


@case
def version_1_signer() -> Case:
    top = root()
    return Case(version_1(issue("S", top), top), (top,))


@case
def version_1_signer_below_an_intermediate() -> Case:
    top = root()
    middle = intermediate(top)
    return Case(version_1(issue("S", middle), middle), (top, middle))


@case
def version_1_anchor() -> Case:
    top = version_1(issue("Root"))
    return Case(issue("S", top), (top,))


@case
def signer_with_all_the_right_usages() -> Case:
    top = root(usage=["key_cert_sign", "crl_sign"])
    signer = issue("S", top, ca=False, usage=["digital_signature"], extended=[CODE_SIGNING])
    return Case(signer, (top,))


@case
def bare_self_signed_signer_that_is_installed() -> Case:
    signer = issue("S")
    return Case(signer, (signer,))


@case
def version_1_self_signed_signer_that_is_installed() -> Case:
    signer = version_1(issue("S"))
    return Case(signer, (signer, root()))


@case
def two_anchors_of_one_name() -> Case:
    old, new = root("Root"), root("Root")
    return Case(issue("S", new), (old, new), openssl=ONE_TRY)


@case
def expired_intermediate_beside_its_renewal() -> Case:
    top, key = root(), new_key()
    old = intermediate(top, key=key, end=PAST)
    new = intermediate(top, key=key)
    return Case(issue("S", new), (old, top, new))


@case
def revoked_intermediate_beside_its_renewal() -> Case:
    top, key = root(), new_key()
    old, new = intermediate(top, key=key), intermediate(top, key=key)
    return Case(issue("S", new), (old, top, new), revoked=(old,))


@case
def intermediates_that_sign_each_other_with_a_way_out() -> Case:
    top, key = root(), new_key()
    left = intermediate(top, "Left", key=key)
    right = intermediate(left, "Right")
    back = intermediate(right, "Left", key=key)
    return Case(issue("S", right), (back, right, left, top), openssl=ONE_TRY)


@case
def signer_with_the_name_of_its_issuer() -> Case:
    top = root("Same")
    return Case(issue("Same", top), (top,), openssl=SELF_ISSUED)


@case
def path_length_just_enough() -> Case:
    top = root(path_length=1)
    middle = intermediate(top, path_length=0)
    return Case(issue("S", middle), (top, middle))


@case
def self_issued_intermediate_does_not_count_for_path_length() -> Case:
    top = root("Root", path_length=0)
    rolled = intermediate(top, "Root")
    return Case(issue("S", rolled), (top, rolled), openssl=ONE_TRY)


@case
def validity_that_ends_this_very_second() -> Case:
    top = root()
    return Case(issue("S", top, end=NOW), (top,), openssl=LAST_SECOND)


@case
def validity_that_begins_this_very_second() -> Case:
    top = root()
    return Case(issue("S", top, start=NOW), (top,))


# --- no way to an anchor ---------------------------------------------------------------------


@case
def nothing_installed() -> Case:
    return Case(issue("S", root()), (), "no-anchors")


@case
def only_an_intermediate_installed() -> Case:
    middle = intermediate(root())
    return Case(issue("S", middle), (middle,), "no-anchors")


@case
def another_publishers_anchor() -> Case:
    return Case(issue("S", root("Theirs")), (root("Ours"),), "no-chain")


@case
def missing_intermediate() -> Case:
    top = root()
    return Case(issue("S", intermediate(top)), (top,), "no-chain")


@case
def intermediate_of_an_anchor_that_is_not_installed() -> Case:
    middle = intermediate(root("Theirs"))
    return Case(issue("S", middle), (middle, root("Ours")), "no-chain")


@case
def anchor_of_the_right_name_and_another_key() -> Case:
    return Case(issue("S", root("Root")), (root("Root"),), "no-chain")


@case
def signer_that_claims_an_issuer_who_did_not_sign() -> Case:
    top = root()
    return Case(issue("S", top, signed_with=new_key()), (top,), "no-chain")


@case
def intermediate_that_claims_an_anchor_who_did_not_sign() -> Case:
    top = root()
    middle = intermediate(top, signed_with=new_key())
    return Case(issue("S", middle), (top, middle), "no-chain")


@case
def self_issued_certificate_with_a_forged_signature_is_no_anchor() -> Case:
    forged = issue("Root", ca=True, signed_with=new_key())
    return Case(issue("S", forged), (forged, root("Other")), "no-chain")


@case
def intermediates_that_sign_each_other() -> Case:
    left_key, right_key = new_key(), new_key()
    right = intermediate(root("Left", key=left_key), "Right", key=right_key)
    left = intermediate(right, "Left", key=left_key)
    return Case(issue("S", left), (left, right, root("Other")), "no-chain")


@case
def chain_longer_than_the_limit() -> Case:
    chain = [root()]
    for number in range(certs.MAX_CHAIN):
        chain.append(intermediate(chain[-1], f"I{number}"))
    return Case(issue("S", chain[-1]), tuple(chain), "no-chain", openssl=TOO_LONG)


# --- a signer that may not sign --------------------------------------------------------------


@case
def self_signed_signer() -> Case:
    return Case(issue("S"), (root(),), "self-signed")


@case
def version_1_self_signed_signer() -> Case:
    return Case(version_1(issue("S")), (root(),), "self-signed")


@case
def self_signed_signer_with_the_name_of_an_anchor() -> Case:
    return Case(issue("Root"), (root("Root"),), "self-signed")


@case
def self_signed_signer_with_the_key_of_an_anchor() -> Case:
    top = root()
    return Case(issue("Root", key=top.key), (top,), "self-signed")


@case
def signer_that_is_a_ca() -> Case:
    top = root()
    return Case(intermediate(top), (top,), "signer-is-ca", openssl=NO_PURPOSE)


@case
def signer_that_is_the_anchor_itself() -> Case:
    top = root()
    return Case(top, (top,), "signer-is-ca", openssl=NO_PURPOSE)


@case
def signer_whose_only_extension_lets_it_sign_certificates() -> Case:
    top = root()
    signer = issue("S", top, usage=["digital_signature", "key_cert_sign"])
    return Case(signer, (top,), "signer-is-ca", openssl=NO_PURPOSE)


@case
def signer_without_digital_signature() -> Case:
    top = root()
    signer = issue("S", top, usage=["key_encipherment"])
    return Case(signer, (top,), "signer-usage", openssl=NO_PURPOSE)


@case
def signer_without_code_signing() -> Case:
    top = root()
    return Case(issue("S", top, extended=[SERVER_AUTH]), (top,), "signer-usage", openssl=NO_PURPOSE)


@case
def signer_for_any_purpose_but_not_code_signing() -> Case:
    top = root()
    anything = x509.ObjectIdentifier("2.5.29.37.0")
    return Case(issue("S", top, extended=[anything]), (top,), "signer-usage", openssl=NO_PURPOSE)


@case
def rsa_signer() -> Case:
    top = root()
    return Case(issue("S", top, key=new_key("rsa")), (top,), "bad-key", openssl=ANY_KEY)


@case
def p384_signer() -> Case:
    top = root()
    return Case(issue("S", top, key=new_key("p384")), (top,), "bad-key", openssl=ANY_KEY)


# --- a chain with a flaw ---------------------------------------------------------------------


@case
def expired_signer() -> Case:
    top = root()
    return Case(issue("S", top, end=PAST), (top,), "expired")


@case
def expired_intermediate() -> Case:
    top = root()
    middle = intermediate(top, end=PAST)
    return Case(issue("S", middle), (top, middle), "expired")


@case
def expired_anchor() -> Case:
    top = root(end=PAST)
    return Case(issue("S", top), (top,), "expired")


@case
def expired_self_signed_signer_that_is_installed() -> Case:
    signer = issue("S", end=PAST)
    return Case(signer, (signer,), "expired")


@case
def signer_of_tomorrow() -> Case:
    top = root()
    return Case(issue("S", top, start=FUTURE), (top,), "not-yet-valid")


@case
def intermediate_of_tomorrow() -> Case:
    top = root()
    middle = intermediate(top, start=FUTURE)
    return Case(issue("S", middle), (top, middle), "not-yet-valid")


@case
def anchor_of_tomorrow() -> Case:
    top = root(start=FUTURE)
    return Case(issue("S", top), (top,), "not-yet-valid")


@case
def intermediate_that_says_it_is_no_ca() -> Case:
    top = root()
    middle = issue("I", top, ca=False)
    return Case(issue("S", middle), (top, middle), "not-a-ca")


@case
def bare_intermediate() -> Case:
    top = root()
    middle = issue("I", top)
    return Case(issue("S", middle), (top, middle), "not-a-ca")


@case
def version_1_intermediate() -> Case:
    top = root()
    middle = version_1(issue("I", top), top)
    return Case(issue("S", middle), (top, middle), "not-a-ca")


@case
def another_signer_as_intermediate() -> Case:
    top = root()
    peer = issue("Peer", top, ca=False, usage=["digital_signature"])
    return Case(issue("S", peer), (top, peer), "not-a-ca")


@case
def anchor_that_says_it_is_no_ca() -> Case:
    top = issue("Root", ca=False)
    return Case(issue("S", top), (top,), "not-a-ca")


@case
def intermediate_that_may_not_sign_certificates() -> Case:
    top = root()
    middle = intermediate(top, usage=["digital_signature"])
    return Case(issue("S", middle), (top, middle), "not-a-ca")


@case
def intermediate_too_many_for_the_anchor() -> Case:
    top = root(path_length=0)
    middle = intermediate(top)
    return Case(issue("S", middle), (top, middle), "path-length")


@case
def intermediate_too_many_for_an_intermediate() -> Case:
    top = root()
    upper = intermediate(top, "Upper", path_length=0)
    lower = intermediate(upper, "Lower")
    return Case(issue("S", lower), (top, upper, lower), "path-length")


@case
def rsa_anchor() -> Case:
    top = root(key=new_key("rsa"))
    return Case(issue("S", top), (top,), "bad-key", openssl=ANY_KEY)


@case
def p384_intermediate() -> Case:
    top = root()
    middle = intermediate(top, key=new_key("p384"))
    return Case(issue("S", middle), (top, middle), "bad-key", openssl=ANY_KEY)


@case
def critical_extension_nobody_here_knows() -> Case:
    top = root()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    return Case(issue("S", top, critical=unknown), (top,), "unknown-extension")


@case
def intermediate_restricted_to_other_names() -> Case:
    top = root()
    elsewhere = x509.NameConstraints([x509.DNSName("example.com")], None)
    middle = intermediate(top, critical=elsewhere)
    return Case(issue("S", middle), (top, middle), "unknown-extension", openssl=NAMES)


@case
def revoked_signer() -> Case:
    top = root()
    signer = issue("S", top)
    return Case(signer, (top,), "revoked", revoked=(signer,), openssl=NO_LIST)


@case
def revoked_intermediate() -> Case:
    top = root()
    middle = intermediate(top)
    return Case(issue("S", middle), (top, middle), "revoked", revoked=(middle,), openssl=NO_LIST)


@case
def revoked_anchor() -> Case:
    top = root()
    return Case(issue("S", top), (top,), "revoked", revoked=(top,), openssl=NO_LIST)


@case
def expired_chain_is_told_before_a_revoked_one() -> Case:
    top, key = root(), new_key()
    old, new = intermediate(top, key=key), intermediate(top, key=key, end=PAST)
    return Case(issue("S", new), (old, new, top), "expired", revoked=(old,), openssl=NO_LIST)


# --- the table -------------------------------------------------------------------------------


def verdict(made: Case, policy: SignerPolicy = POLICY) -> Optional[str]:
    try:
        signer = check_signer(made.signer.pem, made.store, policy)
    except NotTrusted as refusal:
        assert refusal.exit_code == 10
        assert refusal.hint
        return refusal.slug
    assert signer.fingerprint == made.signer.fingerprint
    assert signer.public_key == made.signer.key.public_key()
    return None


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_chain_is_trusted_or_refused_for_its_reason(name: str) -> None:
    made = CASES[name]()
    assert verdict(made) == made.slug


def test_a_signer_signed_over_sha1_is_refused() -> None:
    """With its reason where the library can still check such a signature at all."""
    top = root()
    made = Case(sha1_signed(issue("S", top), top), (top,))
    assert verdict(made) in ("weak-signature", "no-chain")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("name", sorted(CASES))
def test_openssl_agrees_about_the_chain_or_there_is_a_reason(name: str, tmp_path: Path) -> None:
    made = CASES[name]()
    anchors = [each for each in made.installed if is_anchor(each, made.store)]
    others = [each for each in made.installed if not is_anchor(each, made.store)]
    agrees = openssl_accepts(made.signer, anchors, others, tmp_path) == (made.slug is None)
    assert agrees or made.openssl, "it says the opposite"
    assert not agrees or made.openssl is None, f"it agrees, although {made.openssl}"


def is_anchor(party: Party, installed: CertStore) -> bool:
    return party.fingerprint in {each.fingerprint for each in installed.anchors}


# --- what the refusals say -------------------------------------------------------------------


def refusal_of(made: Case, policy: SignerPolicy = POLICY) -> NotTrusted:
    with pytest.raises(NotTrusted) as caught:
        check_signer(made.signer.pem, made.store, policy)
    return caught.value


def test_a_missing_issuer_is_named() -> None:
    top = root("Top")
    made = Case(issue("S", intermediate(top, "Middle")), (top,))
    assert "Middle, who issued S, is not installed" in refusal_of(made).message


def test_an_expired_certificate_is_named_with_its_date() -> None:
    top = root("Top")
    middle = intermediate(top, "Middle", end=datetime(2027, 1, 2, 3, 4, tzinfo=timezone.utc))
    message = refusal_of(Case(issue("S", middle), (top, middle))).message
    assert "Middle expired on 2027-01-02 03:04 UTC" in message


def test_a_clock_before_the_build_date_is_told_in_the_hint() -> None:
    unset = replace(POLICY, now=datetime(1970, 1, 1, tzinfo=timezone.utc))
    refusal = refusal_of(signer_below_the_anchor(), unset)
    assert refusal.slug == "not-yet-valid"
    assert "1970-01-01" in refusal.hint
    assert "set the clock" in refusal.hint


def test_a_clock_set_back_does_not_revive_an_expired_certificate() -> None:
    top = root(start=BUILT - timedelta(days=900))
    signer = issue("S", top, start=BUILT - timedelta(days=800), end=BUILT - timedelta(days=400))
    set_back = replace(POLICY, now=BUILT - timedelta(days=600))
    refusal = refusal_of(Case(signer, (top,)), set_back)
    assert refusal.slug == "expired"
    assert "set the clock" in refusal.hint


def test_a_name_that_could_steer_a_terminal_is_escaped() -> None:
    made = Case(issue("evil\x1b[2J", root("Theirs")), (root("Ours"),))
    assert "\x1b" not in refusal_of(made).message


# --- allowed signers -------------------------------------------------------------------------


def allowing(*names: str) -> SignerPolicy:
    return replace(POLICY, allowed_signers=names)


def test_a_signer_named_by_common_name_is_allowed() -> None:
    assert verdict(signer_below_the_anchor(), allowing("Other", "S")) is None


def test_a_signer_named_by_fingerprint_is_allowed_whatever_its_spelling() -> None:
    made = signer_below_the_anchor()
    plain = made.signer.fingerprint
    colons = ":".join(plain[i : i + 2] for i in range(0, 64, 2)).upper()
    assert verdict(made, allowing(plain)) is None
    assert verdict(made, allowing(colons)) is None


@pytest.mark.parametrize("names", [("Other",), (), ("",), ("s",), ("S ",), ("00" * 32,)])
def test_a_signer_nobody_named_is_refused(names: Tuple[str, ...]) -> None:
    assert verdict(signer_below_the_anchor(), allowing(*names)) == "signer-not-allowed"


def test_naming_the_issuer_allows_nobody() -> None:
    made = signer_below_the_anchor()
    assert verdict(made, allowing("Root", made.installed[0].fingerprint)) == "signer-not-allowed"


# --- bounds ----------------------------------------------------------------------------------


def test_many_certificates_of_one_name_do_not_hide_the_right_one() -> None:
    top = root()
    right = intermediate(top, "I")
    crowd = [intermediate(root("Stranger"), "I") for _ in range(40)]
    assert verdict(Case(issue("S", right), (*crowd, right, top))) is None


def test_a_maze_of_cross_signed_certificates_ends_within_the_bound() -> None:
    keys = [new_key() for _ in range(6)]
    roots = [root(f"I{number}", key=key) for number, key in enumerate(keys)]
    maze: List[Party] = []
    for number, key in enumerate(keys):
        others = [each for each in roots if each.key is not key]
        maze += [intermediate(each, f"I{number}", key=key) for each in others]
    assert verdict(Case(issue("S", maze[0]), (*maze, root("Other")))) == "no-chain"


# --- what is installed -----------------------------------------------------------------------


def test_several_certificates_in_one_file_are_all_installed() -> None:
    top = root()
    middle = intermediate(top)
    installed = load_store({"bundle.pem": top.pem + b"# comment\n" + middle.pem}, None)
    assert (len(installed.anchors), len(installed.intermediates)) == (1, 1)
    assert check_signer(issue("S", middle).pem, installed, POLICY).common_name == "S"


def test_a_certificate_installed_twice_counts_once() -> None:
    top = root()
    assert len(load_store({"a.pem": top.pem, "b.pem": top.pem}, None).anchors) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_a_file_without_a_readable_certificate_is_named(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"broken\.pem"):
        load_store({"broken.pem": content, "good.pem": root().pem}, None)


def test_a_private_key_is_no_certificate() -> None:
    with pytest.raises(ConfigError, match=r"key\.pem"):
        load_store({"key.pem": root().key_pem}, None)


def test_revoked_fingerprints_may_be_written_as_openssl_prints_them() -> None:
    top = root()
    spelled = ":".join(top.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    text = f"# stolen\r\n\r\n  SHA256 Fingerprint={spelled}   # in May\r\n"
    assert load_store({}, text.encode()).revoked == {top.fingerprint}


@pytest.mark.parametrize("line", ["abc", "zz" * 32, "Root", "00" * 20, "00" * 33])
def test_a_line_that_revokes_nothing_is_an_error(line: str) -> None:
    with pytest.raises(ConfigError, match=r"revoked\.txt line 2") as caught:
        load_store({}, f"{'00' * 32}\n{line}\n".encode())
    assert caught.value.exit_code == 78


# --- what the image brings -------------------------------------------------------------------


@pytest.mark.parametrize(
    "pem", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_signer_certificate_that_does_not_parse_is_damage(pem: bytes) -> None:
    with pytest.raises(ImageDamaged) as caught:
        check_signer(pem, store(root()), POLICY)
    assert caught.value.slug == "bad-certificate"


def test_a_huge_signer_certificate_is_refused_unread() -> None:
    with pytest.raises(ImageDamaged) as caught:
        check_signer(b"#" * 70_000 + issue("S").pem, store(root()), POLICY)
    assert caught.value.slug == "too-large"


def test_only_the_first_certificate_of_the_image_counts() -> None:
    top = root()
    stranger = issue("Stranger", root("Theirs"))
    with pytest.raises(NotTrusted):
        check_signer(stranger.pem + issue("S", top).pem, store(top), POLICY)


def test_certificates_of_the_image_are_not_used_as_intermediates() -> None:
    top = root()
    middle = intermediate(top)
    with pytest.raises(NotTrusted) as caught:
        check_signer(issue("S", middle).pem + middle.pem, store(top), POLICY)
    assert caught.value.slug == "no-chain"
