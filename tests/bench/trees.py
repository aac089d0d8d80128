"""What is raced with: a real Debian, its point release, and signed images of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict

from ota_cli.image.keys import make_image_keys
from tests.conftest import write_keys
from tests.support.bench import ota
from tests.support.debian import PACKAGES, Debian, make_debian

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


@dataclass(frozen=True)
class Images:
    """`trees` served as signed images below `served`, as `old` and `new`."""

    trees: Debian
    served: Path
    keys: Path

    @property
    def anchor(self) -> Path:
        return self.keys / "anchor.pem"


def make_images(size: str, cache: Path) -> Images:
    """Trees and images of a size, made once below `cache`."""
    trees = make_debian(cache, _BASE, f"bench-{size}", more=SIZES[size].more)
    images = Images(trees, cache / f"bench-{size}-served", cache / "bench-keys")
    if not images.anchor.exists():
        images.keys.mkdir()
        write_keys(images.keys, make_image_keys())
    for name, tree in (("old", trees.old), ("new", trees.new)):
        if not (images.served / name / "metadata.jwt").exists():
            _ota("image", "build", tree, images.served / name, "--version", name)
            key, certificate = images.keys / "sign.key", images.keys / "sign.crt"
            _ota("image", "sign", images.served / name, "--key", key, "--cert", certificate)
    return images


def _ota(*words: object) -> None:
    done = ota(*words)
    if done.code != 0:
        raise RuntimeError(done.err)
