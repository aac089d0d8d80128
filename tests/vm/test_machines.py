"""Real machines that boot by GRUB, update themselves, and go back."""

from __future__ import annotations

import pytest

from tests.support.blocks import needs_root
from tests.support.nginx import needs_nginx
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import confirmed, status, update
from tests.vm.conftest import Bench

pytestmark = [needs_root, needs_nginx, needs_qemu, pytest.mark.xdist_group("machines")]


def test_an_ordinary_debian_is_adopted_updates_itself_and_goes_back(
    machine: Machine, bench: Bench
) -> None:
    old_kernel = machine.must("uname -r")
    assert status(machine)["running"] == "a"
    machine.reboot()
    assert "ota.slot=a" in machine.must("cat /proc/cmdline"), "the rule of ota boots it now"

    update(machine, bench.server, "v2")
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
