"""One target under atheris: `python -m tests.fuzz.look TARGET` and options of libFuzzer."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ota_cli"]):
    from tests.fuzz.targets import TARGETS

_, name, *options = sys.argv
atheris.Setup([sys.argv[0], *options], TARGETS[name])
atheris.Fuzz()
