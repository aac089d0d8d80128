"""Can the new system confirm itself? One that can not would fall back for ever (DESIGN 4.4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator

from .boot.base import backend_for
from .core import claims as jwt
from .core.certs import SignerPolicy
from .core.systemd import COMMIT_UNIT, DEADLINE_UNIT
from .core.trust import verify_claims
from .errors import DoesNotFit, NotTrusted
from .host.anchors import load_anchors
from .host.inside import is_executable, resolve, text_inside
from .host.units import is_enabled
from .model import Device, Image

#: Where kernels and initramfs scripts look for init, besides a shell.
_INITS = ("/sbin/init", "/etc/init", "/bin/init")
_PROGRAMS = ("/usr/bin/ota", "/usr/local/bin/ota", "/usr/sbin/ota", "/bin/ota")


def require_confirmable(device: Device, slot: Path, image: Image, policy: SignerPolicy) -> None:
    """Raises DoesNotFit, listing what is missing, when the system in the tree `slot` could not
    confirm a trial boot of `device`."""
    missing = [*_missing(slot, image, policy), *_missing_here(device, slot)]
    if missing:
        raise DoesNotFit(
            f"the new system could not confirm itself: {'; '.join(missing)}",
            hint="`ota image prepare ROOTFS` puts these into an image; "
            "--no-self-confirm arms it all the same",
            slug="not-self-confirming",
        )


def _missing(slot: Path, image: Image, policy: SignerPolicy) -> Iterator[str]:
    if not any(is_executable(slot, init) for init in _INITS):
        yield "it holds no init"
    if not any(_runs(slot, program) for program in _PROGRAMS):
        yield "it holds no `ota` that can run"
    for unit in (COMMIT_UNIT, DEADLINE_UNIT):
        if not is_enabled(slot, unit):
            yield f"{unit} is not enabled"
    if not _trusts(slot, image, policy):
        yield "its /etc/ota/certs do not accept this image"


def _missing_here(device: Device, slot: Path) -> Iterator[str]:
    """What depends on the boot loader."""
    backend = backend_for(device)
    place = f"/{backend.shared(device).relative_to(device.root)}"
    line = rf"^[ \t]*[^#\s]\S*[ \t]+{re.escape(place)}/*[ \t]"
    if not re.search(line, text_inside(slot, "/etc/fstab") or "", re.MULTILINE):
        yield f"no line of its /etc/fstab mounts {place}"
    yield from backend.lacking(slot)


def _runs(slot: Path, program: str) -> bool:
    """True for an executable whose interpreter, if it is a script, is there as well."""
    if not is_executable(slot, program):
        return False
    with open(f"{slot}{resolve(slot, program)}", "rb") as stream:
        start = stream.read(256)
    if not start.startswith(b"#!"):
        return start.startswith(b"\x7fELF")
    words = start[2:].split(b"\n")[0].decode("utf-8", "replace").split()
    return bool(words) and is_executable(slot, words[0])


def _trusts(slot: Path, image: Image, policy: SignerPolicy) -> bool:
    """True when the slot's own anchors accept the very bytes the image was verified from."""
    certs = Path(f"{slot}{resolve(slot, '/etc/ota/certs')}")
    envelope = jwt.parse_envelope(image.metadata["metadata.jwt"])
    certificate = image.metadata[envelope.certificate.name]
    try:
        verify_claims(envelope, certificate, load_anchors(certs), policy)
    except NotTrusted:
        return False
    return True
