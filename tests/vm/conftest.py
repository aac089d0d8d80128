"""Machines for these tests: made once, copied for each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from ota_cli.image.keys import make_image_keys
from tests.conftest import write_keys
from tests.support.debian import Debian
from tests.support.nginx import Nginx
from tests.support.vm.disk import make_disk
from tests.support.vm.machine import HOST, Machine
from tests.support.vm.publish import Publisher
from tests.support.vm.systems import make_systems, prepare
from tests.support.vm.verbs import adopt, update_line

#: Long enough for a machine on a busy host to confirm itself, short enough to wait for.
DEADLINE_S = 240

#: An emulated processor has no instructions for AES: 12 MB/s instead of 86.
QUICK_CIPHERS = "TLS_CHACHA20_POLY1305_SHA256"

GRUB_DEFAULTS = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX="console=ttyS0 panic=5"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
"""
#: What Debian's `update-grub` runs.
MAKE_GRUB_CFG = "grub-mkconfig -o /boot/grub/grub.cfg"


class Bench(NamedTuple):
    """A disk on which v1 was installed the ordinary way, and who publishes v1 and v2."""

    disk: Path
    publisher: Publisher

    @property
    def server(self) -> Nginx:
        return self.publisher.server

    @property
    def trees(self) -> Debian:
        return self.publisher.trees


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    base = tmp_path_factory.mktemp("machines")
    made = make_systems(base)
    trees = made._replace(old=base / "old", new=base / "new")
    for shared, own in ((made.old, trees.old), (made.new, trees.new)):
        subprocess.run(["cp", "-a", "--reflink=auto", shared, own], check=True)
    keys, served = base / "keys", base / "served"
    for directory in (keys, served):
        directory.mkdir()
    write_keys(keys, make_image_keys())
    with Nginx(served, HOST, ciphers=QUICK_CIPHERS) as server:
        publisher = Publisher(server, served, keys, trees)
        for version, tree in (("v1", trees.old), ("v2", trees.new)):
            prepare(tree, keys / "anchor.pem")
            publisher.publish(version, tree)
        yield Bench(make_disk(base / "disk.img", trees.old, base), publisher)


@pytest.fixture
def stock_machine(bench: Bench, tmp_path: Path) -> Iterator[Machine]:
    """A machine that runs Debian by the default entry of an ordinary `grub-mkconfig`."""
    with Machine(bench.disk, tmp_path / "machine") as machine:
        machine.boot()
        machine.must("cat > /etc/default/grub", GRUB_DEFAULTS)
        machine.must(MAKE_GRUB_CFG)
        machine.must("cat > /etc/ota/cacert.pem", bench.server.cacert.read_text())
        machine.reboot()
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
        machine.must("cat > /etc/ota/ota.yml", f"commit_deadline: {DEADLINE_S}\n")
        adopt(machine, bench.server)
        return _switched_off(machine, base)


@pytest.fixture(scope="session")
def filled_disk(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path_factory: pytest.TempPathFactory
) -> PreparedDisk:
    """v1 runs, v2 is staged in slot b, and nothing is armed."""
    base = tmp_path_factory.mktemp("filled")
    with Machine(adopted_disk.copy(base / "adopted.img"), base / "machine") as machine:
        machine.boot()
        machine.must(f"{update_line(bench.server, 'v2')} --stage-only")
        return _switched_off(machine, base)


@pytest.fixture(scope="session")
def armed_disk(filled_disk: PreparedDisk, tmp_path_factory: pytest.TempPathFactory) -> PreparedDisk:
    """v1 runs and v2 is armed."""
    base = tmp_path_factory.mktemp("armed")
    with Machine(filled_disk.copy(base / "filled.img"), base / "machine") as machine:
        machine.boot()
        machine.must("ota activate")
        return _switched_off(machine, base)


def _switched_off(machine: Machine, base: Path) -> PreparedDisk:
    machine.begin("systemctl poweroff")
    machine.wait_until_off()
    argv = ["qemu-img", "convert", "-O", "raw", machine.disk, base / "disk.img"]
    subprocess.run(argv, check=True)
    machine.cut()
    shutil.rmtree(base / "machine")
    return PreparedDisk(base / "disk.img")
