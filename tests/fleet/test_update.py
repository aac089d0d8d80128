"""One command updates a whole vehicle: all ECUs are switched, or none."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import pytest

from ota_cli.core.protocol import Answer, Complaint, Object
from ota_cli.core.requests import AskUpdate
from ota_cli.events import OfEcu, Warned
from ota_cli.fleet.follower import Follower
from ota_cli.model import Secondary
from tests.conftest import Images
from tests.fleet.conftest import ALL, BELOW_FIRST, Vehicle, everywhere
from tests.support.bench import environment
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.sshd import make_key, needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]


def test_all_ecus_are_armed_by_one_command(vehicle: Vehicle) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 0, done.out
    assert vehicle.versions() == everywhere("v2")
    result = done.result
    assert (result["version"], result["armed"]) == ("v2", True)
    assert set(result["ecu_ids"]) == ALL
    below: Dict[str, Any] = {each["ecu_id"]: each for each in result["ecus"]}
    assert list(below) == ["p1", "p2", "p3"]
    assert [each["ecu_id"] for each in below["p1"]["ecus"]] == ["p1x"]
    assert all(each["armed"] and each["version"] == "v2" for each in below.values())


def test_the_transaction_is_one(vehicle: Vehicle) -> None:
    assert vehicle.fleet["main"].ota("update", "--version", "v2").code == 0
    found = {
        json.loads((ecu.root / "boot/ota/state.json").read_text())["transaction"]["txn"]
        for ecu in vehicle.fleet.ecus.values()
    }
    assert len(found) == 1


def refuse_key(vehicle: Vehicle) -> str:
    vehicle.fleet["p2"].sshd.refuse_all_keys()
    return "refuses our key"


def change_host_key(vehicle: Vehicle) -> str:
    p2 = vehicle.fleet["p2"].sshd
    known = vehicle.fleet["main"].root / "boot/ota/known_hosts"
    other = p2.known_hosts_line(make_key(p2.base / "other"))
    known.write_text(known.read_text().replace(p2.known_hosts_line(), other))
    return "its host key is not the one that is known"


def take_down(vehicle: Vehicle) -> str:
    vehicle.fleet["p2"].sshd.stop()
    vehicle.fleet["p2"].sshd.start()
    vehicle.fleet.network.cut("p2")
    return "can not be asked"


def distrust(vehicle: Vehicle) -> str:
    (vehicle.fleet["p2"].root / "etc/ota/certs/anchor.pem").unlink()
    return "anchor"


def other_version(vehicle: Vehicle) -> str:
    hello = json.dumps({"event": "hello", "schema": 2, "version": "9.9", "ecu_id": "p2"})
    vehicle.fleet["p2"].sshd.force(f"echo '{hello}'; cat >/dev/null")
    return "its ota 9.9 speaks schema 2"


@pytest.mark.parametrize(
    "break_it", [refuse_key, change_host_key, take_down, distrust, other_version]
)
def test_one_that_fails_keeps_all_from_being_switched(vehicle: Vehicle, break_it: Any) -> None:
    why = break_it(vehicle)
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 16, done.out
    message = done.document["error"]["message"]
    assert message.startswith("no ECU was switched: ECU p2")
    assert "p2: warning: no ECU will be switched: ECU p2" in done.err
    assert why in message
    assert vehicle.versions() == everywhere("v1")


def test_what_fails_below_a_secondary_is_named(vehicle: Vehicle) -> None:
    vehicle.fleet["p1x"].sshd.refuse_all_keys()
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 16
    assert "ECU p1x" in done.document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")


def test_an_ecu_that_nobody_lists_is_missed(vehicle: Vehicle) -> None:
    info = vehicle.fleet["main"].root / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text().replace("p1x", "p1x, p9"))
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 16
    assert "p9" in done.document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")


def test_one_that_dies_while_staging_is_told_and_the_next_run_goes_on_with_what_is_there(
    vehicle: Vehicle,
) -> None:
    p2 = vehicle.fleet["p2"]
    p2.limit_rate("20K")
    with vehicle.fleet["main"].running("update", "--version", "v2") as running:
        running.until("p2", event="phase", phase="download")
        p2.kill_gates()
        document = running.document()
    assert document["exit_code"] == 16
    assert "ECU p2" in document["error"]["message"]
    assert "in the middle" in document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")

    before = vehicle.server.sent_bytes()
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 0, done.out
    assert vehicle.versions() == everywhere("v2")
    fetched = {each["ecu_id"]: each["bytes"]["downloaded"] for each in done.result["ecus"]}
    assert (fetched["p1"], fetched["p3"]) == (0, 0)
    assert vehicle.server.sent_bytes() > before, "that of p2"


def test_one_that_dies_at_the_word_makes_all_stay(vehicle: Vehicle) -> None:
    vehicle.fleet["main"].limit_rate("20K")
    with vehicle.fleet["main"].running("update", "--version", "v2") as running:
        running.until_ready("p2")
        vehicle.fleet["p2"].kill_gates()
        document = running.document()
    assert document["exit_code"] == 16
    assert "ECU p2" in document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")
    states = vehicle.fleet["p1"].ota("status", "--no-ecus", "--json").result["slots"]
    assert states["b"]["state"] == "staged"


def test_one_of_which_nothing_is_known_any_more_needs_a_person(vehicle: Vehicle) -> None:
    vehicle.fleet["main"].limit_rate("20K")
    p2 = vehicle.fleet["p2"]
    with vehicle.fleet["main"].running("update", "--version", "v2") as running:
        running.until_ready("p2")
        p2.sshd.stop()
        p2.kill_gates()
        document = running.document()
    p2.sshd.start()
    assert document["exit_code"] == 17
    message = document["error"]["message"]
    assert "it is not known whether p2 would boot the new system" in message
    assert document["error"]["footprint"] == "boot"
    assert vehicle.versions() == everywhere("v1")
    assert vehicle.fleet["main"].ota("update", "--version", "v2").code == 0, "mended by a re-run"
    assert vehicle.versions() == everywhere("v2")


def test_when_this_ecu_can_not_be_armed_those_below_are_not_either(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    main.limit_rate("20K")
    marker = main.root / "boot/ota/directory-boot"
    with main.running("update", "--version", "v2") as running:
        running.until_ready("p1", "p2", "p3")
        kept = marker.read_bytes()
        marker.unlink()
        marker.mkdir()
        document = running.document()
    marker.rmdir()
    marker.write_bytes(kept)
    assert document["exit_code"] == 15, document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")


@pytest.mark.parametrize("moment", ["download", "ready"])
def test_after_a_kill_of_the_main_ecu_nobody_is_switched_and_a_re_run_finishes(
    vehicle: Vehicle, moment: str
) -> None:
    main, p2 = vehicle.fleet["main"], vehicle.fleet["p2"]
    (p2 if moment == "download" else main).limit_rate("20K")
    with main.running("update", "--version", "v2") as running:
        if moment == "download":
            running.until("p2", event="phase", phase="download")
        else:
            running.until_ready("p1", "p2", "p3")
        running.process.kill()
    gone = time.monotonic()
    while any(ecu.gates() for ecu in vehicle.fleet.ecus.values()):
        assert time.monotonic() < gone + 15, "work goes on although nobody waits for it"
        time.sleep(0.1)
    assert vehicle.versions() == everywhere("v1")
    assert main.ota("update", "--version", "v2").code == 0
    assert vehicle.versions() == everywhere("v2")


def test_a_network_that_is_lost_for_half_a_minute(vehicle: Vehicle) -> None:
    p2 = vehicle.fleet["p2"]
    p2.limit_rate("20K")
    with vehicle.fleet["main"].running("update", "--version", "v2") as running:
        running.until("p2", event="phase", phase="download")
        vehicle.fleet.network.cut("p2")
        lost = time.monotonic()
        document = running.document()
        assert time.monotonic() - lost < 60
    assert document["exit_code"] == 16
    assert "ECU p2" in document["error"]["message"]
    assert vehicle.versions() == everywhere("v1")
    vehicle.fleet.network.mend("p2")
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 0, done.out
    assert vehicle.versions() == everywhere("v2")


def test_ctrl_c_switches_nobody(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    main.limit_rate("100K")
    with main.running("update", "--version", "v2") as running:
        running.until_ready("p3")
        running.process.send_signal(signal.SIGINT)
        document = running.document()
    assert document["exit_code"] == 130
    assert vehicle.versions() == everywhere("v1")


@pytest.mark.parametrize(
    ("named", "switched"),
    [
        (("main",), {"main"}),
        (("p2",), {"p2"}),
        (("p1x",), {"p1x"}),
        (("main", "p1"), {"main", "p1"}),
    ],
)
def test_only_the_named_ecus_take_part(
    vehicle: Vehicle, named: tuple[str, ...], switched: set[str]
) -> None:
    words = [word for name in named for word in ("--ecu", name)]
    done = vehicle.fleet["main"].ota("update", "--version", "v2", *words, "--json")
    assert done.code == 0, done.out
    assert set(done.result["ecu_ids"]) == switched
    assert vehicle.versions() == {**everywhere("v1"), **dict.fromkeys(switched, "v2")}


def test_one_that_is_down_is_left_out_by_naming_the_others(vehicle: Vehicle) -> None:
    vehicle.fleet.network.cut("p2")
    words = ("--ecu", "main", "--ecu", "p1", "--ecu", "p3")
    assert vehicle.fleet["main"].ota("update", "--version", "v2", *words).code == 0


def test_a_name_that_no_ecu_has_is_a_usage_error(vehicle: Vehicle) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--ecu", "p7")
    assert done.code == 2
    assert "p7" in done.err
    assert vehicle.versions() == everywhere("v1")


def test_each_ecu_has_its_name_in_the_url(vehicle: Vehicle, images: Images) -> None:
    places = [images.directory / f"of-{name}" for name in ALL]
    try:
        for place in places:
            place.symlink_to("v2")
        done = vehicle.fleet["main"].ota("update", "--version", "of-{ecu_id}", "--json")
    finally:
        for place in places:
            place.unlink()
    assert done.code == 0, done.out
    asked = {path.split("/")[0] for path in vehicle.server.paths()}
    assert asked == {f"of-{name}" for name in ALL}


def test_staging_only_arms_nobody(vehicle: Vehicle) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--stage-only", "--json")
    assert done.code == 0, done.out
    assert set(done.result["ecu_ids"]) == ALL
    assert not any(each["armed"] for each in done.result["ecus"])
    assert vehicle.versions() == everywhere("v1")


def test_lines_for_people_name_each_ecu(vehicle: Vehicle) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v2")
    assert "p1x: filling the standby slot ..." in done.err.splitlines()
    assert "p2: filling the standby slot ..." in done.err.splitlines()
    assert "filling the standby slot ..." in done.err.splitlines()
    for name in ("p1", "p1x", "p2", "p3"):
        assert f"{name}: v2 is armed in slot b; " in done.out
    assert "v2 is armed in slot b." in done.out
    *_, what_next, jointly = done.out.splitlines()
    assert what_next.startswith("Reboot the ECUs to try it")
    assert jointly.startswith("They are confirmed together, once all are healthy")


def test_all_run_the_new_version_after_their_reboots(vehicle: Vehicle) -> None:
    assert vehicle.fleet["main"].ota("update", "--version", "v2").code == 0
    vehicle.reboot(*ALL)
    for name in BELOW_FIRST:
        assert vehicle.fleet[name].ota("commit").code == 0
    found = vehicle.fleet["main"].ota("status", "--json").result
    everyone = [found, *found["ecus"], *found["ecus"][0]["ecus"]]
    assert [each["ecu_id"] for each in everyone] == ["main", "p1", "p2", "p3", "p1x"]
    for each in everyone:
        assert (each["running"], each["verdict"]["code"]) == ("b", "confirmed")
        assert each["slots"]["b"]["version"] == "v2"


def test_the_main_ecu_killed_while_some_are_armed_is_mended_by_the_next_run(
    vehicle: Vehicle,
) -> None:
    main, p3 = vehicle.fleet["main"], vehicle.fleet["p3"]
    p3.hold_word()
    with main.running("update", "--version", "v2") as update:
        deadline = time.monotonic() + 60
        while vehicle.versions() != {**everywhere("v2"), "main": "v1", "p3": "v1"}:
            assert time.monotonic() < deadline, vehicle.versions()
        update.process.kill()
        update.process.wait(timeout=20)
    vehicle.reboot("p2")
    assert vehicle.fleet["p2"].ota("commit", "--json").result["confirmed"] is False
    vehicle.reboot("p2")
    assert vehicle.running() == everywhere("v1"), "nobody decides: what was tried returns"

    p3.sshd.force(p3.gate)
    again = main.ota("update", "--version", "v2", "--json")
    assert again.code == 0, again.out
    assert vehicle.versions() == everywhere("v2")


class OlderOta:
    """An ECU, simulated, whose `ota` does not know all that may be asked for today."""

    def __init__(self) -> None:
        self.asked: List[Object] = []

    def to(self, secondary: Secondary) -> OlderOta:
        return self

    @contextmanager
    def session(self, request: Object, until: float) -> Iterator[OlderOta]:
        self.asked.append(request)
        yield self

    def next(self) -> Answer:
        if "verify_writes" in self.asked[-1]:
            return Answer(2, Complaint("request", "'verify_writes' is not known", ""), {})
        return Answer(0, None, {"version": "v2", "slot": "b", "ecu_ids": ["p1"]})


def test_an_older_ota_below_updates_without_reading_copies_back() -> None:
    older, said = OlderOta(), []
    order = AskUpdate(("main",), "0123456789ab", "https://x/", stage_only=True, verify_writes=True)
    follower = Follower(older, Secondary("p1", "10.0.0.2"), order, said.append)  # type: ignore
    follower.follow()
    assert follower.ready.result().ecus == ("p1",)
    assert ["verify_writes" in each for each in older.asked] == [True, False]
    assert said == [OfEcu("p1", Warned("copies are not read back there: its ota is older"))]


def test_ecus_below_know_what_is_meant_by_reading_copies_back(vehicle: Vehicle) -> None:
    words = ("update", "--version", "v2", "--stage-only", "--verify-writes", "--json")
    done = vehicle.fleet["main"].ota(*words)
    assert done.code == 0, done.out
    assert done.result["verify_writes"] is True
    assert "copies are not read back" not in done.err
    assert all(each["version"] == "v2" for each in done.result["ecus"])


def test_one_without_space_keeps_all_from_being_switched(vehicle: Vehicle) -> None:
    p2 = vehicle.fleet["p2"]
    slot = str(p2.root / "slots/b")
    p2.sshd.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "small", slot], check=True)
    try:
        p2.sshd.start()  # anew: it sees the mounts there were when it began
        done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    finally:
        subprocess.run(["umount", slot], check=True)
    assert done.code == 16
    message = done.document["error"]["message"]
    assert message.startswith("no ECU was switched: ECU p2: ")
    assert "the slot needs" in message
    assert vehicle.versions() == everywhere("v1")


def test_those_that_run_it_already_are_no_obstacle(vehicle: Vehicle) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v1", "--json")
    assert done.code == 0, done.out
    assert done.result["up_to_date"] is True
    assert all(each["up_to_date"] for each in done.result["ecus"])


def test_on_a_terminal_each_ecu_has_a_row(vehicle: Vehicle) -> None:
    for name in ("main", "p1x", "p2"):
        vehicle.fleet[name].limit_rate("50K")
    master, slave = pty.openpty()
    main = vehicle.fleet["main"]
    with subprocess.Popen(
        main.argv("update", "--version", "v2"), stdin=slave, stdout=slave, stderr=slave,
        env={**environment(), "LC_ALL": "C.UTF-8", "TERM": "xterm", "COLUMNS": "120"},
    ) as running:  # fmt: skip
        os.close(slave)
        text = b"".join(iter(lambda: read_or_end(master), b"")).decode()
    os.close(master)
    assert running.returncode == 0
    for ecu in ("p1x ", "p2  ", "here"):
        assert re.search(rf"{ecu} (download|verify) +\d+ % ", text), ecu


def read_or_end(descriptor: int) -> bytes:
    """What a terminal shows; empty once nobody writes there any more."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


# --- the proxy of the main ECU -------------------------------------------------------------------


def addresses(vehicle: Vehicle) -> set[str]:
    """Who has asked the image server."""
    return {line.split()[0] for line in vehicle.server.lines()}


def content_asked_for(vehicle: Vehicle) -> Counter[str]:
    metadata = (".jwt", ".txt", ".pem", ".crt", ".txt.zst")
    return Counter(path for path in vehicle.server.paths() if not path.endswith(metadata))


def test_the_server_is_asked_once_for_each_object_and_by_the_main_ecu_only(
    vehicle: Vehicle,
) -> None:
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert done.code == 0, done.out
    assert vehicle.versions() == everywhere("v2")
    assert addresses(vehicle) == {vehicle.fleet["main"].sshd.address}
    asked = content_asked_for(vehicle)
    assert asked and set(asked.values()) == {1}
    report = done.result["proxy"]
    assert report["hits"] >= 3 * len(asked)
    assert report["bytes"]["saved"] > 2 * report["bytes"]["fetched"]


def test_a_proxy_that_is_killed_in_the_middle_is_started_again(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    main.limit_rate("60K")
    with main.running("update", "--version", "v2") as update:
        update.until("p2", event="phase", phase="download")
        [proxy] = main.proxies()
        os.kill(proxy, signal.SIGKILL)
        update.until("", event="warning")
        assert main.proxies() != [proxy]
        document = update.document()
    assert document["exit_code"] == 0, document
    assert vehicle.versions() == everywhere("v2")
    assert main.proxies() == []


def test_no_proxy_outlives_a_killed_update(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    main.limit_rate("20K")
    with main.running("update", "--version", "v2") as update:
        update.until("p2", event="phase", phase="download")
        assert len(main.proxies()) == 1
        update.process.kill()
    deadline = time.monotonic() + 20
    while main.proxies():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_a_proxy_each_asks_the_server(vehicle: Vehicle) -> None:
    for ecu in vehicle.fleet.ecus.values():
        (ecu.root / "boot/ota/proxy_info.yml").write_text("enable_local_ota_proxy: false\n")
    done = vehicle.fleet["main"].ota("update", "--version", "v2", "--json")
    assert (done.code, done.result["proxy"]) == (0, None)
    assert addresses(vehicle) == {ecu.sshd.address for ecu in vehicle.fleet.ecus.values()}


def test_an_ecu_on_localhost_can_be_no_proxy(vehicle: Vehicle) -> None:
    main = vehicle.fleet["main"]
    info = main.root / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text().replace(f"ip_addr: {main.sshd.address}\n", "", 1))
    done = main.ota("update", "--version", "v2", "--json")
    assert (done.code, done.document["error"]["slug"]) == (78, "proxy-on-localhost")
    assert vehicle.versions() == everywhere("v1")
