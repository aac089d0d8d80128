"""An update of several ECUs is confirmed on all of them, or all return. Reboots are simulated."""

from __future__ import annotations

import signal
import sys
import time
from typing import Set

from ota_cli.confirm import decide
from ota_cli.events import silent
from ota_cli.fleet.disarm import disarm_here
from ota_cli.host.store import load_record
from ota_cli.probe import probe
from tests.fleet.conftest import ALL, BELOW_FIRST, Vehicle, everywhere
from tests.support.bench import BASE, Ran
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]

BELOW = BELOW_FIRST[:-1]


def update(vehicle: Vehicle, *words: str) -> Ran:
    return vehicle.fleet["main"].ota("update", "--version", "v2", "--json", *words)


def bring_on_trial(vehicle: Vehicle) -> None:
    """All ECUs run v2 on trial; those below the main ECU are healthy."""
    done = update(vehicle)
    assert (done.code, done.result["jointly"]) == (0, True), done.err
    vehicle.bring_on_trial()


def test_healthy_ecus_wait_for_the_others_and_all_are_confirmed_by_the_main_one(
    vehicle: Vehicle,
) -> None:
    assert update(vehicle).code == 0
    vehicle.reboot(*ALL)
    for name in BELOW:
        done = vehicle.fleet[name].ota("commit", "--json")
        assert (done.code, done.result["confirmed"]) == (0, False)
        status = vehicle.status(name)
        assert (status["verdict"]["code"], status["last_update"]["outcome"]) == ("trial", "healthy")
        assert "waits for the other ECUs" in status["verdict"]["text"]
    assert vehicle.confirmed() == set()

    done = vehicle.fleet["main"].ota("commit", "--json")
    assert done.code == 0, done.out
    assert set(done.result["ecu_ids"]) == set(BELOW)
    assert vehicle.confirmed() == ALL
    vehicle.reboot(*ALL)
    assert vehicle.running() == everywhere("v2")
    assert vehicle.fleet["main"].ota("commit").code == 0
    assert not (vehicle.fleet["main"].root / "boot/ota/joint-decided").exists()


def test_one_that_is_not_healthy_makes_all_return(vehicle: Vehicle) -> None:
    check = vehicle.fleet["p2"].add_health_check("echo no camera; exit 1")
    assert update(vehicle).code == 0
    vehicle.reboot(*ALL)
    for name in ("p1x", "p1", "p3"):
        assert vehicle.fleet[name].ota("commit").code == 0
    assert vehicle.fleet["p2"].ota("commit").code == 18
    vehicle.reboot("p2")

    done = vehicle.fleet["main"].ota("commit", "--json")
    assert done.code == 18
    message = done.document["error"]["message"]
    assert "ECU p2: " in message
    assert "no camera" in message
    vehicle.reboot("main", "p1", "p1x", "p3")
    assert vehicle.running() == everywhere("v1")
    assert "no camera" in vehicle.status("main")["verdict"]["text"]
    p1 = vehicle.status("p1")
    assert (p1["verdict"]["code"], p1["slots"]["b"]["state"]) == ("fell_back", "staged")
    assert "fell back: the ECU above took it back" in p1["verdict"]["text"]

    check.unlink()
    refused = update(vehicle)
    assert refused.code == 16
    assert "ECU p2" in refused.document["error"]["message"]
    again = update(vehicle, "--retry-failed")
    assert again.code == 0, again.out
    assert vehicle.versions() == everywhere("v2")


def test_the_main_ecu_waits_for_one_that_is_slow(vehicle: Vehicle) -> None:
    assert update(vehicle).code == 0
    vehicle.reboot("main", "p1", "p1x", "p2")
    for name in ("p1x", "p1", "p2"):
        assert vehicle.fleet[name].ota("commit").code == 0
    with vehicle.fleet["main"].running("commit") as commit:
        commit.until("p3", text="not rebooted yet")
        vehicle.reboot("p3")
        commit.until("p3", text="on trial, its health checks have not passed yet")
        assert vehicle.fleet["p3"].ota("commit").code == 0
        commit.until("", text="all ECUs are healthy: the new system stays")
        assert commit.document()["ok"]
    assert vehicle.confirmed() == ALL


def test_a_fleet_deadline_ends_the_wait_and_names_who_was_missing(vehicle: Vehicle) -> None:
    settings = vehicle.fleet["main"].root / "etc/ota/ota.yml"
    settings.write_text(settings.read_text().replace("fleet_deadline: 90", "fleet_deadline: 1"))
    assert update(vehicle).code == 0
    vehicle.reboot("main")
    done = vehicle.fleet["main"].ota("commit", "--json")
    assert done.code == 18
    assert "ECU p3: not rebooted yet" in done.document["error"]["message"]
    assert vehicle.confirmed() == set()


def test_the_main_ecu_killed_while_it_tells_its_decision_tells_the_rest_afterwards(
    vehicle: Vehicle,
) -> None:
    bring_on_trial(vehicle)
    main, p2 = vehicle.fleet["main"], vehicle.fleet["p2"]
    p2.before_request("commit", "sleep 100")
    with main.running("commit") as commit:
        wait_until_confirmed(vehicle, {"main", "p1", "p1x", "p3"})
        commit.process.send_signal(signal.SIGKILL)
        commit.process.wait(timeout=20)
    assert (main.root / "boot/ota/joint-decided").exists()
    assert vehicle.status("p2")["verdict"]["code"] == "trial"
    vehicle.reboot("main")
    assert vehicle.status("main")["running"] == "b"

    p2.sshd.force(p2.gate)
    done = main.ota("commit", "--json")
    assert done.code == 0, done.out
    assert vehicle.confirmed() == ALL
    assert not (main.root / "boot/ota/joint-decided").exists()


def wait_until_confirmed(vehicle: Vehicle, names: Set[str]) -> None:
    deadline = time.monotonic() + 60
    while not names <= vehicle.confirmed():
        assert time.monotonic() < deadline, vehicle.confirmed()


def test_one_that_returns_after_the_decision_is_named_and_mended_by_another_update(
    vehicle: Vehicle,
) -> None:
    bring_on_trial(vehicle)
    p2 = vehicle.fleet["p2"]
    reboot = (
        "from ota_cli.boot.simulate import next_boot; from ota_cli.probe import probe; "
        f"from pathlib import Path; next_boot(probe(Path({str(p2.root)!r})))"
    )
    p2.before_request("commit", f'PYTHONPATH={BASE} {sys.executable} -c "{reboot}"')
    done = vehicle.fleet["main"].ota("commit", "--json")
    assert done.code == 17, done.out
    message = done.document["error"]["message"]
    assert "ECU p2: " in message
    assert "fell back" in message
    assert vehicle.confirmed() == ALL - {"p2"}

    p2.sshd.force(p2.gate)
    told = vehicle.fleet["main"].ota("commit", "--json")
    assert (told.code, told.result["ecu_ids"]) == (0, []), "who refused is not asked for ever"
    again = update(vehicle)
    assert (again.code, again.result["jointly"]) == (0, False), again.out
    vehicle.reboot("p2")
    assert p2.ota("commit", "--json").result["confirmed"]
    assert vehicle.fleet["main"].ota("commit").code == 0
    assert vehicle.running() == everywhere("v2")


def test_a_main_ecu_that_runs_the_image_already_decides_for_the_others(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    alone = update(vehicle, "--ecu", "main")
    assert (alone.code, alone.result["jointly"]) == (0, False), alone.out
    vehicle.reboot("main")
    assert main.ota("commit", "--json").result["confirmed"]

    assert update(vehicle).result["jointly"]
    vehicle.reboot(*BELOW)
    for name in BELOW:
        assert vehicle.fleet[name].ota("commit").code == 0
    done = main.ota("commit", "--json")
    assert done.code == 0, done.out
    assert vehicle.confirmed() == ALL
    assert main.ota("commit", "--json").result["ecu_ids"] == []


def test_without_require_all_each_confirms_itself(vehicle: Vehicle) -> None:
    settings = vehicle.fleet["main"].root / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}require_all: false\n")
    assert not update(vehicle).result["jointly"]
    vehicle.reboot("p2")
    assert vehicle.fleet["p2"].ota("commit", "--json").result["confirmed"]
    assert vehicle.confirmed() >= {"p2"}


def test_what_is_to_be_decided_is_not_forgotten_by_an_update_of_others(vehicle: Vehicle) -> None:
    assert update(vehicle).code == 0
    refused = update(vehicle, "--ecu", "p3")
    assert refused.code == 75, refused.out
    assert "rollback --all" in refused.document["error"]["hint"]
    vehicle.bring_on_trial()
    assert vehicle.fleet["main"].ota("commit").code == 0
    assert vehicle.confirmed() == ALL


def test_a_main_ecu_that_stages_anew_decides_nothing_any_more(vehicle: Vehicle) -> None:
    assert update(vehicle).code == 0
    vehicle.reboot("p2", "p3")
    for name in ("p2", "p3"):
        assert vehicle.fleet[name].ota("commit").code == 0
    assert update(vehicle, "--stage-only").code == 16
    done = vehicle.fleet["main"].ota("commit", "--json")
    assert (done.code, done.result["ecu_ids"]) == (0, [])
    vehicle.reboot(*ALL - {"p1", "p1x"})
    assert vehicle.running() == everywhere("v1")


def test_a_main_ecu_that_takes_back_its_own_switch_still_decides_for_the_others(
    vehicle: Vehicle,
) -> None:
    main = vehicle.fleet["main"]
    assert update(vehicle, "--ecu", "main").code == 0
    vehicle.reboot("main")
    assert main.ota("commit").code == 0
    assert main.ota("switch-slot", "--trust-record").code == 0
    done = update(vehicle)
    assert (done.result["taken_back"], done.result["jointly"]) == ("a", True)
    vehicle.bring_on_trial()
    assert vehicle.status("main")["running"] == "b"
    assert main.ota("commit").code == 0
    assert vehicle.confirmed() == ALL


def test_one_that_gives_up_sees_that_another_process_has_decided(vehicle: Vehicle) -> None:
    bring_on_trial(vehicle)
    main, p3 = vehicle.fleet["main"], vehicle.fleet["p3"]
    settings = main.root / "etc/ota/ota.yml"
    settings.write_text(settings.read_text().replace("fleet_deadline: 90", "fleet_deadline: 8"))
    p3.before_request("status", "exit 1")
    with main.running("commit") as commit:
        commit.until("p3")
        device = probe(main.root)
        joint = load_record(device).joint
        assert joint is not None
        decide(device, joint, silent)
        done = commit.document()
    assert done["ok"], done
    assert vehicle.confirmed() == ALL


def test_one_that_is_healthy_but_was_told_to_return_makes_all_return(vehicle: Vehicle) -> None:
    bring_on_trial(vehicle)
    p2 = probe(vehicle.fleet["p2"].root)
    joint = load_record(p2).joint
    assert joint is not None
    assert disarm_here(p2, joint.txn, silent).returns_by_reboot
    done = vehicle.fleet["main"].ota("commit", "--json")
    assert done.code == 18, done.out
    assert "ECU p2: the ECU above took it back" in done.document["error"]["message"]
    vehicle.reboot(*ALL)
    assert vehicle.running() == everywhere("v1")


def test_an_ecu_that_took_no_part_may_be_down(vehicle: Vehicle) -> None:
    assert update(vehicle, "--ecu", "main", "--ecu", "p1").result["jointly"]
    for name in ("p1x", "p2"):
        vehicle.fleet[name].sshd.refuse_all_keys()
    vehicle.reboot("main", "p1")
    assert vehicle.fleet["p1"].ota("commit").code == 0
    done = vehicle.fleet["main"].ota("commit", "--json")
    assert (done.code, done.result["ecu_ids"]) == (0, ["p1"]), done.out
    assert vehicle.status("p1")["verdict"]["code"] == "confirmed"


def test_a_main_ecu_that_takes_no_part_takes_back_what_it_could_not_at_first(
    vehicle: Vehicle,
) -> None:
    main, p2 = vehicle.fleet["main"], vehicle.fleet["p2"]
    assert update(vehicle, "--ecu", "p2", "--ecu", "p3").result["jointly"]
    p2.before_request("disarm", "exit 1")
    partly = main.ota("rollback", "--all", "--json")
    assert partly.code == 17, partly.out
    assert "ECU p2" in partly.document["error"]["message"]
    assert vehicle.versions() == {**everywhere("v1"), "p2": "v2"}

    p2.sshd.force(p2.gate)
    again = main.ota("rollback", "--all", "--json")
    assert (again.code, again.result["done"]) == (0, "nothing"), again.out
    assert vehicle.versions() == everywhere("v1")
    assert update(vehicle).result["jointly"], "nothing is left of it"
