"""The page of what programs read from `ota`, made from the schemas."""

from __future__ import annotations

import json
from typing import Dict, Iterator, List, Mapping, Tuple, cast

from . import roff
from .schema import Schema
from .schemas import DOCUMENT, EVENTS, RESULTS

_ABOUT = (
    "`ota --json VERB` prints one JSON document on standard output, also when it fails. With "
    "`--output jsonl` there is an object a line: what happens, as it happens, and that document "
    "last. Keys are added, never renamed or given another meaning: a reader passes over those it "
    "does not know, and over events of kinds it does not know. Times are RFC 3339 in UTC, sizes "
    "bytes.",
    "The same as JSON Schemas, draft 7, comes with the program: the files `document.json`, "
    "`event.json` and one for each result, in the directory `schemas` of the Python package "
    "`ota_cli`.",
)
_READING = (
    "ota --json check --version 2026.11 | jq -r .result.bytes.download",
    "ota --output jsonl update --version 2026.11 | jq -r 'select(.event == \"progress\")'",
)


def events_page(name: str) -> str:
    """ota-events(7)."""
    parts = [roff.header("ota-events", 7, name), roff.section("name")]
    parts.append("ota\\-events \\- documents and events of ota for programs")
    parts.append(roff.section("description"))
    parts += [roff.paragraph(text) for text in _ABOUT]
    parts.append(roff.section("the document"))
    parts.append(roff.items(_rows(DOCUMENT, {})))
    parts.append(roff.section("events"))
    for event in EVENTS:
        parts += _event(event)
    parts.append(roff.section("results"))
    for schema in RESULTS.values():
        parts += _result(schema)
    parts += [roff.section("example"), roff.example(_READING)]
    parts += [roff.section("see also"), "ota(1)"]
    return roff.page(parts)


def _event(event: Schema) -> Iterator[str]:
    keys = _keys(event)
    yield f'.SS "{keys["event"]["const"]}"'
    yield roff.paragraph(str(event["description"]))
    yield roff.items((key, _about(each)) for key, each in keys.items() if key != "event")


def _result(schema: Schema) -> Iterator[str]:
    yield f'.SS "{roff.escape(str(schema["title"]))}"'
    definitions = cast("Mapping[str, Schema]", schema.get("definitions", {}))
    yield roff.items(_rows(schema, definitions))


def _rows(
    schema: Schema, definitions: Mapping[str, Schema], above: str = "", inside: Tuple[str, ...] = ()
) -> Iterator[Tuple[str, str]]:
    """Each key with its place, like `slots.a.state` and `ecus[].ecu_id`, and what it says.

    `inside`: definitions that are being told: an ECU has ECUs below it.
    """
    for key, each in _keys(schema).items():
        place, name = f"{above}{key}", _name(each)
        value = definitions[name] if name else each
        yield place, _about(value)
        if "items" in value:
            place, value = f"{place}[]", cast("Schema", value["items"])
            name = _name(value)
            value = definitions[name] if name else value
        if name not in inside:
            yield from _rows(value, definitions, f"{place}.", (*inside, *filter(None, [name])))


def _keys(schema: Schema) -> Dict[str, Schema]:
    return cast("Dict[str, Schema]", schema.get("properties", {}))


def _name(schema: Schema) -> str:
    """Of the definition that it stands for; empty where it says all itself."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _about(schema: Schema) -> str:
    """Type, values and meaning of a value, in a line."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    values: List[object] = cast("List[object]", schema.get("enum", []))
    shown = ", ".join(f"`{value}`" for value in values if value is not None)
    what = f"{' or '.join(map(str, kinds))}{f' ({shown})' if shown else ''}"
    if "const" in schema:
        what = f"{what} (`{json.dumps(schema['const'])}`)"
    return f"{what}. {schema['description']}"
