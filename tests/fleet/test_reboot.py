"""`ota update --reboot` of a whole vehicle. Reboots are simulated; what `ota` does is not."""

from __future__ import annotations

import time
from typing import Callable

from tests.fleet.conftest import ALL, Vehicle, everywhere
from tests.support.bench import Ran
from tests.support.machine import reboots
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]


def update(machines: Vehicle, *words: str) -> Ran:
    return machines.fleet["main"].ota("update", "--version", "v2", "--reboot", "--json", *words)


def wait_until(done: Callable[[], bool], machines: Vehicle) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, machines.running()


def is_confirmed(machines: Vehicle, name: str) -> bool:
    return machines.status(name)["verdict"]["code"] == "confirmed"


def test_all_ecus_are_rebooted_from_below_and_confirmed(machines: Vehicle) -> None:
    with machines.fleet["main"].running("update", "--version", "v2", "--reboot") as run:
        run.until("p1x", text="rebooting into the new system")
        run.until("p1x", text="healthy")
        run.until("p1", text="rebooting into the new system")
        run.until("p1", text="healthy")
        run.until("", text="rebooting into the new system")
        assert run.document()["ok"]
    wait_until(lambda: all(is_confirmed(machines, name) for name in ALL), machines)
    assert machines.running() == everywhere("v2")
    assert all(reboots(ecu.root) == ["b"] for ecu in machines.fleet.ecus.values())


def test_one_that_does_not_come_back_healthy_makes_all_return(machines: Vehicle) -> None:
    machines.fleet["p2"].add_health_check("echo no camera; exit 1")
    done = update(machines)
    assert done.code == 16, done.out
    error = done.document["error"]
    assert "ECU p2: " in error["message"]
    assert "no camera" in error["message"]
    assert error["footprint"] == "boot"
    assert machines.versions() == everywhere("v1")
    wait_until(lambda: machines.running() == everywhere("v1"), machines)
    assert reboots(machines.fleet["main"].root) == []
    assert reboots(machines.fleet["p1"].root) == ["b", "a"]
    assert machines.status("p1")["slots"]["b"]["state"] == "staged"
    assert machines.status("main")["slots"]["b"]["state"] == "staged"


def test_one_that_is_lost_before_its_reboot_ends_it(machines: Vehicle) -> None:
    p3 = machines.fleet["p3"]
    p3.before_request("reboot", "exit 1")
    done = update(machines)
    assert done.code == 16, done.out
    assert "ECU p3" in done.document["error"]["message"]
    wait_until(lambda: machines.running() == everywhere("v1"), machines)
    assert reboots(p3.root) == []


def test_what_has_confirmed_itself_can_not_be_taken_back(machines: Vehicle) -> None:
    settings = machines.fleet["main"].root / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}require_all: false\n")
    machines.fleet["p2"].add_health_check("sleep 20; echo no camera; exit 1")
    done = update(machines)
    assert done.code == 17, done.out
    message = done.document["error"]["message"]
    assert "ECU p2: " in message
    assert "ECU p3: v2 is confirmed already" in message
    wait_until(lambda: machines.running()["p2"] == "v1", machines)
    assert machines.running() == {**everywhere("v2"), "main": "v1", "p2": "v1"}
    assert reboots(machines.fleet["main"].root) == []


def test_a_main_ecu_that_runs_the_image_already_decides_when_the_others_are_back(
    machines: Vehicle,
) -> None:
    alone = update(machines, "--ecu", "main")
    assert alone.code == 0, alone.out
    wait_until(lambda: is_confirmed(machines, "main"), machines)
    done = update(machines)
    assert done.code == 0, done.out
    assert all(is_confirmed(machines, name) for name in ALL)
    assert reboots(machines.fleet["main"].root) == ["b"]
