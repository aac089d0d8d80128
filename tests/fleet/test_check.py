"""`ota check` of a whole vehicle: up to date means that all ECUs are."""

from __future__ import annotations

from typing import List

from ota_cli.core.requests import AskCheck
from ota_cli.errors import OtaError
from ota_cli.events import silent
from ota_cli.fleet.check import Question
from ota_cli.fleet.report import EcuChecked
from ota_cli.model import Secondary
from tests.fleet.conftest import Vehicle, everywhere
from tests.support.bench import Ran
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]


def check(vehicle: Vehicle, version: str) -> Ran:
    return vehicle.fleet["main"].ota("check", "--version", version, "--json")


def test_every_ecu_tells_what_an_update_would_bring(vehicle: Vehicle) -> None:
    done = check(vehicle, "v2")
    assert (done.code, done.result["available"]) == (20, True), done.out
    p1, p2, p3 = done.result["ecus"]
    assert [each["ecu_id"] for each in (p1, p2, p3, *p1["ecus"])] == ["p1", "p2", "p3", "p1x"]
    for each in (p1, p2, p3, *p1["ecus"]):
        assert (each["available"], each["version"]) == (True, "v2")
        assert each["bytes"]["download"] == done.result["bytes"]["download"]
    assert vehicle.versions() == everywhere("v1")

    same = check(vehicle, "v1")
    assert (same.code, same.result["available"]) == (0, False), same.out


def test_one_below_that_runs_another_version_makes_it_an_update(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    for name in ("main", "p1", "p2", "p3"):
        assert main.ota("update", "--version", "v2", "--ecu", name).code == 0
        vehicle.reboot(name)
        assert vehicle.fleet[name].ota("commit").code == 0
    done = main.ota("check", "--version", "v2")
    assert done.code == 20
    assert "p1x: update to v2" in done.out
    assert "v2 is what runs here" in done.out
    assert main.ota("check", "--version", "v2", "--no-ecus").code == 0
    dry_run = ("update", "--dry-run", "--version", "v2", "--json")
    for named, is_any in (((), True), (("p1x",), True), (("main", "p1"), False)):
        told = main.ota(*dry_run, *(word for name in named for word in ("--ecu", name)))
        assert told.code == 0, told.out
        assert told.result["available"] == is_any


def test_without_an_answer_of_all_nobody_says_up_to_date(vehicle: Vehicle) -> None:
    vehicle.fleet["p1x"].sshd.refuse_all_keys()
    done = check(vehicle, "v1")
    assert done.code == 16
    assert "ECU p1x" in done.document["error"]["message"]
    assert done.result["ecus"][0]["ecus"][0]["available"] is None
    available = check(vehicle, "v2")
    assert available.code == 20
    assert "warning: not all ECUs could be checked: ECU p1x" in available.err


def test_a_dry_run_tells_of_every_ecu_what_would_change(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    done = main.ota("update", "--version", "v2", "--dry-run", "--json")
    assert done.code == 0, done.out
    assert done.result["ecu_ids"] == ["main", "p1", "p1x", "p2", "p3"]
    p1, p2, p3 = done.result["ecus"]
    for each in (p1, p2, p3, *p1["ecus"]):
        assert each["changes"]["files"] == done.result["changes"]["files"]
        assert each["changes"]["kernel"]["new"] == "6.1.0-2"
    assert vehicle.versions() == everywhere("v1")

    lines = main.ota("update", "--version", "v2", "--dry-run", "--ecu", "p1x")
    assert lines.code == 0
    heads = {line.split(":")[0] for line in lines.out.splitlines()}
    assert heads == {"p1x"}, "p1 is only on the way"
    assert main.ota("update", "--version", "v2", "-n", "--ecu", "nobody").code == 2


def test_a_named_ecu_below_one_that_gives_no_answer_is_not_called_unknown(
    vehicle: Vehicle,
) -> None:
    main = vehicle.fleet["main"]
    words = ("update", "--version", "v2", "--json", "--ecu")
    vehicle.fleet["p1"].sshd.refuse_all_keys()
    for asked in (("p1x",), ("p1x", "--dry-run")):
        done = main.ota(*words, *asked)
        assert done.code == 16, done.out
        assert "ECU p1 " in done.document["error"]["message"]
    assert main.ota(*words, "p2", "--dry-run").code == 0, "it is on no way to p1"
    assert main.ota(*words, "p1", "--dry-run").code == 16


def test_a_dry_run_of_others_does_not_fail_because_of_an_ecu_that_is_left_out(
    vehicle: Vehicle,
) -> None:
    main = vehicle.fleet["main"]
    for anchor in (main.root / "etc/ota/certs").iterdir():
        anchor.unlink()
    vehicle.fleet["p3"].sshd.refuse_all_keys()
    words = ("update", "--dry-run", "--version", "v2", "--json", "--ecu")
    assert main.ota(*words, "main").code == 10
    done = main.ota(*words, "p2")
    assert (done.code, done.result["ecu_ids"]) == (0, ["p2"]), done.out
    assert (done.result["available"], done.result["version"]) == (True, None)
    assert [each["ecu_id"] for each in done.result["ecus"]] == ["p2"]


class OlderOta:
    """An ECU, simulated, whose `ota` knows no check of named ECUs."""

    def __init__(self) -> None:
        self.asked: List[AskCheck] = []

    def to(self, secondary: Secondary) -> OlderOta:
        return self

    def result(self, request: AskCheck, *_: object) -> EcuChecked:
        self.asked.append(request)
        if request.ecus is not None:
            raise OtaError("`check` with 'ecus' is not known", slug="request")
        return EcuChecked("p1", available=True, version="v2")


def test_an_older_ota_below_is_asked_for_all_that_it_has() -> None:
    older = OlderOta()
    request = AskCheck(("main",), "https://x/", ecus=("p1",))
    found = Question(older, Secondary("p1", "10.0.0.2"), request, silent).put()  # type: ignore
    assert (found.version, found.trouble) == ("v2", None)
    assert [each.ecus for each in older.asked] == [("p1",), None]


def test_a_dry_run_below_an_ecu_does_not_fail_because_that_one_can_not_be_updated(
    vehicle: Vehicle,
) -> None:
    for anchor in (vehicle.fleet["p1"].root / "etc/ota/certs").iterdir():
        anchor.unlink()
    words = ("update", "--dry-run", "--version", "v2", "--json", "--ecu")
    done = vehicle.fleet["main"].ota(*words, "p1x")
    assert (done.code, done.result["ecu_ids"]) == (0, ["p1x"]), done.out
    [p1] = done.result["ecus"]
    assert (p1["available"], p1["error"]) == (None, None)
    assert [(each["ecu_id"], each["available"]) for each in p1["ecus"]] == [("p1x", True)]
    assert vehicle.fleet["main"].ota(*words, "p1").code == 16
