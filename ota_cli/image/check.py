"""Examining an image: its signature, every file's content, and what it holds."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ..core.certs import CertStore, SignerPolicy
from ..core.claims import ENTRY_POINT
from ..core.delta import make_plan
from ..core.kernels import newest_kernel
from ..core.local import Content, LocalTree
from ..core.plan import Source
from ..errors import ConfigError, ImageDamaged
from ..events import Ahead, Emit, Meter, Phase, PhaseStarted
from ..host.files import is_directory, temporary_directory
from ..host.net import Fetcher, NetSettings
from ..model import Image
from ..source import Blobs, obtain
from .draft import DRAFT
from .serve import DevServer

_LARGEST = 5


class Checked(NamedTuple):
    """An image all of whose content is there and right."""

    image: Image
    files: int
    bytes: int


@dataclass(frozen=True)
class Inspected:
    """What an image holds, in numbers and names."""

    directories: int
    symlinks: int
    files: int
    content_bytes: int
    compressed_files: int
    persistents: Tuple[str, ...]
    kernel: Optional[str]
    largest: Tuple[Tuple[str, int], ...]


@contextmanager
def open_image(place: str, net: NetSettings) -> Iterator[Fetcher]:
    """A fetcher for an image at a URL or in a directory.

    A directory is served to ourselves over TLS, so that one and the same reader checks both.
    Raises ConfigError for a directory that is none, ImageDamaged for one without a signed image,
    and what `Fetcher` raises.
    """
    if is_url(place):
        with Fetcher(place, net) as fetcher:
            yield fetcher
        return
    _require_signed(Path(place))
    with DevServer(Path(place)) as server, Fetcher(
        server.url, NetSettings(cacert=server.cacert)
    ) as fetcher:
        yield fetcher


def is_url(place: str) -> bool:
    """Whether `place` names an image on a server, not a directory."""
    return "://" in place


def _require_signed(directory: Path) -> None:
    if not is_directory(directory):
        raise ConfigError(f"{directory} is neither a URL nor a directory")
    if (directory / ENTRY_POINT).exists():
        return
    if (directory / DRAFT).exists():
        raise ImageDamaged(
            f"the image in {directory} is not signed yet", hint="run `ota image sign` first"
        )
    raise ImageDamaged(
        f"{directory} holds no image: it has no {ENTRY_POINT}",
        hint="give a directory that `ota image build` made",
    )


def check_image(fetcher: Fetcher, store: CertStore, policy: SignerPolicy, emit: Emit) -> Checked:
    """Verifies the signature, then fetches and verifies every content of the image.

    Raises NotTrusted and ImageDamaged.
    """
    image = obtain(fetcher, store, policy, emit)
    plan = make_plan(image.tables, LocalTree(), Content())
    emit(PhaseStarted(Phase.VERIFY, "checking every file"))
    wanted = Blobs(image, plan.downloads)
    total = plan.size_bytes(Source.DOWNLOADED)
    emit(Ahead(((Phase.VERIFY, total),)))
    meter = Meter(emit, Phase.VERIFY, total)
    with temporary_directory("ota-verify-") as name:
        directory = Path(name)
        for blob in fetcher.blobs(wanted, directory, lambda count: None):
            meter.add(blob.size or 0)
            os.unlink(directory / blob.digest.hex())
    total = sum(entry.size or 0 for entry in image.tables.regulars)
    return Checked(image, len(image.tables.regulars), total)


def inspect(image: Image) -> Inspected:
    """What is in a verified image."""
    tables = image.tables
    files: List[Tuple[str, int]] = [(entry.path, entry.size or 0) for entry in tables.regulars]
    in_boot = [p[len("/boot/") :] for p, _ in files if p.startswith("/boot/") and p.count("/") == 2]
    kernel = newest_kernel(in_boot)
    return Inspected(
        directories=len(tables.directories), symlinks=len(tables.symlinks), files=len(files),
        content_bytes=sum(size for _, size in files),
        compressed_files=sum(entry.compressed for entry in tables.regulars),
        persistents=tables.persistents, kernel=kernel.kernel if kernel else None,
        largest=tuple(sorted(files, key=lambda each: (-each[1], each[0]))[:_LARGEST]),
    )  # fmt: skip
