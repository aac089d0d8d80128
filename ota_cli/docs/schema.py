"""The words that the schemas are written in: JSON Schema, draft 7, every value described."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

Schema = Dict[str, object]

_DRAFT = "http://json-schema.org/draft-07/schema#"


def text(about: str, *values: str) -> Schema:
    """A string; one of `values` if there are any."""
    return {"type": "string", "description": about, **({"enum": list(values)} if values else {})}


def count(about: str) -> Schema:
    """A whole number from 0."""
    return {"type": "integer", "minimum": 0, "description": about}


def flag(about: str) -> Schema:
    return {"type": "boolean", "description": about}


def slot(about: str) -> Schema:
    return text(about, "a", "b")


def several(about: str, each: Schema) -> Schema:
    return {"type": "array", "description": about, "items": each}


def fields(about: str, keys: Dict[str, Schema], required: Optional[Sequence[str]] = None) -> Schema:
    """An object that has the `required` ones of `keys`, by default all; more may be added."""
    wanted = list(keys if required is None else required)
    return {"type": "object", "description": about, "properties": keys, "required": wanted}


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    values = schema.get("enum")
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*values, None]} if isinstance(values, list) else nullable


def named(name: str) -> Schema:
    """What `definitions` of the whole schema has under `name`."""
    return {"$ref": f"#/definitions/{name}"}


def whole(title: str, schema: Schema, **definitions: Schema) -> Schema:
    """A schema to be read by itself."""
    more = {"definitions": definitions} if definitions else {}
    return {"$schema": _DRAFT, "title": title, **schema, **more}
