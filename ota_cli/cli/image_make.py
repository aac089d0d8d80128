"""`ota image build`, `sign` and `prepare`: the publisher's side."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import List, Optional, Tuple

import click

from ..core.claims import TEXT, is_text
from ..core.lines import checked_path
from ..core.text import printable, size
from ..errors import ConfigError, Footprint, UsageProblem, leaving
from .options import Call, Result, command

_DIRECTORY = click.Path(path_type=Path)


@command("build", on_device=False)
@click.argument("rootfs", type=_DIRECTORY)
@click.argument("directory", type=_DIRECTORY)
@click.option("--version", required=True, metavar="NAME", help="What devices call this image.")
@click.option("--compatible", metavar="NAME", help="Only devices of this name accept it.")
@click.option("--expires", metavar="DATE", help="Devices refuse it from this day on (YYYY-MM-DD).")
@click.option("--persist", metavar="FILE", type=_DIRECTORY, help="Paths devices keep, one a line.")
@click.option("--ignore", metavar="FILE", type=_DIRECTORY, help="What to leave out, as .gitignore.")
@click.option(
    "--all-kernels", is_flag=True, help="Keep every kernel of /boot, not the newest only."
)
def build(
    call: Call, rootfs: Path, directory: Path, version: str, compatible: Optional[str],
    expires: Optional[str], persist: Optional[Path], ignore: Optional[Path], all_kernels: bool,
) -> Result:  # fmt: skip
    """Make an image of the root file system ROOTFS in DIRECTORY; sign it next."""
    from ..image.build import BuildOptions
    from ..image.build import build as story

    options = BuildOptions(
        version=_named("--version", version),
        compatible=None if compatible is None else _named("--compatible", compatible),
        expires=_date(expires),
        persist=_paths(persist), ignore=_text(ignore) if ignore else None,
        all_kernels=all_kernels,
    )  # fmt: skip
    with leaving(Footprint.OUTPUT):
        report = story(rootfs, directory, options, call.emit)
    return Result(
        document={
            "directory": str(directory), "version": version, "files": report.files,
            "bytes": {"content": report.content_bytes, "stored": report.stored_bytes},
        },
        lines=(
            f"{version}: {report.files} files, {size(report.content_bytes)}, "
            f"{size(report.stored_bytes)} to serve, in {directory}.",
            f"Sign it: ota image sign {directory} --key KEY --cert CERT",
        ),
    )  # fmt: skip


@command("sign", on_device=False)
@click.argument("directory", type=_DIRECTORY)
@click.option("--key", required=True, type=_DIRECTORY, help="EC P-256 private key (PEM).")
@click.option("--cert", required=True, type=_DIRECTORY, help="Its certificate (PEM).")
def sign(call: Call, directory: Path, key: Path, cert: Path) -> Result:
    """Sign the image in DIRECTORY; this also dates it."""
    from ..image.sign import sign as story

    with leaving(Footprint.OUTPUT):
        report = story(directory, key, cert, datetime.now(timezone.utc))
    return Result(
        document={"directory": str(directory), "version": report.version, "signer": report.signer},
        lines=(f"{report.version or 'The image'} in {directory} is signed by {report.signer}.",),
    )


@command("prepare", on_device=False)
@click.argument("rootfs", type=_DIRECTORY)
@click.option(
    "--anchor", "anchors", multiple=True, type=_DIRECTORY,
    help="Certificate (*.pem) that signs the images to come; repeatable.",
)  # fmt: skip
def prepare(call: Call, rootfs: Path, anchors: Tuple[Path, ...]) -> Result:
    """Put units, anchors and the health check directory into ROOTFS before it is built."""
    from ..image.prepare import prepare as story

    with leaving(Footprint.OUTPUT):
        done = story(rootfs, anchors, call.emit)
    return Result(
        document={
            "written": list(done.written), "unchanged": list(done.unchanged),
            "holds_ota": done.holds_ota,
        },
        lines=(*(f"+ {path}" for path in done.written), f"{rootfs} is prepared."),
    )  # fmt: skip


def _named(option: str, text: str) -> str:
    if not is_text(text):
        raise UsageProblem(f"{option} {printable(text[:80])}: expected {TEXT}")
    return text


def _date(text: Optional[str]) -> Optional[datetime]:
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise UsageProblem(
            f"--expires {printable(text)}: expected YYYY-MM-DD or RFC 3339"
        ) from None


def _paths(file: Optional[Path]) -> Tuple[str, ...]:
    """The paths of a list file; blank lines and comments are not paths."""
    lines = _text(file).split("\n") if file else []
    paths: List[str] = []
    for number, line in enumerate(lines, 1):
        path = line.rstrip("\r")
        if not path.strip() or path.startswith("#"):
            continue
        try:
            paths.append(checked_path(path))
        except ValueError as error:
            raise ConfigError(
                f"{file}:{number}: {error}: {printable(path[:120])}",
                hint="persistent paths are absolute and have no slash at the end",
            ) from None
    return tuple(paths)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{file} can not be read: {error.strerror}") from None
