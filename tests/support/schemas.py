"""Whether what `ota` prints for programs is what the schemas that come with it say."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Callable

import fastjsonschema

import ota_cli
from tests.support.bench import Ran

SCHEMAS = Path(ota_cli.__file__).with_name("schemas")
#: Verbs whose result is that of others; None: what is printed is for people, or for the ECU above.
SAME = {
    "activate": "switch", "rollback": "switch", "switch-slot": "switch",
    "ssh-gate": None,
}  # fmt: skip

Check = Callable[[Any], Any]


def strictly(schema: Any) -> Any:
    """The schema without the allowance for keys that are yet to come."""
    if isinstance(schema, list):
        return [strictly(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strictly(value) for key, value in schema.items()}
    return {**found, "additionalProperties": False} if found.get("properties") else found


@functools.lru_cache(maxsize=None)
def checker(name: str) -> Check:
    """Raises for what the schema `name` does not allow."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    checked: Check = fastjsonschema.compile(strictly(schema))
    return checked


def require_as_told(verb: str, done: Ran) -> None:
    """The document of `verb` has all that its schema wants, and nothing else; one of a failure
    may have no result."""
    checker("document")(done.document)
    if done.result or done.document["ok"]:
        checker(SAME.get(verb, verb) or "")(done.result)
