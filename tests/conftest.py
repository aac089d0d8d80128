"""Fixtures for whole updates, made once: images, keys, and a TLS server for them."""

from __future__ import annotations

import shutil
import signal
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import pytest

from ota_cli.events import silent
from ota_cli.image.build import BuildOptions, build
from ota_cli.image.keys import ImageKeys, make_image_keys
from ota_cli.image.sign import sign
from tests.support.bench import make_device, provision
from tests.support.legacy import ANCHORS, unpack_images
from tests.support.publisher import Attempt, Publisher
from tests.support.systems import make_system
from tests.support.vm.outcomes import Announcer, outcome_of, table


@pytest.hookimpl(trylast=True)  # the reporter is there only then
def pytest_configure(config: pytest.Config) -> None:
    let_programs_hear_signals()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Announcer(reporter))


def let_programs_hear_signals() -> None:
    """After `nohup make test &` signals stay ignored here, but not by the programs started here.

    They inherit that a signal is ignored; a handler that does nothing they do not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


class Images(NamedTuple):
    """Signed images v1 and v2 below `directory`, their trees, keys, and the anchor."""

    directory: Path
    trees: Path
    keys: Path
    anchor: Path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Two versions of a small varied system, built and signed here."""
    base = tmp_path_factory.mktemp("images")
    chain = make_image_keys()
    keys = base / "keys"
    keys.mkdir()
    write_keys(keys, chain)
    for version in (1, 2):
        tree, image = base / "trees" / f"v{version}", base / "served" / f"v{version}"
        make_system(tree, version)
        options = BuildOptions(version=f"v{version}", persist=("/etc/hostname", "/etc/site"))
        build(tree, image, options, silent)
        sign(image, keys / "sign.key", keys / "sign.crt", datetime.now(timezone.utc))
    return Images(base / "served", base / "trees", keys, keys / "anchor.pem")


def write_keys(directory: Path, chain: ImageKeys) -> None:
    """The files of a key chain, named as the publisher's tools want them."""
    (directory / "anchor.pem").write_bytes(chain.anchor)
    (directory / "sign.crt").write_bytes(chain.signer.certificate)
    (directory / "sign.key").write_bytes(chain.signer.key)


@pytest.fixture(scope="session")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two images of the field's generator, in v1 and v2."""
    return unpack_images(tmp_path_factory.mktemp("legacy"))


class Server(NamedTuple):
    """A TLS server: its base URL and the certificate to trust it by."""

    url: str
    cacert: Path


@pytest.fixture(scope="session")
def server(images: Images) -> Iterator[Server]:
    """Serves the images built here, with the program's own development server."""
    from ota_cli.image.serve import DevServer

    with DevServer(images.directory) as running:
        yield Server(running.url, running.cacert)


@pytest.fixture(scope="session")
def legacy_server(legacy: Path) -> Iterator[Server]:
    """Serves the images of the field's generator."""
    from ota_cli.image.serve import DevServer

    with DevServer(legacy) as running:
        yield Server(running.url, running.cacert)


@pytest.fixture(scope="session")
def first_directory_device(
    tmp_path_factory: pytest.TempPathFactory, images: Images, server: Server
) -> Path:
    """What `device` is a copy of; nobody changes it."""
    return provisioned(tmp_path_factory.mktemp("first") / "device", [images.anchor], server)


@pytest.fixture(scope="session")
def first_grub_device(
    tmp_path_factory: pytest.TempPathFactory, images: Images, server: Server
) -> Path:
    """What `grub_device` is a copy of; nobody changes it."""
    return provisioned(tmp_path_factory.mktemp("first") / "device", [images.anchor], server, "grub")


@pytest.fixture(scope="session")
def first_legacy_device(tmp_path_factory: pytest.TempPathFactory, legacy_server: Server) -> Path:
    """What `legacy_device` is a copy of; nobody changes it."""
    return provisioned(tmp_path_factory.mktemp("first") / "device", ANCHORS, legacy_server)


@pytest.fixture
def device(tmp_path: Path, first_directory_device: Path) -> Path:
    """A device with directory slots, running v1 in slot a, set up."""
    return copy_tree(first_directory_device, tmp_path / "device")


@pytest.fixture
def grub_device(tmp_path: Path, first_grub_device: Path) -> Path:
    """The same with a GRUB boot partition."""
    return copy_tree(first_grub_device, tmp_path / "device")


@pytest.fixture
def legacy_device(tmp_path: Path, first_legacy_device: Path) -> Path:
    """A device that trusts the field's images and runs their v1."""
    return copy_tree(first_legacy_device, tmp_path / "device")


@pytest.fixture
def publisher(tmp_path: Path, images: Images) -> Iterator[Publisher]:
    """v2 of `images`, to be spoilt."""
    from ota_cli.image.serve import DevServer

    served = tmp_path / "served"
    shutil.copytree(images.directory / "v2", served / "v2", symlinks=True)
    with DevServer(served) as server:
        yield Publisher(served / "v2", server, images.keys)
    shutil.rmtree(served)  # some make it large


@pytest.fixture
def attempt(device: Path, publisher: Publisher) -> Attempt:
    return Attempt(device, publisher)


def copy_tree(source: Path, target: Path) -> Path:
    """A copy that differs in nothing a test could look at: links, owners, times and all."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


def provisioned(
    root: Path, anchors: Sequence[Path], server: Server, loader: str = "directory"
) -> Path:
    """A new device that trusts `anchors` and got the server's v1 as its first system."""
    device = make_device(root, anchors, loader=loader)
    provision(device, device / "slots/a", server)
    return device


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of the power cuts of this run."""
    every = [each for group in terminalreporter.stats.values() for each in group]
    reports = [each for each in every if getattr(each, "when", "") == "call"]
    outcomes = [outcome_of(getattr(each, "user_properties", ())) for each in reports]
    found = [outcome for outcome in outcomes if outcome is not None]
    if found:
        terminalreporter.section("power cuts: points and outcomes")
        for line in table(found):
            terminalreporter.line(line)
