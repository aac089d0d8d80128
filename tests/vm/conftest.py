"""Machines for these tests: made once, copied for each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from ota_cli.image.keys import make_image_keys
from tests.conftest import write_keys
from tests.support.bench import ota
from tests.support.nginx import Nginx
from tests.support.vm.disk import make_disk
from tests.support.vm.machine import HOST, Machine
from tests.support.vm.systems import make_systems, prepare
from tests.support.vm.verbs import update_line

#: Long enough for a machine on a busy host to confirm itself, short enough to wait for.
DEADLINE_S = 150


class Bench(NamedTuple):
    """A disk on which v1 was installed the ordinary way, and a server with both versions."""

    disk: Path
    server: Nginx


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    base = tmp_path_factory.mktemp("machines")
    trees = make_systems(base)
    keys = base / "keys"
    keys.mkdir()
    write_keys(keys, make_image_keys())
    for version, tree in (("v1", trees.old), ("v2", trees.new)):
        prepare(tree, keys / "anchor.pem")
        image = base / "served" / version
        for words in (
            ("build", tree, image, "--version", version),
            ("sign", image, "--key", keys / "sign.key", "--cert", keys / "sign.crt"),
        ):
            done = ota("image", *words)
            assert done.code == 0, done.err
    disk = make_disk(base / "disk.img", trees.old, base)
    with Nginx(base / "served", HOST) as server:
        yield Bench(disk, server)


@pytest.fixture
def machine(bench: Bench, tmp_path: Path) -> Iterator[Machine]:
    """A machine that runs an ordinary Debian and was just adopted by `ota setup`."""
    with Machine(bench.disk, tmp_path / "machine") as machine:
        machine.boot()
        machine.must("cat > /etc/ota/cacert.pem", bench.server.cacert.read_text())
        machine.must("ota setup")
        yield machine


class PreparedDisk:
    """A disk in a machine that is switched off; `copy` gives one to spoil."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def copy(self, target: Path) -> Path:
        subprocess.run(["cp", "--sparse=always", self._disk, target], check=True)
        return target


@pytest.fixture(scope="session")
def adopted_disk(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> PreparedDisk:
    """v1 runs and was adopted by `ota setup`."""
    base = tmp_path_factory.mktemp("adopted")
    with Machine(bench.disk, base / "machine") as machine:
        machine.boot()
        machine.must("cat > /etc/ota/cacert.pem", bench.server.cacert.read_text())
        machine.must("cat > /etc/ota/ota.yml", f"commit_deadline: {DEADLINE_S}\n")
        machine.must("ota setup")
        return _switched_off(machine, base)


@pytest.fixture(scope="session")
def armed_disk(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path_factory: pytest.TempPathFactory
) -> PreparedDisk:
    """v1 runs and v2 is armed."""
    base = tmp_path_factory.mktemp("armed")
    with Machine(adopted_disk.copy(base / "adopted.img"), base / "machine") as machine:
        machine.boot()
        machine.must(update_line(bench.server, "v2"))
        return _switched_off(machine, base)


def _switched_off(machine: Machine, base: Path) -> PreparedDisk:
    machine.begin("systemctl poweroff")
    machine.wait_until_off()
    argv = ["qemu-img", "convert", "-O", "raw", machine.disk, base / "disk.img"]
    subprocess.run(argv, check=True)
    machine.cut()
    shutil.rmtree(base / "machine")
    return PreparedDisk(base / "disk.img")
