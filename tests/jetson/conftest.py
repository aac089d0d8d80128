"""Jetsons that run a first image, in each layout, and a second one to update to."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Iterator

import pytest

from ota_cli.events import silent
from ota_cli.image.build import BuildOptions, build
from ota_cli.image.keys import make_image_keys
from ota_cli.image.prepare import prepare
from ota_cli.image.serve import DevServer
from ota_cli.image.sign import sign
from tests.conftest import Server, write_keys
from tests.support.bench import Ran, ota
from tests.support.jetson import LAYOUTS, Jetson, fact
from tests.support.systems import make_system, write

#: Both slots mount it: CBoot reads `/boot` in the slot itself.
SHARED_LINE = "LABEL=ota /boot/ota ext4 defaults 0 2\n"
_VERIFIER = "[Unit]\nDescription=Verify\n[Service]\nExecStart=/usr/sbin/nv_update_engine\n"


class Publisher:
    """Images v1 and v2 of each layout, served; `trees`: what they were built of."""

    def __init__(self, base: Path) -> None:
        self.trees, self.served, self.keys = base / "trees", base / "served", base / "keys"
        self.keys.mkdir(parents=True)
        write_keys(self.keys, make_image_keys())

    def tree(self, layout: str, version: int) -> Path:
        tree = self.trees / layout / f"v{version}"
        make_system(tree, version)
        for path in tree.glob("boot/*"):
            path.unlink()  # a BSP names its kernel otherwise
        make_boot(tree, layout, version)
        write(tree / "etc/fstab", f"/dev/root / ext4 defaults 0 1\n{SHARED_LINE}".encode())
        write(tree / "etc/systemd/system/nv_update_verifier.service", _VERIFIER.encode())
        for unit in tree.glob("etc/systemd/system/**/ota-*"):
            unit.unlink()
        prepare(tree, [self.keys / "anchor.pem"], silent)
        return tree

    def publish(self, name: str, tree: Path, version: str) -> None:
        build(tree, self.served / name, BuildOptions(version=version), silent)
        signer = self.keys / "sign.key", self.keys / "sign.crt"
        sign(self.served / name, *signer, datetime.now(timezone.utc))


def make_boot(tree: Path, layout: str, version: int) -> None:
    """`/boot` as NVIDIA's packages fill it."""
    for name in ("Image", "initrd", "tegra194-xavier.dtb", "Image.backup"):
        write(tree / "boot" / name, f"{name} of v{version} ".encode() * 2000)
    write(tree / "boot/extlinux/extlinux.conf", fact(layout, "extlinux.conf"))
    (tree / "boot/dtb").mkdir()
    (tree / "boot/latest").symlink_to("Image")


@pytest.fixture(scope="session")
def jetson_publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    publisher = Publisher(tmp_path_factory.mktemp("jetson-images"))
    for layout in LAYOUTS:
        for version in (1, 2):
            tree = publisher.tree(layout, version)
            publisher.publish(f"{layout}-v{version}", tree, f"v{version}")
    return publisher


@pytest.fixture(scope="session")
def jetson_server(jetson_publisher: Publisher) -> Iterator[Server]:
    with DevServer(jetson_publisher.served) as running:
        yield Server(running.url, running.cacert)


@pytest.fixture(scope="session")
def first_jetsons(
    tmp_path_factory: pytest.TempPathFactory, jetson_publisher: Publisher, jetson_server: Server
) -> Dict[str, Jetson]:
    """A device of each layout that runs v1 in slot a and was set up; nobody changes them."""
    base = tmp_path_factory.mktemp("jetsons")
    return {
        layout: _provisioned(Jetson(base / layout), layout, jetson_publisher, jetson_server)
        for layout in LAYOUTS
    }


def _provisioned(jetson: Jetson, layout: str, publisher: Publisher, server: Server) -> Jetson:
    jetson.make(layout)
    shutil.copy(publisher.keys / "anchor.pem", jetson.root / "etc/ota/certs")
    (jetson.root / "etc/ota/ota.yml").write_text("persist: [/etc/ota, /etc/hostname]\n")
    at = ("--cacert", server.cacert, "--anchors", publisher.keys)
    done = ota("image", "unpack", f"{server.url}{layout}-v1/", jetson.slot("a"), *at)
    assert done.code == 0, done.err
    conf = jetson.slot("a") / "boot/extlinux/extlinux.conf"  # as it was flashed
    name_root(conf, f"/{jetson.slot('a').relative_to(jetson.root)}")
    if jetson.is_external:
        shutil.copytree(jetson.slot("a") / "boot", jetson.booted_from("a") / "boot", symlinks=True)
        (jetson.booted_from("b") / "boot/boot").mkdir(parents=True)
        (jetson.booted_from("b") / "boot/boot/stray").write_text("of an older system")
        (jetson.booted_from("b") / "kept").write_text("not below /boot")
    done = ota("setup", "--root", jetson.root, env={"PATH": jetson.path})
    assert done.code == 0, done.err
    return jetson


def name_root(conf: Path, root: str) -> None:
    text = re.sub(r"(?m)^(\s+APPEND .*?)root=\S+", rf"\1root={root}", conf.read_text(), count=1)
    conf.write_text(text)


@pytest.fixture(params=LAYOUTS)
def jetson(
    request: pytest.FixtureRequest, first_jetsons: Dict[str, Jetson], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Jetson:  # fmt: skip
    """A device to work with, of each layout in turn."""
    return first_jetsons[request.param].copied(tmp_path / "device").use(monkeypatch)


@pytest.fixture
def emmc(
    first_jetsons: Dict[str, Jetson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Jetson:
    """The simplest of them."""
    return first_jetsons["xavier-emmc"].copied(tmp_path / "device").use(monkeypatch)


class Bench:
    """Runs `ota` on a device, with the images of its layout."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def update(self, jetson: Jetson, version: str = "v2", *more: str) -> Ran:
        url = f"{self.server.url}{jetson.layout}-{version}/"
        at = ("--version", url, "--cacert", str(self.server.cacert), "--allow-downgrade")
        return ota("update", "--root", jetson.root, *at, "--json", *more)

    def words(self, jetson: Jetson, version: str = "v2") -> tuple[str, ...]:
        url = f"{self.server.url}{jetson.layout}-{version}/"
        return ("update", "--version", url, "--cacert", str(self.server.cacert))


@pytest.fixture
def bench(jetson_server: Server) -> Bench:
    return Bench(jetson_server)
