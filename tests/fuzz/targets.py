"""Everything that reads what others wrote: any bytes give a value or a documented error.

A target takes bytes; an exception it lets through is a bug. `corpus/NAME` holds its seeds.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, List

import httpcore
import zstandard

from ota_cli.boot import settings as slot_file
from ota_cli.core import (
    claims,
    cmdline,
    config,
    extlinux,
    fstab,
    grubcfg,
    grubenv,
    jetson,
    tables,
)
from ota_cli.core.accounts import owner_map
from ota_cli.core.attributes import parse_attributes
from ota_cli.core.certificate import read_certificates
from ota_cli.core.certs import load_store
from ota_cli.core.history import format_end, parse_history
from ota_cli.core.protocol import BadLine, parse_line, parse_object
from ota_cli.core.record import checksum, format_record, parse_record
from ota_cli.core.requests import parse_go, parse_request
from ota_cli.errors import (
    BootRefused,
    ConfigError,
    DoesNotFit,
    ImageDamaged,
    NotTrusted,
    UsageProblem,
)
from ota_cli.fleet.report import parse_checked, parse_ecus, parse_status, parse_updated
from ota_cli.host.net_range import is_rest, length_of, strong_etag
from ota_cli.host.net_retry import retry_after_s

CORPUS = Path(__file__).with_name("corpus")

Target = Callable[[bytes], None]
TARGETS: Dict[str, Target] = {}


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def seeds(name: str) -> List[bytes]:
    """The committed examples for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _text(data: bytes) -> str:
    """As files of the running system are read."""
    return data.decode("utf-8", "replace")


@target
def jwt(data: bytes) -> None:
    with suppress(ImageDamaged, NotTrusted):
        claims.parse_envelope(data)


@target
def payload(data: bytes) -> None:
    with suppress(ImageDamaged, DoesNotFit):
        claims.image_id(claims.read_claims(data))


@target
def directories(data: bytes) -> None:
    with suppress(ImageDamaged):
        found = tables.parse_directories(data)
        again = tables.parse_directories(tables.format_directories(found))
        assert list(again) == list(found)


@target
def symlinks(data: bytes) -> None:
    with suppress(ImageDamaged):
        found = tables.parse_symlinks(data)
        again = tables.parse_symlinks(tables.format_symlinks(found))
        assert list(again) == list(found)


@target
def regulars(data: bytes) -> None:
    with suppress(ImageDamaged):
        list(tables.parse_regulars(data))


@target
def persistents(data: bytes) -> None:
    with suppress(ImageDamaged):
        tables.parse_persistents(data)


@target
def attributes(data: bytes) -> None:
    for packed in (data, zstandard.compress(data)):
        with suppress(ImageDamaged):
            parse_attributes(packed)


@target
def certificates(data: bytes) -> None:
    with suppress(ValueError):
        read_certificates(data)


@target
def revoked(data: bytes) -> None:
    with suppress(ConfigError):
        load_store({}, data)


@target
def environment_block(data: bytes) -> None:
    block = data.ljust(grubenv.BLOCK_BYTES, b"#")[: grubenv.BLOCK_BYTES]
    with suppress(BootRefused):
        grubenv.foreign_variables(block)
        ours = grubenv.boot_variables(block)
        assert block.startswith(grubenv.head(ours))


@target
def slot_arguments(data: bytes) -> None:
    with suppress(BootRefused):
        grubcfg.read_arguments_file(data)


@target
def custom_cfg(data: bytes) -> None:
    with suppress(BootRefused):
        grubcfg.rule_of(_text(data))
        grubcfg.sources_custom(_text(data))
        changed = grubcfg.with_part(_text(data))
        assert grubcfg.with_part(changed) == changed


@target
def extlinux_conf(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BootRefused):
        changed = extlinux.with_root(text, "PARTUUID=x")
        assert extlinux.default_entry(changed).root == "PARTUUID=x"
        assert extlinux.with_root(changed, "PARTUUID=x") == changed


@target
def jetson_facts(data: bytes) -> None:
    jetson.why_not(jetson.Facts(_text(data), jetson.parse_compatible(data), True))
    jetson.active_slot(_text(data))


@target
def slot_settings(data: bytes) -> None:
    with suppress(BootRefused):
        found = slot_file.parse(data, "cboot")
        assert slot_file.parse(slot_file.compose(found), "cboot") == found


@target
def command_line(data: bytes) -> None:
    cmdline.parse(_text(data))
    with suppress(BootRefused):
        cmdline.grub_words(_text(data))
        cmdline.build(_text(data), None, "b", "0123456789ab", None)


@target
def fstab_lines(data: bytes) -> None:
    image, _, running = _text(data).partition("\x00")
    merged = fstab.merge(image, running, "PARTUUID=x")
    assert fstab.merge(merged, running, "PARTUUID=x") == merged


@target
def accounts(data: bytes) -> None:
    old, _, new = _text(data).partition("\x00")
    owner_map((old, old), (new, new))(0, 0)


@target
def ecu_info(data: bytes) -> None:
    with suppress(ConfigError):
        config.parse_ecu_info(_text(data), "ecu_info.yml")


@target
def proxy_info(data: bytes) -> None:
    with suppress(ConfigError):
        config.parse_proxy_info(_text(data), "proxy_info.yml")


@target
def settings(data: bytes) -> None:
    with suppress(ConfigError):
        config.parse_settings(_text(data), "ota.yml", {})


@target
def state(data: bytes) -> None:
    """Also past the checksum, which no mutation would get right."""
    with suppress(ValueError, RecursionError):
        document = json.loads(data)
        if isinstance(document, dict):
            document.pop("checksum", None)
            data = json.dumps({**document, "checksum": checksum(document)}).encode()
    with suppress(ConfigError):
        record = parse_record(data, "state.json")
        assert parse_record(format_record(record), "state.json") == record


@target
def history(data: bytes) -> None:
    found = parse_history(data)
    again = b"\n".join(format_end(end).encode() for end in found.ends)
    assert parse_history(again).damaged == 0


@target
def headers(data: bytes) -> None:
    values = dict.fromkeys(("Content-Length", "Content-Range", "ETag", "Retry-After"), data)
    response = httpcore.Response(206, headers=[(k.encode(), v) for k, v in values.items()])
    strong_etag(response), length_of(response), is_rest(response, 5, None)
    assert 0 <= retry_after_s(data.decode("latin-1"), 0.0) < 1e9


@target
def request(data: bytes) -> None:
    for parse in (parse_request, parse_go):
        with suppress(UsageProblem):
            parse(data)


@target
def answer(data: bytes) -> None:
    with suppress(BadLine):
        parse_line(data)
    with suppress(BadLine):
        found = parse_object(data)
        inner = found.get("result")
        for each in (found, inner if isinstance(inner, dict) else {}):
            for parse in (parse_status, parse_ecus):
                with suppress(BadLine):
                    parse(each)
            for about in (parse_checked, parse_updated):
                with suppress(BadLine):
                    about(each, "p1")
