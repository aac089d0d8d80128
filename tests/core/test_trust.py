"""From bytes of a server to an image that may be installed: every step refuses on its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Dict

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from ota_cli.compressed import CompressedFiles
from ota_cli.core.claims import format_claims, join_jwt, parse_envelope, signing_input
from ota_cli.core.trust import SignedClaims, verify_claims, verify_image
from ota_cli.errors import ImageDamaged, NotTrusted, OtaError
from ota_cli.model import Details
from tests.support.chains import (
    EMPTY_TABLES,
    NOW,
    POLICY,
    Party,
    claims_for,
    issue,
    root,
    sign,
    sign_payload,
    store,
    table_ref,
)

ANCHOR = root()
SIGNER = issue("signer", ANCHOR)
STRANGER = issue("stranger", root("Elsewhere"))


def verified(jwt: bytes, signer: Party = SIGNER) -> SignedClaims:
    return verify_claims(parse_envelope(jwt), signer.pem, store(ANCHOR), POLICY)


def refusal_of(jwt: bytes, signer: Party = SIGNER) -> OtaError:
    with pytest.raises(OtaError) as refusal:
        verified(jwt, signer)
    return refusal.value


def test_a_signed_image_becomes_an_image_with_its_metadata_kept_byte_for_byte() -> None:
    jwt = sign(claims_for(EMPTY_TABLES), SIGNER)
    image = verify_image(verified(jwt), CompressedFiles(EMPTY_TABLES.items()))
    assert [directory.path for directory in image.tables.directories] == ["/etc"]
    assert image.metadata == {**EMPTY_TABLES, "metadata.jwt": jwt, "sign.pem": SIGNER.pem}


def test_a_changed_claim_breaks_the_signature_and_is_never_read() -> None:
    honest = format_claims(claims_for(EMPTY_TABLES), table_ref("sign.pem", SIGNER.pem))
    signature = parse_envelope(sign_payload(honest, SIGNER)).signature
    # Read first, this payload would be refused as malformed instead.
    wicked = honest.replace(b'"rootfs"', b'"../../"')
    error = refusal_of(join_jwt(signing_input(wicked), signature))
    assert (error.slug, error.exit_code) == ("bad-signature", 10)


def test_a_signature_by_another_key_than_that_of_the_certificate_is_refused() -> None:
    payload = format_claims(claims_for(EMPTY_TABLES), table_ref("sign.pem", SIGNER.pem))
    assert refusal_of(sign_payload(payload, STRANGER)).slug == "bad-signature"


def test_a_raw_signature_of_the_jws_standard_is_refused() -> None:
    envelope = parse_envelope(sign(claims_for(EMPTY_TABLES), SIGNER))
    r, s = utils.decode_dss_signature(envelope.signature)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert refusal_of(join_jwt(envelope.signing_input, raw)).slug == "bad-signature"


def test_a_signature_over_another_digest_is_refused() -> None:
    payload = format_claims(claims_for(EMPTY_TABLES), table_ref("sign.pem", SIGNER.pem))
    signed = signing_input(payload)
    weaker = SIGNER.key.sign(signed, ec.ECDSA(hashes.SHA224()))
    assert refusal_of(join_jwt(signed, weaker)).slug == "bad-signature"


def test_removing_the_padding_changes_what_was_signed() -> None:
    jwt = sign(claims_for({**EMPTY_TABLES, "padded.txt": b""}), SIGNER)
    header, payload, signature = jwt.split(b".")
    assert header.endswith(b"=")
    bare = b".".join((header.rstrip(b"="), payload, signature))
    assert refusal_of(bare).slug == "bad-signature"


def test_a_trusted_certificate_other_than_the_one_claimed_is_refused() -> None:
    other = issue("other", ANCHOR)
    error = refusal_of(sign(claims_for(EMPTY_TABLES), SIGNER), other)
    assert (error.slug, error.exit_code) == ("digest-mismatch", 12)
    assert "sign.pem" in error.message


def test_a_signer_without_an_anchor_here_is_refused_before_its_signature_counts() -> None:
    error = refusal_of(sign(claims_for(EMPTY_TABLES), STRANGER), STRANGER)
    assert isinstance(error, NotTrusted)
    assert error.slug != "bad-signature"


def test_an_expired_image_is_refused_with_its_date() -> None:
    expired = claims_for(EMPTY_TABLES, Details(expires=NOW - timedelta(days=1)))
    error = refusal_of(sign(expired, SIGNER))
    assert (error.slug, error.exit_code) == ("image-expired", 10)
    assert "2027-02-28" in error.message


def test_an_image_is_good_up_to_the_second_it_expires() -> None:
    verified(sign(claims_for(EMPTY_TABLES, Details(expires=NOW + timedelta(seconds=1))), SIGNER))


def test_a_clock_before_the_build_of_this_ota_does_not_make_images_young_again() -> None:
    expired = claims_for(EMPTY_TABLES, Details(expires=POLICY.build_date - timedelta(days=1)))
    jwt = sign(expired, SIGNER)
    slow = replace(POLICY, now=POLICY.build_date - timedelta(days=400))
    with pytest.raises(NotTrusted):
        verify_claims(parse_envelope(jwt), SIGNER.pem, store(ANCHOR), slow)


def test_what_was_confirmed_here_does_so_as_well() -> None:
    jwt = sign(claims_for(EMPTY_TABLES, Details(expires=NOW + timedelta(days=1))), SIGNER)
    older = replace(POLICY, confirmed=NOW - timedelta(days=1))
    verify_claims(parse_envelope(jwt), SIGNER.pem, store(ANCHOR), older)
    later = replace(POLICY, confirmed=NOW + timedelta(days=2))
    with pytest.raises(NotTrusted, match="expired") as refusal:
        verify_claims(parse_envelope(jwt), SIGNER.pem, store(ANCHOR), later)
    assert "made on 2027-03-03; set the clock" in refusal.value.hint


def test_an_image_can_not_expire_before_it_is_made() -> None:
    """Confirmed, it would raise the floor above its own end."""
    late = Details(created=NOW + timedelta(days=9), expires=NOW + timedelta(days=8))
    error = refusal_of(sign(claims_for(EMPTY_TABLES, late), SIGNER))
    assert (error.slug, error.exit_code) == ("image-expired", 10)


def test_an_image_can_not_be_younger_than_its_certificates_are_valid() -> None:
    last = ANCHOR.certificate.not_valid_after_utc
    verified(sign(claims_for(EMPTY_TABLES, Details(created=last)), SIGNER))
    beyond = claims_for(EMPTY_TABLES, Details(created=last + timedelta(seconds=1)))
    error = refusal_of(sign(beyond, SIGNER))
    assert (error.slug, error.exit_code) == ("made-after-expiry", 10)


@pytest.mark.parametrize("name", sorted(EMPTY_TABLES))
def test_a_missing_or_changed_table_is_named(name: str) -> None:
    signed = verified(sign(claims_for(EMPTY_TABLES), SIGNER))
    missing: Dict[str, bytes] = {k: v for k, v in EMPTY_TABLES.items() if k != name}
    for files, slug in (
        (missing, "incomplete"),
        ({**EMPTY_TABLES, name: EMPTY_TABLES[name] + b"\n"}, "digest-mismatch"),
    ):
        with pytest.raises(ImageDamaged, match=name) as refusal:
            verify_image(signed, CompressedFiles(files.items()))
        assert refusal.value.slug == slug


def test_files_the_claims_do_not_name_are_left_aside() -> None:
    signed = verified(sign(claims_for(EMPTY_TABLES), SIGNER))
    files = CompressedFiles({**EMPTY_TABLES, "stray": b"x"}.items())
    assert "stray" not in verify_image(signed, files).metadata
