"""`ota image verify`, `inspect`, `unpack` and `serve`: looking at images and handing them out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

import click

from contextlib import contextmanager

from ..errors import UsageProblem
from ..events import Note
from ..model import Image
from ..probe import probe
from .options import Call, Result, command
from .request import Source, net_settings, source_options
from .show import Document, size, table

if TYPE_CHECKING:
    from ..core.certs import CertStore

_PATH = click.Path(path_type=Path)
_ANCHORS = click.option(
    "--anchors", metavar="DIR", type=_PATH,
    help="Directory of *.pem to trust; default /etc/ota/certs.",
)  # fmt: skip


@command("verify")
@click.argument("image", metavar="URL|DIR")
@_ANCHORS
@source_options
def verify(call: Call, image: str, anchors: Optional[Path], source: Source) -> Result:
    """Check the signature and every file of the image at URL or in DIR."""
    from ..image.check import check_image

    with _fetcher(call, image, source) as fetcher:
        checked = check_image(fetcher, _store(call, anchors), _policy(call), call.emit)
    return Result(
        document={**_summary(checked.image), "files": checked.files, "bytes": checked.bytes},
        lines=(f"{image}: signed, and all {checked.files} files ({size(checked.bytes)}) are right.",),
    )
