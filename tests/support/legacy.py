"""The two images made by the field's own generator, unpacked for a test."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import zstandard

DATA = Path(__file__).parents[1] / "data" / "legacy-image"
ANCHORS = (DATA / "root.pem", DATA / "interm.pem")


def unpack_images(target: Path) -> Path:
    """Makes `target`/v1 and `target`/v2; returns `target`."""
    packed = (DATA / "images.tar.zst").read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = [m for m in archive.getmembers() if m.isdir() or m.isreg()]
        for member in members:
            member.mode |= 0o700 if member.isdir() else 0o600
            member.uid = member.gid = 0
            archive.extract(member, target, set_attrs=False)
    return target
