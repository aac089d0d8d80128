"""From a URL to a verified image: fetch the metadata, verify it, name what can be downloaded."""

from __future__ import annotations

import itertools
import re
from contextlib import closing
from pathlib import Path
from typing import Callable, Generator, Iterator, List, Optional

from .compressed import CompressedFiles
from .core import claims as jwt
from .core.certs import CertStore, SignerPolicy
from .core.lines import MAX_TABLE_BYTES
from .core.plan import FileStep, ManySteps
from .core.trust import SignedClaims, verify_claims, verify_image
from .core.urls import without_secrets
from .errors import DoesNotFit, UsageProblem
from .events import Emit, Meter, Phase, PhaseStarted
from .fill import Fetch
from .host.memory import free_memory_bytes
from .host.net import Blob, Fetcher, compressed_location, plain_location
from .model import Claims, EcuInfo, Image, Settings

MAX_JWT_BYTES = 256 * 1024
MAX_CERTIFICATE_BYTES = 64 * 1024
ENTRY_POINT = "metadata.jwt"


def resolve_url(version: str, settings: Settings, ecu_id: str) -> str:
    """The image's base URL for what the user gave: a URL, or a name on the configured server.

    Raises UsageProblem for a bare name without a server.
    """
    return url_template(version, settings).replace("{ecu_id}", ecu_id)


def url_template(version: str, settings: Settings) -> str:
    """The same, in which `{ecu_id}` still stands for each ECU's name."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", version):
        return version
    if settings.server is None:
        raise UsageProblem(
            f"{without_secrets(version)} is no URL and no server is configured",
            hint="give a URL, or set `server:` in /etc/ota/ota.yml",
        )
    return f"{settings.server.rstrip('/')}/{version}/"


def urls_for(template: str, ecu: EcuInfo) -> List[str]:
    """What `template` means for `ecu` and all ECUs below it that it knows of."""
    below = (each.ecu_id for each in ecu.secondaries)
    names = dict.fromkeys((ecu.ecu_id, *below, *ecu.available_ecu_ids))
    return list(dict.fromkeys(template.replace("{ecu_id}", name) for name in names))


def version_name(claims: Claims, given: str, url: str) -> str:
    """What to call an image: its own version, else the user's name, else the URL's last part."""
    return claims.details.version or given or url.split("?")[0].rstrip("/").rpartition("/")[2]


def obtain(fetcher: Fetcher, store: CertStore, policy: SignerPolicy, emit: Emit) -> Image:
    """The verified image at the fetcher's base URL; raises what both of its steps do."""
    return complete(fetcher, offered(fetcher, store, policy, emit))


def offered(fetcher: Fetcher, store: CertStore, policy: SignerPolicy, emit: Emit) -> SignedClaims:
    """What is at the fetcher's base URL, by its signed claims: they are a few kilobytes, and tell
    whether the tables, which are megabytes, are wanted at all.

    Order of trust as in FORMATS: certificate, chain, signature. Raises NotTrusted, ImageDamaged,
    and what fetching raises.
    """
    emit(PhaseStarted(Phase.METADATA, "fetching and verifying metadata"))
    envelope = jwt.parse_envelope(fetcher.metadata(ENTRY_POINT, MAX_JWT_BYTES))
    certificate = fetcher.metadata(envelope.certificate.name, MAX_CERTIFICATE_BYTES)
    return verify_claims(envelope, certificate, store, policy)


def complete(fetcher: Fetcher, signed: SignedClaims) -> Image:
    """The image of `signed`, with its tables from the fetcher's base URL.

    Raises ImageDamaged, also when its tables would not fit into memory, and what fetching raises.
    """
    names = [ref.name for ref in signed.claims.table_refs]
    free = free_memory_bytes()
    # nobody has vouched for what comes, of which two copies are there for a moment
    third = None if free is None else free // 3
    files = CompressedFiles(fetcher.metadata_files(names, MAX_TABLE_BYTES, third))
    return verify_image(signed, files, free_memory_bytes())


def require_offered(fetcher: Fetcher, image: Image) -> None:
    """Raises DoesNotFit unless `image` is what is published at the fetcher's base URL.

    No question of trust, and nothing of it is used: only a wrong URL is noticed in time.
    """
    token = fetcher.metadata(ENTRY_POINT, MAX_JWT_BYTES)
    found = jwt.read_claims(jwt.parse_envelope(token).payload)
    if jwt.image_id(found) != image.image_id:
        named = f", {found.details.version}," if found.details.version else ""
        raise DoesNotFit(
            f"another image{named} is at {fetcher.base}",
            hint="give the URL of the very image that the slot was filled from",
            slug="another-image",
        )


def fetching(fetcher: Fetcher, image: Image, arrived: Callable[[int], None], emit: Emit) -> Fetch:
    """How a fill gets content of `image`; `arrived` is told of bytes from the wire."""
    meter = Meter(emit, Phase.DOWNLOAD, 0)

    def count(received: int) -> None:
        arrived(received)
        meter.add(received)

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        wanted, done = Blobs(image, steps), 0
        meter.expect(sum(on_the_wire(image, step) for step in steps))
        with closing(fetcher.blobs(wanted, directory, count, attend)) as blobs:
            for blob in blobs:
                done += blob.wire_bytes
                meter.reach(done)  # some of it was there already
                yield steps[blob.number]

    return fetch


def exact_on_the_wire(image: Image, step: FileStep) -> Optional[int]:
    """Bytes the server would send for `step`; None where a field image does not say."""
    entry = step.entry
    is_packed = entry.compressed and image.claims.compressed_directory
    return entry.blob_bytes if is_packed else entry.size


def on_the_wire(image: Image, step: FileStep) -> int:
    """The same, or at most: the content's size counts where that of its blob is not known."""
    size = exact_on_the_wire(image, step)
    return (size if size is not None else step.entry.size) or 0


class Blobs:
    """Where the server has the content of each of `steps`, told one at a time."""

    def __init__(self, image: Image, steps: ManySteps) -> None:
        self._image, self._steps = image, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Blob]:
        return map(self._blob, itertools.count(), self._steps)

    def _blob(self, number: int, step: FileStep) -> Blob:
        claims, entry = self._image.claims, step.entry
        wire_bytes = on_the_wire(self._image, step)
        if entry.compressed and claims.compressed_directory:
            location = compressed_location(claims.compressed_directory, entry.digest)
            return Blob(entry.digest, entry.size, location, True, wire_bytes, number)
        location = plain_location(claims.rootfs_directory, entry.path)
        return Blob(entry.digest, entry.size, location, False, wire_bytes, number)
