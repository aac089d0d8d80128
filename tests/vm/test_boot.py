"""Real machines that boot by GRUB, update themselves, and come back by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple

import pytest

from ota_cli.image.keys import make_image_keys
from tests.conftest import write_keys
from tests.support.bench import ota
from tests.support.blocks import needs_root
from tests.support.nginx import Nginx, needs_nginx
from tests.support.vm.disk import make_disk
from tests.support.vm.machine import HOST, Machine, needs_qemu
from tests.support.vm.systems import make_systems, prepare

pytestmark = [needs_root, needs_nginx, needs_qemu, pytest.mark.xdist_group("machines")]


class Bench(NamedTuple):
    """A disk on which v1 was installed the ordinary way, and a server with both versions."""

    disk: Path
    server: Nginx


@pytest.fixture(scope="module")
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


def update(machine: Machine, bench: Bench, version: str) -> Dict[str, Any]:
    said = machine.must(
        f"ota update --version {bench.server.url}{version}/ --cacert /etc/ota/cacert.pem "
        "--allow-downgrade --json"
    )
    result: Dict[str, Any] = json.loads(said)["result"]
    return result


def status(machine: Machine) -> Dict[str, Any]:
    result: Dict[str, Any] = json.loads(machine.must("ota status --json"))["result"]
    return result


def confirmed(machine: Machine) -> Dict[str, Any]:
    """The status once the system has confirmed itself, by its own unit."""
    machine.must("systemctl start ota-commit.service")
    return status(machine)


def test_an_ordinary_debian_is_adopted_updates_itself_and_goes_back(
    machine: Machine, bench: Bench
) -> None:
    old_kernel = machine.must("uname -r")
    assert status(machine)["running"] == "a"
    machine.reboot()
    assert "ota.slot=a" in machine.must("cat /proc/cmdline"), "the rule of ota boots it now"

    update(machine, bench, "v2")
    machine.reboot()

    assert "ota.trial=1" in machine.must("cat /proc/cmdline")
    found = confirmed(machine)
    assert (found["running"], found["next"]) == ("b", "b")
    assert found["verdict"]["code"] == "confirmed"
    assert machine.must("uname -r") != old_kernel

    machine.must("ota rollback")
    machine.reboot()
    assert machine.must("uname -r") == old_kernel
    found = confirmed(machine)
    assert (found["running"], found["next"], found["verdict"]["code"]) == ("a", "a", "confirmed")
