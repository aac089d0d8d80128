"""What a build leaves for the signature: `image.json`, written last.

A directory with it holds a finished image; without it, none.
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..core.claims import format_date, parse_date
from ..core.lines import MAX_TABLE_BYTES
from ..core.text import printable
from ..entries import Digest
from ..errors import ImageDamaged, NoSpace, OtaError, SlotUnusable
from ..host.files import read_limited
from ..model import Claims, Details, TableRef

DRAFT = "image.json"
DIRECTORIES, SYMLINKS = "dirs.txt", "symlinks.txt"
REGULARS, PERSISTENTS = "regulars.txt", "persistents.txt"
ATTRIBUTES, TOTAL_SIZE = "attributes.txt.zst", "total_regular_size.txt"
ROOTFS, COMPRESSED = "rootfs", "rootfs.zst"
_MAX_DRAFT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Draft:
    """The claims of an image that the builder decides."""

    version: Optional[str]
    compatible: Optional[str]
    expires: Optional[datetime]
    total_regular_size: int


def format_draft(draft: Draft) -> bytes:
    """The bytes of `image.json`."""
    document = {
        "format": 1,
        "version": draft.version,
        "compatible": draft.compatible,
        "expires": format_date(draft.expires) if draft.expires else None,
        "total_regular_size": draft.total_regular_size,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def read_draft(directory: Path) -> Draft:
    """The draft of a finished image. Raises ImageDamaged where there is none."""
    path = directory / DRAFT
    try:
        document = json.loads(read_limited(path, _MAX_DRAFT_BYTES))
        expires = document["expires"]
        return Draft(
            document["version"], document["compatible"],
            parse_date(expires) if expires else None, int(document["total_regular_size"]),
        )  # fmt: skip
    except OSError as error:
        raise ImageDamaged(
            f"{directory} holds no finished image: {DRAFT}: {error.strerror}",
            hint="run `ota image build` first",
            slug="unfinished",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ImageDamaged(f"{path} is damaged", hint="run `ota image build` again") from None


def claims_of(directory: Path, draft: Draft, created: datetime) -> Claims:
    """The claims about the tables that lie in `directory`."""
    return Claims(
        directories=_ref(directory, DIRECTORIES),
        symlinks=_ref(directory, SYMLINKS),
        regulars=_ref(directory, REGULARS),
        persistents=_ref(directory, PERSISTENTS),
        rootfs_directory=ROOTFS,
        compressed_directory=COMPRESSED,
        total_regular_size=draft.total_regular_size,
        details=Details(
            draft.version, created, draft.compatible, draft.expires, _ref(directory, ATTRIBUTES)
        ),
    )


def write_failure(output: Path, error: OSError) -> OtaError:
    """What `error` means for what is written to `output`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left while writing in {output}", hint="write it elsewhere")
    place = printable(str(error.filename or output))
    return SlotUnusable(f"{place}: {error.strerror}", hint="check owner and mode")


def digest_of_bytes(data: bytes) -> Digest:
    """sha256 of `data`."""
    return Digest(hashlib.sha256(data).digest())


def _ref(directory: Path, name: str) -> TableRef:
    try:
        return TableRef(name, digest_of_bytes(read_limited(directory / name, MAX_TABLE_BYTES)))
    except OSError as error:
        raise ImageDamaged(f"{directory / name}: {error.strerror}", slug="unfinished") from None
