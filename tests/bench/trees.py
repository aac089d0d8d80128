"""What is raced with: a real Debian and its point release, old and new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, NamedTuple

from ota_cli.image.keys import make_image_keys
from tests.conftest import write_keys
from tests.support.debian import PACKAGES, make_debian

_BASE = f"{PACKAGES},python3,openssh-server,iproute2,git,vim,build-essential"
_LARGE = (
    "linux-image-amd64 linux-headers-amd64 default-jdk-headless libopencv-dev libpcl-dev "
    "qtbase5-dev clang llvm-dev cmake gdb texlive-latex-extra python3-scipy python3-matplotlib "
    "python3-pandas libboost-all-dev golang-go npm"
)


@dataclass(frozen=True)
class Size:
    """A size of tree: what is installed, and how large a slot for it is."""

    more: str
    slot: str


SIZES: Dict[str, Size] = {"small": Size("", "2G"), "large": Size(_LARGE, "10G")}


class Trees(NamedTuple):
    """A root file system and its next version."""

    old: Path
    new: Path


@dataclass(frozen=True)
class Images:
    """`trees` served as signed images below `served`; signed with what lies in `keys`."""

    trees: Trees
    served: Path
    keys: Path

    @property
    def anchor(self) -> Path:
        return self.keys / "anchor.pem"


def make_trees(size: str, cache: Path) -> Trees:
    """A real Debian of a size, made once below `cache`."""
    made = make_debian(cache, _BASE, f"bench-{size}", more=SIZES[size].more)
    return Trees(made.old, made.new)


def make_keys(cache: Path) -> Path:
    """Anchor and signing key, made once below `cache`."""
    keys = cache / "bench-keys"
    if not (keys / "anchor.pem").exists():
        keys.mkdir()
        write_keys(keys, make_image_keys())
    return keys
