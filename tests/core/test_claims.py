"""`metadata.jwt` as a format: what is read, what is refused, what is written."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Optional

import pytest

from ota_cli.core.claims import (
    MAX_JWT_BYTES,
    format_claims,
    format_date,
    image_id,
    join_jwt,
    parse_date,
    parse_envelope,
    read_claims,
    signing_input,
)
from ota_cli.errors import DoesNotFit, ImageDamaged, NotTrusted
from ota_cli.model import Details
from tests.support.chains import EMPTY_TABLES, claims_for, table_ref

HEADER = b'{"alg": "ES256"}'
CERTIFICATE = table_ref("sign.pem", b"pem")
DETAILS = Details(
    version="2027.3",
    created=datetime(2027, 3, 1, 12, 30, tzinfo=timezone.utc),
    compatible="bench",
    expires=datetime(2028, 3, 1, tzinfo=timezone.utc),
    attributes=table_ref("attributes.txt.zst", b"more"),
)


def segment(data: bytes, padding: bool = True) -> bytes:
    text = base64.urlsafe_b64encode(data)
    return text if padding else text.rstrip(b"=")


def jwt(header: bytes = HEADER, payload: Optional[bytes] = None, padding: bool = True) -> bytes:
    parts = (header, objects() if payload is None else payload, b"signature")
    return b".".join(segment(part, padding) for part in parts)


def objects(**changes: Any) -> bytes:
    """The payload with whole objects replaced by kind; None leaves one out."""
    found: List[Dict[str, Any]] = json.loads(format_claims(claims_for(EMPTY_TABLES), CERTIFICATE))
    kept = [each for each in found if not set(changes).intersection(each)]
    return json.dumps(kept + [each for each in changes.values() if each is not None]).encode()


def with_ota(**keys: Any) -> bytes:
    return objects(ota={"ota": {"format": 1, **keys}})


# --- the envelope ------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [True, False])
def test_the_envelope_is_read_with_padding_and_without(padding: bool) -> None:
    token = jwt(padding=padding)
    envelope = parse_envelope(token)
    assert envelope.certificate == CERTIFICATE
    assert envelope.signature == b"signature"
    assert envelope.signing_input == token.rpartition(b".")[0]
    assert envelope.token == token


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"..",
        b"a.b",
        jwt() + b".more",
        jwt() + b"\n",
        b" " + jwt(),
        jwt().replace(b"=", b"==", 1),
        b"A" + jwt(),
        jwt()[:-1] + b"+",
        jwt(header=b"not json"),
        jwt(header=b'{"alg": "ES256"'),
        jwt(payload=b"{}"),
        jwt(payload=b"[1]"),
        jwt(payload=b"[" * 50_000),
        jwt(payload=b'[{"version": 1, "version": 1}]'),
        jwt(payload=b'[{"version": 99999999999999999999}]'),
        jwt(payload=b'[{"version": NaN}]'),
        jwt(payload=b"\xff\xfe"),
        jwt(payload=objects(certificate=None)),
    ],
)
def test_refuses_an_envelope_that_is_malformed(token: bytes) -> None:
    with pytest.raises(ImageDamaged) as refusal:
        parse_envelope(token)
    assert refusal.value.slug == "bad-metadata"
    assert refusal.value.exit_code == 12


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg": "none"}',
        b'{"alg": "HS256"}',
        b'{"alg": "RS256"}',
        b'{"alg": "es256"}',
        b'{"alg": ["ES256"]}',
        b'{"alg": "ES256", "jwk": {}}',
        b'{"alg": "ES256", "x5c": []}',
        b"{}",
        b'"ES256"',
    ],
)
def test_refuses_every_algorithm_but_es256_as_not_trusted(header: bytes) -> None:
    with pytest.raises(NotTrusted) as refusal:
        parse_envelope(jwt(header=header))
    assert refusal.value.slug == "bad-algorithm"
    assert refusal.value.exit_code == 10


def test_refuses_a_token_of_more_than_256_kib_before_looking_into_it() -> None:
    with pytest.raises(ImageDamaged) as refusal:
        parse_envelope(b"x" * (MAX_JWT_BYTES + 1))
    assert refusal.value.slug == "too-large"


def test_refuses_stray_bits_so_that_one_signature_has_one_spelling() -> None:
    header, payload, _ = jwt().split(b".")
    assert parse_envelope(b".".join((header, payload, b"AA=="))).signature == b"\0"
    with pytest.raises(ImageDamaged):
        parse_envelope(b".".join((header, payload, b"AB==")))


# --- the claims --------------------------------------------------------------------------------


def test_what_is_written_is_read_back() -> None:
    claims = claims_for(EMPTY_TABLES, DETAILS)
    assert read_claims(format_claims(claims, CERTIFICATE)) == claims


def test_claims_without_our_object_are_an_image_of_the_field() -> None:
    assert read_claims(objects()).details == Details()


def test_unknown_objects_and_unknown_keys_of_ours_are_left_to_newer_clients() -> None:
    claims = read_claims(objects(future={"future": "x"}))
    assert claims == read_claims(objects())
    assert read_claims(with_ota(version="v", later=[1])).details == Details(version="v")


@pytest.mark.parametrize("kind", ["directory", "symboliclink", "regular", "persistent"])
def test_refuses_claims_without_a_table_or_with_one_twice(kind: str) -> None:
    with pytest.raises(ImageDamaged, match=kind):
        read_claims(objects(**{kind: None}))
    twice = json.loads(objects())
    twice.append(next(each for each in twice if kind in each))
    with pytest.raises(ImageDamaged, match="twice"):
        read_claims(json.dumps(twice).encode())


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b", "a\nb", "\x1b[2J", "n" * 256, 7, None]
)
def test_refuses_a_table_name_that_is_not_one_plain_component(name: object) -> None:
    ref = {"regular": name, "hash": "0" * 64}
    with pytest.raises(ImageDamaged, match="plain file name"):
        read_claims(objects(regular=ref))


@pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "0" * 64 + "\n", 0, None])
def test_refuses_a_hash_that_is_not_lower_case_hex(digest: object) -> None:
    with pytest.raises(ImageDamaged, match="sha256"):
        read_claims(objects(regular={"regular": "regulars.txt", "hash": digest}))


@pytest.mark.parametrize("path", ["", "/", "../up", "a/../b", "/abs", "a//b", "a\0", 3])
def test_refuses_a_content_directory_outside_the_image(path: object) -> None:
    with pytest.raises(ImageDamaged, match="rootfs_directory"):
        read_claims(objects(rootfs_directory={"rootfs_directory": path}))


def test_a_trailing_slash_of_the_content_directory_is_dropped() -> None:
    claims = read_claims(objects(rootfs_directory={"rootfs_directory": "data/rootfs/"}))
    assert claims.rootfs_directory == "data/rootfs"


@pytest.mark.parametrize("size", [12, "-1", "1.5", "", "9" * 19, "١"])
def test_refuses_a_total_size_that_is_not_a_string_of_digits(size: object) -> None:
    with pytest.raises(ImageDamaged, match="total_regular_size"):
        read_claims(objects(total_regular_size={"total_regular_size": size}))


def test_refuses_one_object_with_two_claims_and_one_file_under_two_claims() -> None:
    both = {"directory": "dirs.txt", "regular": "dirs.txt", "hash": "0" * 64}
    with pytest.raises(ImageDamaged, match="claims directory and regular"):
        read_claims(objects(directory=both))
    with pytest.raises(ImageDamaged, match="same file"):
        read_claims(objects(regular={"regular": "dirs.txt", "hash": "0" * 64}))
    with pytest.raises(ImageDamaged, match="same file"):
        read_claims(objects(regular={"regular": "metadata.jwt", "hash": "0" * 64}))


@pytest.mark.parametrize("number", [None, 0, -1, True, "1", 1.0])
def test_refuses_our_object_without_a_usable_format_number(number: object) -> None:
    with pytest.raises(ImageDamaged, match="format number"):
        read_claims(objects(ota={"ota": {"format": number}}))


def test_an_image_of_a_newer_format_does_not_fit_and_says_what_to_do() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        read_claims(objects(ota={"ota": {"format": 2}}))
    assert refusal.value.slug == "newer-format"
    assert "update ota" in (refusal.value.hint or "")


@pytest.mark.parametrize("key", ["version", "compatible"])
@pytest.mark.parametrize("text", ["", "x" * 256, "a\x1b[31m", "a\nb", "\u2028", "\ud800", 5])
def test_refuses_texts_that_could_not_be_printed_on_a_terminal(key: str, text: object) -> None:
    with pytest.raises(ImageDamaged, match=key):
        read_claims(with_ota(**{key: text}))


@pytest.mark.parametrize("key", ["created", "expires"])
@pytest.mark.parametrize("text", ["tomorrow", "2027-03-01", "2027-13-01T00:00:00Z", 1, ""])
def test_refuses_dates_that_are_not_rfc_3339(key: str, text: object) -> None:
    with pytest.raises(ImageDamaged, match=key):
        read_claims(with_ota(**{key: text}))


def test_refuses_an_attribute_table_without_its_hash_and_a_hash_without_table() -> None:
    for half in ({"attributes": "a.zst"}, {"attributes_sha256": "0" * 64}):
        with pytest.raises(ImageDamaged, match="attributes"):
            read_claims(with_ota(**half))


# --- dates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-01T12:00:00Z", "2027-03-01T12:00:00Z"),
        ("2027-03-01t12:00:00.999z", "2027-03-01T12:00:00Z"),
        ("2027-03-01T00:30:00+09:00", "2027-02-28T15:30:00Z"),
        ("2027-12-31T23:30:00-01:00", "2028-01-01T00:30:00Z"),
    ],
)
def test_dates_are_brought_to_utc(text: str, expected: str) -> None:
    assert format_date(parse_date(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2027-03-01T12:00:00",
        "2027-03-01 12:00:00Z",
        "2027-02-30T12:00:00Z",
        "2027-03-01T12:00:00+24:00",
        "٢٠٢٧-03-01T12:00:00Z",
    ],
)
def test_refuses_dates_that_do_not_exist_or_have_no_zone(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|offset|month|day|range"):
        parse_date(text)


# --- the image's identity ----------------------------------------------------------------------


def test_signing_or_dating_an_image_again_is_not_another_image() -> None:
    later = Details(**{**vars(DETAILS), "created": DETAILS.created + timedelta(days=9)})  # type: ignore[operator]
    renamed = {f"other-{name}": data for name, data in EMPTY_TABLES.items()}
    same = {image_id(claims_for(EMPTY_TABLES, each)) for each in (DETAILS, later)}
    same.add(image_id(claims_for(renamed, DETAILS)))
    assert len(same) == 1


def test_other_content_or_another_version_name_is_another_image() -> None:
    changed = {**EMPTY_TABLES, "dirs.txt": b""}
    ids = {
        image_id(claims_for(EMPTY_TABLES)),
        image_id(claims_for(changed)),
        image_id(claims_for(EMPTY_TABLES, Details(version="x"))),
    }
    assert len(ids) == 3


def test_a_token_is_written_with_the_padding_that_readers_of_the_field_demand() -> None:
    payload = objects()
    token = join_jwt(signing_input(payload), b"0")
    assert token.endswith(b".MA==")
    assert all(len(part) % 4 == 0 for part in token.split(b"."))
    assert parse_envelope(token).payload == payload
