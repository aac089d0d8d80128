"""`metadata.jwt`: its envelope, its claims, and both written the way the field writes them.

FORMATS section 1, "metadata.jwt". Reading takes two steps, because nothing of the payload may be
used before its signature holds: `parse_envelope` gives the certificate's name and hash only,
`read_claims` the rest, and only `core.trust` calls it in between. All reading raises
ImageDamaged for what is malformed or could be read in two ways.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Dict, List, Mapping, NoReturn, Optional, Tuple

from ..entries import Digest
from ..errors import DoesNotFit, ImageDamaged, NotTrusted
from ..model import Claims, Details, TableRef

ENTRY_POINT = "metadata.jwt"
MAX_JWT_BYTES = 256 * 1024
MAX_NAME_BYTES = 255
#: Raised only when older clients would misread the `ota` object; new keys do not raise it.
FORMAT = 1

_HEADER = {"alg": "ES256"}
_TABLES = ("directory", "symboliclink", "regular", "persistent")
#: Each of these at most once; other objects are ignored. The value of `version` is not looked
#: at: what counts is whether the claims needed are there.
_KINDS = frozenset(
    (*_TABLES, "version", "certificate", "rootfs_directory", "total_regular_size",
     "compressed_rootfs_directory", "ota")
)  # fmt: skip

_SEGMENT = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,18}")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
#: What `is_text` demands, for messages.
TEXT = "a text of 1 to 255 printable characters"

Claim = Mapping[str, object]


@dataclass(frozen=True)
class Envelope:
    """A `metadata.jwt` taken apart; nothing in it is verified.

    `token`: all of it. `signing_input`: the bytes the signature is over, as transmitted.
    `signature`: as decoded, DER if it is right. `certificate`: what the payload says of the
    signer's certificate.
    """

    token: bytes
    signing_input: bytes
    signature: bytes
    certificate: TableRef
    payload: bytes


def parse_envelope(jwt: bytes) -> Envelope:
    """Takes a `metadata.jwt` apart. Segments may have `=` padding (the field) or none.

    Raises ImageDamaged when it is malformed or larger than 256 KiB, NotTrusted for an algorithm
    other than ES256.
    """
    if len(jwt) > MAX_JWT_BYTES:
        raise ImageDamaged(
            f"{ENTRY_POINT} is larger than the limit of {MAX_JWT_BYTES} bytes", slug="too-large"
        )
    segments = jwt.split(b".")
    if len(segments) != 3:
        _malformed("it is not three segments joined by dots")
    header, payload, signature = (_from_base64url(segment) for segment in segments)
    _check_header(_json(header, "header"))
    return Envelope(
        token=jwt,
        signing_input=segments[0] + b"." + segments[1],
        signature=signature,
        certificate=_table(_by_kind(payload), "certificate"),
        payload=payload,
    )


def read_claims(payload: bytes) -> Claims:
    """The claims of a payload whose signature holds.

    Raises ImageDamaged when they are incomplete or malformed, and DoesNotFit when the image
    needs a newer client.
    """
    found = _by_kind(payload)
    directories, symlinks, regulars, persistents = (_table(found, kind) for kind in _TABLES)
    claims = Claims(
        directories=directories,
        symlinks=symlinks,
        regulars=regulars,
        persistents=persistents,
        rootfs_directory=_directory(_required(found, "rootfs_directory"), "rootfs_directory"),
        compressed_directory=_compressed_directory(found),
        total_regular_size=_total_size(found),
        details=_details(found),
    )
    _check_distinct([*claims.table_refs, _table(found, "certificate")])
    return claims


def format_claims(claims: Claims, certificate: TableRef) -> bytes:
    """The payload: a JSON list in the order of the field's generator, the `ota` object last."""
    payload: List[Dict[str, object]] = [{"version": 1}]
    payload += [
        {kind: ref.name, "hash": ref.digest.hex()} for kind, ref in zip(_TABLES, claims.table_refs)
    ]
    payload.append({"rootfs_directory": claims.rootfs_directory})
    payload.append({"certificate": certificate.name, "hash": certificate.digest.hex()})
    if claims.total_regular_size is not None:
        payload.append({"total_regular_size": str(claims.total_regular_size)})
    if claims.compressed_directory is not None:
        payload.append({"compressed_rootfs_directory": claims.compressed_directory})
    if claims.details != Details():
        payload.append({"ota": {**_undated(claims.details), **_dates(claims.details)}})
    return json.dumps(payload).encode("ascii")


def signing_input(payload: bytes) -> bytes:
    """What is to be signed, with the padding that field readers demand."""
    header = json.dumps(_HEADER).encode("ascii")
    return base64.urlsafe_b64encode(header) + b"." + base64.urlsafe_b64encode(payload)


def join_jwt(signing_input: bytes, der_signature: bytes) -> bytes:
    """The `metadata.jwt` of a signing input and its DER-encoded ECDSA signature."""
    return signing_input + b"." + base64.urlsafe_b64encode(der_signature)


def image_id(claims: Claims) -> str:
    """The name of an image's content: hex sha256 over this canonical JSON (sorted, no spaces):

        {"ota": {"format": 1, ...}, "tables": {"directory": HEX, "persistent": HEX, ...}}

    `ota` is the object of that name without `created` and `expires`; an image without one has
    only `format`. Names of the tables, their place and the signer do not count: signing again
    is not an update.
    """
    digests = {kind: ref.digest.hex() for kind, ref in zip(_TABLES, claims.table_refs)}
    content = {"ota": _undated(claims.details), "tables": digests}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def parse_date(text: str) -> datetime:
    """An RFC 3339 date in UTC, to the second. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date")
    day, time, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(days=1):
        raise ValueError("not an RFC 3339 offset")
    local = datetime.fromisoformat(f"{day}T{time}+00:00")
    try:
        return local + offset if sign == "-" else local - offset
    except OverflowError:
        raise ValueError("beyond the range of dates") from None


def is_text(text: str) -> bool:
    """Whether `text` can be a version or another text of the `ota` object."""
    return 0 < len(text) <= 255 and not _UNSAFE.search(text)


def format_date(date: datetime) -> str:
    """`date`, which must know its zone, as RFC 3339 in UTC."""
    utc = date.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None)
    return f"{utc.isoformat()}Z"


# --- the envelope ----------------------------------------------------------------------------


def _from_base64url(segment: bytes) -> bytes:
    bare = segment.rstrip(b"=")
    padding = -len(bare) % 4
    fits = _SEGMENT.fullmatch(segment) and len(segment) in (len(bare), len(bare) + padding)
    if not fits or padding == 3:
        _malformed("a segment is not base64url")
    data = base64.urlsafe_b64decode(bare + b"=" * padding)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != bare:
        _malformed("a segment has stray bits at its end")
    return data


def _check_header(header: object) -> None:
    if header != _HEADER:
        raise NotTrusted(
            f'{ENTRY_POINT} is not signed with ES256: its header must be {{"alg": "ES256"}}',
            hint="ask the image's publisher to sign it with an EC P-256 key",
            slug="bad-algorithm",
        )


def _json(data: bytes, what: str) -> object:
    """The JSON value in `data`; duplicate keys and huge numbers are refused."""
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_no_constant,
        )
    except RecursionError:
        _malformed(f"the {what} is nested too deeply")
    except ValueError as error:
        _malformed(f"the {what} is not JSON that can be read in one way: {error}")


def _object(pairs: List[Tuple[str, object]]) -> Dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _integer(digits: str) -> int:
    if len(digits) > 19:
        raise ValueError("a number is too large")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# --- the claims ------------------------------------------------------------------------------


def _by_kind(payload: bytes) -> Dict[str, Claim]:
    """The objects of a payload by the known key they have."""
    objects = _json(payload, "payload")
    if not isinstance(objects, list):
        _malformed("the payload is not a list")
    found: Dict[str, Claim] = {}
    for claim in objects:
        if not isinstance(claim, dict):
            _malformed("the payload holds something that is not an object")
        kinds = _KINDS.intersection(claim)
        if len(kinds) > 1:
            _malformed(f"one object claims {' and '.join(sorted(kinds))}")
        for kind in kinds:
            if kind in found:
                _malformed(f"`{kind}` is claimed twice")
            found[kind] = claim
    return found


def _required(found: Mapping[str, Claim], kind: str) -> object:
    if kind not in found:
        _malformed(f"it has no `{kind}` claim")
    return found[kind][kind]


def _table(found: Mapping[str, Claim], kind: str) -> TableRef:
    name = _file_name(_required(found, kind), kind)
    return TableRef(name, _digest(found[kind].get("hash"), kind))


def _compressed_directory(found: Mapping[str, Claim]) -> Optional[str]:
    kind = "compressed_rootfs_directory"
    return _directory(_required(found, kind), kind) if kind in found else None


def _total_size(found: Mapping[str, Claim]) -> Optional[int]:
    kind = "total_regular_size"
    if kind not in found:
        return None
    text = found[kind][kind]
    if not isinstance(text, str) or not _SIZE.fullmatch(text):
        _malformed(f"`{kind}` is not a number of bytes")
    return int(text)


def _details(found: Mapping[str, Claim]) -> Details:
    if "ota" not in found:
        return Details()
    ota = found["ota"]["ota"]
    if not isinstance(ota, dict):
        _malformed("`ota` is not an object")
    _check_format(ota.get("format"))
    return Details(
        version=_text(ota, "version"),
        created=_date(ota, "created"),
        compatible=_text(ota, "compatible"),
        expires=_date(ota, "expires"),
        attributes=_attributes(ota),
    )


def _check_format(number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        _malformed("`ota` has no format number")
    if number > FORMAT:
        raise DoesNotFit(
            f"the image has format {number}; this ota reads up to {FORMAT}",
            hint="update ota on this device first",
            slug="newer-format",
        )


def _text(ota: Claim, key: str) -> Optional[str]:
    if key not in ota:
        return None
    text = ota[key]
    if not isinstance(text, str) or not is_text(text):
        _malformed(f"`{key}` is not {TEXT}")
    return text


def _date(ota: Claim, key: str) -> Optional[datetime]:
    text = _text(ota, key)
    try:
        return None if text is None else parse_date(text)
    except ValueError as error:
        _malformed(f"`{key}`: {error}")


def _attributes(ota: Claim) -> Optional[TableRef]:
    if "attributes" not in ota and "attributes_sha256" not in ota:
        return None
    name = _file_name(ota.get("attributes"), "attributes")
    return TableRef(name, _digest(ota.get("attributes_sha256"), "attributes"))


def _digest(text: object, kind: str) -> Digest:
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        _malformed(f"the hash of `{kind}` is not a sha256 in lower-case hex")
    return Digest(bytes.fromhex(text))


def _file_name(name: object, kind: str) -> str:
    """A name that is one component: it becomes part of a URL and a file in the slot."""
    if not isinstance(name, str) or not _is_component(name):
        _malformed(f"`{kind}` is not a plain file name")
    return name


def _directory(path: object, kind: str) -> str:
    """A path below the image's URL; a trailing slash is dropped."""
    if not isinstance(path, str):
        _malformed(f"`{kind}` is not a path")
    path = path[:-1] if path.endswith("/") else path
    if not all(_is_component(name) for name in path.split("/")):
        _malformed(f"`{kind}` is not a path below the image")
    return path


def _is_component(name: str) -> bool:
    if name in ("", ".", "..") or "/" in name or _UNSAFE.search(name):
        return False
    return len(name.encode("utf-8")) <= MAX_NAME_BYTES


def _check_distinct(refs: List[TableRef]) -> None:
    names = [ENTRY_POINT, *(ref.name for ref in refs)]
    if len(set(names)) != len(names):
        _malformed("two claims name the same file")


def _malformed(why: str) -> NoReturn:
    raise ImageDamaged(
        f"{ENTRY_POINT} is malformed: {why}",
        hint="the image can not be used; ask its publisher",
        slug="bad-metadata",
    )


# --- writing ---------------------------------------------------------------------------------


def _undated(details: Details) -> Dict[str, object]:
    ota: Dict[str, object] = {"format": FORMAT}
    if details.version is not None:
        ota["version"] = details.version
    if details.compatible is not None:
        ota["compatible"] = details.compatible
    if details.attributes is not None:
        ota["attributes"] = details.attributes.name
        ota["attributes_sha256"] = details.attributes.digest.hex()
    return ota


def _dates(details: Details) -> Dict[str, str]:
    dates = {"created": details.created, "expires": details.expires}
    return {key: format_date(date) for key, date in dates.items() if date is not None}
