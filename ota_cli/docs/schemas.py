"""What every JSON document and event of `ota` looks like; keys are added, never renamed."""

from __future__ import annotations

from typing import Dict

from ..events import Phase
from .failures import slugs
from .schema import Schema, count, fields, flag, maybe, named, several, slot, text, whole
from .schemas_image import IMAGE_RESULTS

_IMAGE_ID = text("sha256 of what is signed.")
_ECUS = several("Those below it.", named("ecu"))
_NAMES = several("ECUs.", text("An ECU."))
_SLUG = text("Stable name of the failure, for scripts; see ota-errors(7). More may come.")


def _error(slug: Schema) -> Schema:
    return fields(
        "What failed.",
        {
            "slug": slug,
            "message": text("What failed, on what, and why."),
            "hint": text("What to do."),
            "footprint": text("What may be changed.", "nothing", "standby", "output", "boot"),
        },
        ["slug", "message", "hint"],
    )


_ERROR = _error(_SLUG)
_VERDICT = fields(
    "How things stand after the last update.",
    {
        "code": text(
            "For scripts.", "confirmed", "trial", "armed", "fell_back", "disagree", "never_updated"
        ),
        "text": text("The same as a sentence."),
        "hint": text("What to do; may be empty."),
    },
)
_STATES = ("empty", "staging", "staged", "armed", "trial", "good", "bad", "adopted", "unknown")

DOCUMENT = whole(
    "The one document of every verb: printed with --json, the last line of --output jsonl",
    fields(
        "",
        {
            "schema": {"type": "integer", "const": 1, "description": "Version of this form."},
            "command": text("The verb."),
            "ok": flag("Whether the exit code is 0 or 20."),
            "exit_code": count("As in ota(1)."),
            "error": maybe(_error({**_SLUG, "examples": slugs()})),
            "result": fields(
                "What the verb answers; empty where it failed before there was an answer.", {}
            ),
        },
    ),
)


def _event(kind: str, about: str, keys: Dict[str, Schema]) -> Schema:
    every: Dict[str, Schema] = {
        "event": {"type": "string", "const": kind, "description": "What happens."},
        **keys,
    }
    every.setdefault("ecu_id", text("The other ECU that it happens on; missing for this one."))
    return fields(about, every, ["event", *keys])


_PHASE = text("Which part.", *(phase.value for phase in Phase))
_SENTENCE = {"text": text("A sentence.")}
_HELLO = {"schema": count("Version of what follows."), "version": text("Its `ota`."),
          "ecu_id": text("Its name.")}  # fmt: skip
EVENTS = (
    _event("phase", "A part of the command begins.", {"phase": _PHASE, **_SENTENCE}),
    _event(
        "progress", "How far a part is: what is done never goes back, the total may grow.",
        {
            "phase": _PHASE, "done_bytes": count("Done."), "total_bytes": count("Done in the end."),
            "percent": count("Of the whole command on this ECU; 100 only at its end."),
        },
    ),
    _event(
        "ahead", "What is still to be done, as far as it is known; a later one replaces it.",
        {"work": fields(
            "The bytes of each part.",
            {phase.value: count("Of this part.") for phase in Phase}, [],
        )},
    ),
    _event(
        "done", "All of it is done on this ECU.",
        {"percent": {"type": "integer", "const": 100, "description": "Of the whole command."}},
    ),
    _event("note", "Something the user may want to know.", _SENTENCE),
    _event("warning", "Something to look at although the command goes on.", _SENTENCE),
    _event(
        "changed", "The state of the device has changed, durably.",
        {
            "state": text("Of the update, as `outcome` of `ota history`, or of a slot: `bad`, "
                          "`adopted`."),
            "slot": slot("The slot it is about."), "version": text("What it holds; may be empty."),
            "txn": text("Of the update; may be empty."),
            "is_bad": flag("Whether nobody wanted that."), **_SENTENCE,
        },
    ),
    _event("hello", "The first word of an ECU to the one above it.", _HELLO),
    _event("alive", "Nothing new, but at work.", {}),
    _event(
        "ready", "These ECUs could be switched now; the word is awaited.",
        {"ecus": _NAMES, "trying": several("Those whose next boot is a trial.", text("An ECU."))},
    ),
)  # fmt: skip

_SLOT = fields(
    "A slot.",
    {
        "version": maybe(text("Its image; null when not known.")),
        "state": text("What is in it.", *_STATES),
        "device": text("Where it is."),
        "since": maybe(text("Since when it is in this state, RFC 3339.")),
        "size_bytes": maybe(count("How large it is; null where not known, and for a directory.")),
        "used_bytes": maybe(count("How much of that is used; of the running slot only.")),
    },
    ["version", "state", "device"],
)
_END: Dict[str, Schema] = {
    "txn": text("Its name."),
    "kind": text("`update`, `rollback`, `switch-slot` or `repair`."),
    "outcome": text("How far it got, or how it ended."),
    "version": maybe(text("The image.")),
    "from": maybe(slot("The slot that ran.")),
    "to": slot("The slot it was for."),
    "started": text("RFC 3339."),
    "ended": maybe(text("RFC 3339; null while it has not ended.")),
    "reason": text("Why it fell back; may be empty."),
}
_LAST = {**_END, "output": text("The end of what the failed health check printed; may be empty.")}
_STATUS: Dict[str, Schema] = {
    "ecu_id": text("Its name."),
    "running": maybe(slot("The slot that runs.")),
    "next": maybe(slot("The slot that boots next; null where none would.")),
    "slots": fields("Those that are known.", {"a": named("slot"), "b": named("slot")}, []),
    "verdict": named("verdict"),
    "last_update": maybe(fields("The last update, rollback, switch or repair.", _LAST)),
    "boot_problem": text("What is wrong with the boot loader; may be empty."),
    "ecus": _ECUS,
    "warnings": several("What to look at.", text("A sentence.")),
    "ota": maybe(text("Version of the program.")),
    "time": maybe(text("Its clock, RFC 3339.")),
}
_BELOW: Dict[str, Schema] = {
    "ip_addr": text("Its address; may be empty."),
    "asked": flag("Whether its address is known."),
    "reachable": flag("Whether it answered."),
    "unreachable_since": maybe(text("RFC 3339.")),
    "error": maybe(_ERROR),
}

_FILES = fields(
    "Files of the image by where their content is from; hard-linked names count as one.",
    {
        "total": count("All."), "kept": count("Right already in the standby slot."),
        "moved": count("Elsewhere in the standby slot."), "copied": count("The running slot."),
        "downloaded": count("The server."),
    },
)  # fmt: skip
_COST = fields(
    "Bytes.",
    {
        "download": count("To fetch."), "exact": flag("False where that is a limit."),
        "space": count("Needed on the slot."),
    },
    ["download", "space"],
)  # fmt: skip
_COUNTS = fields(
    "How many.",
    {
        "new": count("Not in the slot."), "changed": count("Other content, or another type."),
        "moved": count("Under another name in the slot."),
        "metadata": count("Only other modes, owners, times or names."),
        "removed": count("Not in the image."), "kept": count("As they are."),
    },
)  # fmt: skip
_KERNEL = fields(
    "The kernel.",
    {
        "old": maybe(text("Version of the one that runs.")),
        "new": maybe(text("Version of that of the image.")),
        "kernel": maybe(flag("Whether it is another; null where only hashing could tell.")),
        "initrd": maybe(flag("Whether that is another.")),
    },
)
_CHANGES_BELOW = fields(
    "What an update changes in the slot; null where nothing, or an older `ota` there does not say.",
    {"files": _COUNTS, "kernel": maybe(_KERNEL)},
)
_CHANGES = fields(
    "What an update changes in the slot; null where nothing.",
    {
        "files": _COUNTS,
        "others": _COUNTS,
        "downloads": several("The largest, at most ten.", fields("", {
            "path": text("Where it goes."), "bytes": count("On the wire."),
        })),
        "kernel": maybe(_KERNEL),
        "persisted": maybe(several(
            "What is carried over from the running slot; null where only root may look.",
            text("A path."),
        )),
    },
)  # fmt: skip
_PREVIEW: Dict[str, Schema] = {
    "available": flag("Whether there is an update, for any of the ECUs that were asked."),
    "armed": maybe(slot("The slot that boots next, on trial.")),
    "version": maybe(text("The image; null where this ECU was left out.")),
    "image_id": _IMAGE_ID,
    "slot": maybe(slot("The slot it is for.")),
    "files": _FILES,
    "bytes": _COST,
    "format": flag("Whether the slot gets a new file system."),
    "changes": maybe(_CHANGES),
}
_CHECKED_BELOW = fields(
    "An ECU below.",
    {
        "ecu_id": text("Its name."), "available": maybe(
            flag("Null where it is not known, or only ECUs below it were asked.")
        ),
        "version": maybe(text("The image.")), "bytes": maybe(_COST), "error": maybe(_ERROR),
        "changes": maybe(_CHANGES_BELOW), "ecus": _ECUS,
    },
)  # fmt: skip

_UPDATED_BELOW = fields(
    "An ECU below.",
    {
        "ecu_id": text("Its name."), "version": maybe(text("Null where it took no part.")),
        "slot": maybe(slot("The slot.")), "armed": flag("Whether that boots next, on trial."),
        "up_to_date": flag("Whether the image ran already."),
        "bytes": fields("Bytes.", {"downloaded": count("By this ECU.")}), "ecu_ids": _NAMES,
        "ecus": _ECUS,
    },
)  # fmt: skip
_FLEET: Dict[str, Schema] = {
    "ecu_ids": _NAMES,
    "ecus": _ECUS,
    "jointly": flag("Whether all are confirmed together."),
}
_PROXY = fields(
    "What the proxy did.",
    {
        "requests": count("Answered."), "hits": count("From the cache."),
        "bytes": fields(
            "Bytes.",
            {
                "sent": count("To clients."), "fetched": count("From servers."),
                "saved": count("The difference."),
            },
        ),
    },
)  # fmt: skip
_FILLED: Dict[str, Schema] = {
    "bytes": fields(
        "Bytes.",
        {
            "downloaded": count("On the wire."), "reused": count("Content found on the device."),
            "total": count("Content of the image."),
        },
    ),
    "seconds": {"type": "number", "minimum": 0, "description": "How long it took."},
    "carried": several("What was carried over from the running slot.", text("A path.")),
}  # fmt: skip
_UPDATED: Dict[str, Schema] = {
    "version": maybe(text("The image; null where this ECU was left out.")),
    "image_id": _IMAGE_ID,
    "slot": maybe(slot("The slot it was brought to.")),
    "up_to_date": flag("Whether it ran already."),
    "taken_back": maybe(slot("A slot that is not tried any more.")),
    "armed": flag("Whether the slot boots next, on trial."),
    "files": _FILES,
    **_FILLED,
    "owners_applied": flag("False where it was not run as root."),
    "verify_local": text("How local content was verified.", "full", "stat"),
    "verify_writes": flag("True where copies were read back from the disk as well."),
}  # fmt: skip

_COMPARED: Dict[str, Schema] = {
    "slot": slot("The slot."), "version": maybe(text("Its image.")), "image_id": _IMAGE_ID,
    "equal": flag("Whether it is what its image says."),
    "files": count("How many were compared: read, where the size is right."),
    "differences": several("What is not, or was not before a repair.", fields("", {
        "path": text("Where."), "what": text("What about it."),
    })),
}  # fmt: skip

#: The `result` of each verb; those in one entry have the same.
RESULTS: Dict[str, Schema] = {
    "status": whole(
        "ota status", fields("", _STATUS), slot=_SLOT, verdict=_VERDICT,
        ecu=fields(
            "An ECU below; what only itself can tell is missing where it did not answer.",
            {**_STATUS, **_BELOW}, ["ecu_id", "ecus", *_BELOW],
        ),
    ),
    "check": whole(
        "ota check, ota update --dry-run",
        fields("", {**_PREVIEW, "ecu_ids": _NAMES, "ecus": _ECUS}, ["available", "version"]),
        ecu=_CHECKED_BELOW,
    ),
    "update": whole(
        "ota update",
        fields("", {**_UPDATED, **_FLEET, "proxy": maybe(_PROXY)}, ["version", "slot"]),
        ecu=_UPDATED_BELOW,
    ),
    "switch": whole(
        "ota activate, ota rollback, ota switch-slot",
        fields(
            "",
            {
                "done": text("What was done.", "armed", "disarmed", "reboot", "nothing"),
                "slot": maybe(slot("The slot that boots next.")),
                "version": maybe(text("What it holds.")),
                "armed": flag("Whether it boots on trial."), **_FLEET,
            },
            [],
        ),
        ecu=_UPDATED_BELOW,
    ),
    "commit": whole("ota commit", fields("", {
        "slot": slot("The slot that runs."),
        "version": maybe(text("What it holds.")),
        "was_trial": flag("Whether it was on trial."),
        "health": several("The health checks, in order.", fields("", {
            "name": text("The executable."), "passed": flag("Whether it did."),
            "why": text("Why not; else empty."), "output": text("The end of what it printed."),
        })),
        "confirmed": flag("False where the ECU above confirms it later."),
        "ecu_ids": _NAMES,
    })),
    "wait": whole("ota wait", fields("", {
        "running": maybe(slot("The slot that runs.")),
        "version": maybe(text("The image of the last update.")),
        "verdict": _VERDICT,
    })),
    "setup": whole("ota setup", fields("", {
        "loader": text("The boot loader."),
        "boot_partition": text("What /boot is known by, or `directory`."),
        "running": slot("The slot that runs."),
        "default": maybe(slot("The slot that boots.")),
        "changes": several("What was done; empty when all was in order.", text("A sentence.")),
    })),
    "doctor": whole("ota doctor", fields("", {
        "findings": several("What was looked at.", fields("", {
            "name": text("What."), "ok": flag("Whether it is well."),
            "text": text("What was found."), "slug": maybe(text("What is wrong, for scripts.")),
            "hint": maybe(text("What mends it.")),
        })),
    })),
    "history": whole("ota history", fields("", {
        "updates": several(
            "The newest first.", fields("", {**_END, "attempts": count("Trial boots.")})
        ),
    })),
    "verify": whole("ota verify", fields("", {
        **_COMPARED, "repaired": flag("Whether it was filled again. Only with --repair."),
        "state": text("What the slot is now.", *_STATES), **_FILLED,
    }, list(_COMPARED))),
    "proxy": whole("ota proxy", _PROXY),
    **IMAGE_RESULTS,
}  # fmt: skip


def schemas() -> Dict[str, Schema]:
    """All schemas by file name."""
    found = {f"{name}.json": schema for name, schema in RESULTS.items()}
    event = whole("A line of --output jsonl before the last", {"oneOf": list(EVENTS)})
    return {"document.json": DOCUMENT, "event.json": event, **found}
