"""`activate`, `rollback` and `switch-slot` of a whole vehicle. Reboots are simulated."""

from __future__ import annotations

from tests.fleet.conftest import ALL, Vehicle, everywhere
from tests.support.bench import Ran
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]


def on_main(vehicle: Vehicle, *words: str) -> Ran:
    return vehicle.fleet["main"].ota(*words, "--json")


def test_what_is_staged_is_activated_and_taken_back_everywhere(vehicle: Vehicle) -> None:
    assert on_main(vehicle, "update", "--version", "v2", "--ecu", "p3").code == 0
    vehicle.reboot("p3")
    assert vehicle.fleet["p3"].ota("commit").code == 0
    assert on_main(vehicle, "update", "--version", "v2", "--stage-only").code == 0
    before = {**everywhere("v1"), "p3": "v2"}
    assert vehicle.versions() == before

    done = on_main(vehicle, "activate", "--all")
    assert done.code == 0, done.out
    assert vehicle.versions() == everywhere("v2")
    armed = {each["ecu_id"]: each["armed"] for each in done.result["ecus"]}
    assert armed == {"p1": True, "p2": True, "p3": False}
    assert (done.result["armed"], done.result["jointly"]) == (True, True)

    assert on_main(vehicle, "rollback", "--ecu", "p1").code == 2
    assert on_main(vehicle, "rollback", "--all").result["done"] == "disarmed"
    assert vehicle.versions() == before


def test_what_another_update_staged_is_not_activated_with_the_rest(vehicle: Vehicle) -> None:
    assert on_main(vehicle, "update", "--version", "v2", "--stage-only").code == 0
    alone = on_main(vehicle, "update", "--version", "v2", "--stage-only", "--ecu", "p2")
    assert alone.code == 0, alone.out
    done = on_main(vehicle, "activate", "--all")
    assert done.code == 16, done.out
    assert (
        "ECU p2: slot b holds what another update has staged" in done.document["error"]["message"]
    )
    assert vehicle.versions() == everywhere("v1")

    assert on_main(vehicle, "activate", "--ecu", "p2").code == 0
    assert vehicle.versions() == {**everywhere("v1"), "p2": "v2"}


def test_one_on_which_nothing_was_staged_keeps_all_from_being_activated(vehicle: Vehicle) -> None:
    p2 = vehicle.fleet["p2"]
    p2.sshd.refuse_all_keys()
    assert on_main(vehicle, "update", "--version", "v2", "--stage-only").code == 16
    p2.sshd.force(p2.gate)
    done = on_main(vehicle, "activate", "--all")
    assert done.code == 16, done.out
    assert "ECU p2: slot b is " in done.document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")


def test_all_go_back_and_forth_together_or_none_does(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    assert on_main(vehicle, "update", "--version", "v2").code == 0
    vehicle.bring_on_trial()
    assert main.ota("commit").code == 0

    vehicle.fleet["p2"].sshd.refuse_all_keys()
    refused = on_main(vehicle, "rollback", "--all")
    assert refused.code == 16
    assert "ECU p2" in refused.document["error"]["message"]
    assert vehicle.versions() == everywhere("v2")
    vehicle.fleet["p2"].sshd.force(vehicle.fleet["p2"].gate)

    assert on_main(vehicle, "rollback", "--all").result["jointly"]
    assert vehicle.versions() == everywhere("v1")
    vehicle.bring_on_trial()
    assert vehicle.running() == everywhere("v1")
    assert main.ota("commit").code == 0
    assert vehicle.confirmed() == ALL

    done = main.ota("switch-slot", "b", "--all", "--trust-record")
    assert done.code == 0, done.err
    assert "p1x: v2 in slot b boots next, on trial." in done.out
    assert vehicle.versions() == everywhere("v2")


def test_a_joint_trial_is_left_by_all(vehicle: Vehicle) -> None:
    assert on_main(vehicle, "update", "--version", "v2").code == 0
    vehicle.bring_on_trial()
    assert on_main(vehicle, "rollback", "--all").result["done"] == "reboot"
    assert vehicle.fleet["main"].ota("commit").code == 18
    vehicle.reboot(*ALL)
    assert vehicle.running() == everywhere("v1")
    assert "took it back" in vehicle.status("p2")["verdict"]["text"]


def test_all_and_some_exclude_each_other(vehicle: Vehicle) -> None:
    assert on_main(vehicle, "activate", "--all", "--ecu", "p1").code == 2
    nobody = on_main(vehicle, "switch-slot", "--ecu", "p9")
    assert nobody.code == 2
    assert "no ECU is called p9" in nobody.document["error"]["message"]
