"""`ota image verify`, `inspect`, `unpack` and `serve`: looking at images and handing them out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, ContextManager, Optional, Tuple

import click

from ..core.text import size
from ..errors import ConfigError, SignalReceived, UsageProblem
from ..events import Note
from ..host.config import load_settings
from ..host.files import is_directory
from ..model import Image
from .options import Call, Result, command
from .request import Source, net_settings, source_options
from .show import Document, table

if TYPE_CHECKING:
    from ..core.certs import CertStore, SignerPolicy
    from ..host.net import Fetcher

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

    with _opened(call, image, source) as fetcher:
        checked = check_image(fetcher, *_trust(call, anchors), call.emit)
    text = f"{image}: signed, and all {checked.files} files ({size(checked.bytes)}) are right."
    return Result(
        document={**_summary(checked.image), "files": checked.files, "bytes": checked.bytes},
        lines=(text,),
    )


@command("inspect")
@click.argument("image", metavar="URL|DIR")
@_ANCHORS
@source_options
def inspect(call: Call, image: str, anchors: Optional[Path], source: Source) -> Result:
    """Show what is in the signed image at URL or in DIR."""
    from ..image.check import inspect as story
    from ..source import obtain

    with _opened(call, image, source) as fetcher:
        found = obtain(fetcher, *_trust(call, anchors), call.emit)
    held = story(found)
    document = {
        **_summary(found), "directories": held.directories, "symlinks": held.symlinks,
        "files": held.files, "bytes": held.content_bytes, "compressed": held.compressed_files,
        "kernel": held.kernel, "persistents": list(held.persistents),
        "largest": [{"path": path, "bytes": count} for path, count in held.largest],
    }  # fmt: skip
    rows = [(name, str(value)) for name, value in _summary(found).items() if value is not None]
    rows += [
        ("content", f"{held.files} files, {size(held.content_bytes)}"),
        ("compressed", f"{held.compressed_files} files"),
        ("kernel", held.kernel or "none"),
        ("persistent", " ".join(held.persistents) or "none"),
    ]
    rows += [("largest", f"{path} ({size(count)})") for path, count in held.largest]
    return Result(document=document, lines=table(rows))


@command("unpack")
@click.argument("url", metavar="URL|DIR")
@click.argument("target", type=_PATH)
@_ANCHORS
@source_options
def unpack(call: Call, url: str, target: Path, anchors: Optional[Path], source: Source) -> Result:
    """Fill TARGET (an empty slot, directory or disk-image file) with the image at URL or in DIR.

    TARGET becomes a whole root file system. Run by root, as with tar or rsync, its owners, setuid
    programs and device nodes are those of the image, for everybody who can reach them: on a machine
    with other users, unpack below a directory that only root may enter. Run by others, owners and
    device nodes are left out.
    """
    from ..provision import unpack as story

    with _opened(call, url, source) as fetcher:
        done = story(fetcher, target, *_trust(call, anchors), call.emit)
    return Result(
        document={
            **_summary(done.image), "target": str(target), "files": len(done.plan.steps),
            "bytes": {"downloaded": done.wire_bytes},
        },
        lines=(f"{done.image.version or url} is in {target}: {len(done.plan.steps)} files.",),
    )  # fmt: skip


@command("serve", on_device=False)
@click.argument("directory", type=_PATH)
@click.option(
    "--address",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Address to listen on; default 127.0.0.1.",
)
@click.option(
    "--port", default=8443, type=click.IntRange(0, 65535), metavar="PORT",
    help="Default 8443; 0: any.",
)  # fmt: skip
def serve(call: Call, directory: Path, address: str, port: int) -> Result:
    """Serve the images below DIRECTORY over TLS until Ctrl-C. Not for production."""
    from ..image.serve import DevServer

    if not is_directory(directory):
        raise ConfigError(f"{directory} is not a directory")
    with DevServer(directory, address, port) as server:
        call.emit(Note(f"serving {directory} at {server.url}"))
        call.emit(Note(f"use it with --cacert {server.cacert}"))
        call.emit(Note("This is a development server: not for production. Ctrl-C ends it."))
        _wait_for_the_end()
    return Result(document={"directory": str(directory)}, lines=("Stopped.",))


def _wait_for_the_end() -> None:
    """Until Ctrl-C, which is how it is meant to end; other signals end the program."""
    try:
        while True:
            signal.pause()
    except SignalReceived as received:
        if received.number != signal.SIGINT:
            raise


def _opened(call: Call, place: str, source: Source) -> ContextManager[Fetcher]:
    """The image at `place`. Raises UsageProblem for options of fetching with a directory."""
    from ..image.check import is_url, open_image

    if not is_url(place) and source != Source():
        raise UsageProblem(
            f"{place} is a directory: the options of fetching are for URLs",
            hint="leave them out, or give https://...",
        )
    return open_image(place, net_settings(source, load_settings(call.root), None))


def _trust(call: Call, anchors: Optional[Path]) -> Tuple[CertStore, SignerPolicy]:
    """Who may have signed. Raises ConfigError where the user names a place without anchors."""
    from ..host.anchors import load_anchors
    from ..policy import policy_of

    store = load_anchors(anchors or call.root / "etc" / "ota" / "certs")
    if anchors is not None and not store.anchors:
        raise ConfigError(
            f"{anchors} holds no trust anchors",
            hint="--anchors takes a directory with the publisher's CA certificate as NAME.pem",
        )
    return store, policy_of(load_settings(call.root))


def _summary(image: Image) -> Document:
    details = image.claims.details
    return {
        "version": details.version,
        "image_id": image.image_id,
        "created": details.created.isoformat() if details.created else None,
        "compatible": details.compatible,
        "expires": details.expires.isoformat() if details.expires else None,
    }
