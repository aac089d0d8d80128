"""What the documents of `ota image` and `ota demo` look like; see `schemas`."""

from __future__ import annotations

from typing import Dict

from .schema import Schema, count, fields, flag, maybe, several, text, whole

_SUMMARY: Dict[str, Schema] = {
    "version": maybe(text("What the image is called; null where it does not say.")),
    "image_id": text("sha256 of what is signed."),
    "created": maybe(text("When it was signed, RFC 3339.")),
    "compatible": maybe(text("The devices it is for; null: any.")),
    "expires": maybe(text("Until when it can be installed, RFC 3339; null: for ever.")),
}
_DIRECTORY = text("Where it is.")

#: The `result` of each verb.
IMAGE_RESULTS: Dict[str, Schema] = {
    "image-build": whole("ota image build", fields("", {
        "directory": _DIRECTORY, "version": text("What it is called."), "files": count("In it."),
        "bytes": fields("Bytes.", {
            "content": count("Of all files."), "stored": count("Of what is to be served."),
        }),
    })),
    "image-sign": whole("ota image sign", fields("", {
        "directory": _DIRECTORY, "version": maybe(text("What it is called.")),
        "signer": text("The name in the certificate."),
    })),
    "image-prepare": whole("ota image prepare", fields("", {
        "written": several("What was put there.", text("A path.")),
        "unchanged": several("What was there already.", text("A path.")),
        "holds_ota": flag("Whether an `ota` is in it, too."),
    })),
    "image-verify": whole("ota image verify", fields("", {
        **_SUMMARY, "files": count("All of which are right."), "bytes": count("In them."),
    })),
    "image-inspect": whole("ota image inspect", fields("", {
        **_SUMMARY, "directories": count("In it."), "symlinks": count("In it."),
        "files": count("In it."), "bytes": count("In them."),
        "compressed": count("Files that are served compressed."),
        "kernel": maybe(text("The path of its kernel.")),
        "persistents": several("What devices keep.", text("A path.")),
        "largest": several("The largest files.", fields("", {
            "path": text("Where."), "bytes": count("How large."),
        })),
    })),
    "image-unpack": whole("ota image unpack", fields("", {
        **_SUMMARY, "target": text("What was filled."), "files": count("Put there."),
        "bytes": fields("Bytes.", {"downloaded": count("On the wire.")}),
    })),
    "image-serve": whole("ota image serve", fields("", {"directory": _DIRECTORY})),
    "demo": whole("ota demo", fields("", {
        "kept": maybe(text("The directory, where it was to be kept.")),
        "steps": several("What was run, in order.", fields("", {
            "why": text("What it is to show."), "argv": several("The command.", text("A word.")),
            "exit_code": count("As in ota(1)."), "output": text("What it printed."),
        })),
    })),
}  # fmt: skip
