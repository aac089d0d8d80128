"""Real machines that boot by GRUB, update themselves, and go back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ota_cli.core.grubcfg import RULE
from ota_cli.core.record import SCHEMA
from tests.support.bench import ota
from tests.support.blocks import disk_image, needs_root, run
from tests.support.nginx import needs_nginx
from tests.support.vm.disk import layout, make_disk, put_partition
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import adopt, confirmed, status, update, update_line
from tests.vm.conftest import MAKE_GRUB_CFG, Bench, PreparedDisk

pytestmark = [needs_root, needs_nginx, needs_qemu, pytest.mark.xdist_group("machines 0")]

BOOT, SLOT_A, SLOT_B = layout()


def test_an_ordinary_debian_is_adopted_updates_itself_and_goes_back(
    stock_machine: Machine, bench: Bench
) -> None:
    machine = stock_machine
    assert "BOOT_IMAGE=/vmlinuz-" in machine.must("cat /proc/cmdline"), "by GRUB's own entry"
    old_kernel = machine.must("uname -r")
    machine.must("ota setup")
    assert "All was in order." in machine.must("ota setup")
    machine.must(MAKE_GRUB_CFG)
    machine.reboot()
    assert "ota.slot=a" in machine.must("cat /proc/cmdline"), "the rule of ota boots it now"

    update(machine, bench.server, "v2")
    assert status(machine)["verdict"]["code"] == "armed"
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


@pytest.mark.soak
def test_a_newer_ota_and_an_older_one_take_turns(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path: Path
) -> None:
    """What the newer one writes, a state with another schema and a newer rule, the older reads."""
    bench.publisher.publish_changed("newer", tmp_path, make_ota_newer)
    with Machine(adopted_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.boot()
        update(machine, bench.server, "newer")
        machine.reboot()
        assert confirmed(machine)["verdict"]["code"] == "confirmed"
        assert f'"schema": {SCHEMA + 1}' in machine.must("cat /boot/ota/state.json")
        machine.must(f"grep -q 'BEGIN ota, rule {RULE + 1}' /boot/grub/custom.cfg")

        machine.must("ota rollback")
        machine.reboot()
        assert confirmed(machine)["running"] == "a"
        machine.must(f"grep -q 'BEGIN ota, rule {RULE + 1}' /boot/grub/custom.cfg")
        assert f'"schema": {SCHEMA + 1}' in machine.must("cat /boot/ota/state.json")
        update(machine, bench.server, "v2")
        machine.reboot()
        found = confirmed(machine)
        assert (found["running"], found["verdict"]["code"]) == ("b", "confirmed")


@pytest.mark.soak
def test_an_image_that_could_not_confirm_itself_is_refused_before_it_is_armed(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path: Path
) -> None:
    bench.publisher.publish_changed("bare", tmp_path, lambda tree: (tree / "usr/bin/ota").unlink())
    with Machine(adopted_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.boot()
        ran = machine.run(update_line(bench.server, "bare"))
        assert ran.code == 11, ran.err
        assert "no `ota`" in ran.err
        machine.reboot()
        found = status(machine)
        assert (found["running"], found["next"]) == ("a", "a")


@pytest.mark.soak
def test_a_kernel_that_packages_bring_boots_after_adoption(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path: Path
) -> None:
    package = max(bench.trees.packages.glob("linux-image-[0-9]*.deb"))
    shutil.copy(package, bench.publisher.served)
    with Machine(adopted_disk.copy(tmp_path / "disk.img"), tmp_path / "machine") as machine:
        machine.boot()
        old_kernel = machine.must("uname -r")
        machine.must(f"python3 - {bench.server.url}{package.name} > /root/kernel.deb", FETCH)
        machine.must("dpkg -i /root/kernel.deb", timeout_s=1800)
        machine.reboot()
        assert "ota.slot=a" in machine.must("cat /proc/cmdline")
        assert machine.must("uname -r") != old_kernel
        assert "ota setup --refresh" not in machine.must("ota status")
        update(machine, bench.server, "v2")
        machine.reboot()
        assert confirmed(machine)["verdict"]["code"] == "confirmed"


@pytest.mark.soak
def test_a_disk_flashed_by_image_unpack_boots_and_updates(bench: Bench, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.img", bench.trees.old, tmp_path)
    slot = disk_image(tmp_path / "slot.img", str(SLOT_A.size), formatted=False)
    done = ota(
        "image", "unpack", bench.publisher.served / "v1", slot, "--anchors", bench.publisher.keys
    )
    assert done.code == 0, done.err
    run("tune2fs", "-L", SLOT_A.label, slot)
    put_partition(disk, SLOT_A, slot)
    with Machine(disk, tmp_path / "machine") as machine:
        machine.boot()
        adopt(machine, bench.server)
        update(machine, bench.server, "v2")
        machine.reboot()
        found = confirmed(machine)
        assert (found["running"], found["verdict"]["code"]) == ("b", "confirmed")


def make_ota_newer(tree: Path) -> None:
    """Gives the tree an `ota` that writes another schema and another rule."""
    program = tree / "usr/lib/python3/dist-packages/ota_cli/core"
    for name, old, new in (
        ("record.py", f"SCHEMA = {SCHEMA}\n", f"SCHEMA = {SCHEMA + 1}\n"),
        ("grubcfg.py", f"RULE = {RULE}\n", f"RULE = {RULE + 1}\n"),
    ):
        text = (program / name).read_text()
        assert old in text
        (program / name).write_text(text.replace(old, new))


FETCH = """\
import shutil, ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/ota/cacert.pem")
with urllib.request.urlopen(sys.argv[1], context=context) as answer:
    shutil.copyfileobj(answer, sys.stdout.buffer)
"""
