"""`ota status` of a whole vehicle: every ECU is shown, also those that can not be asked."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.fleet.conftest import timeless
from tests.support.bench import environment
from tests.support.fleet import Fleet, fleet
from tests.support.network import needs_namespaces
from tests.support.sshd import make_key, needs_sshd

pytestmark = [needs_namespaces, needs_sshd]


@pytest.fixture
def vehicle(tmp_path: Path, first_directory_device: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, first_directory_device) as running:
        yield running


def below(document: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """The ECUs right below, by name."""
    return {each["ecu_id"]: each for each in document["ecus"]}


def test_all_ecus_are_shown_nested(vehicle: Fleet) -> None:
    started = time.monotonic()
    done = vehicle["main"].ota("status", "--json")
    assert time.monotonic() - started < 15
    assert (done.code, done.err) == (0, "")
    ecus = below(done.result)
    assert list(ecus) == ["p1", "p2", "p3"]
    for ecu in (*ecus.values(), below(ecus["p1"])["p1x"]):
        assert ecu["reachable"] is True
        assert ecu["error"] is None
        assert (ecu["running"], ecu["next"]) == ("a", "a")
        assert ecu["slots"]["a"]["version"] == "v1"
        assert ecu["verdict"]["code"] == "never_updated"


def test_one_says_of_itself_what_it_says_of_it_above(vehicle: Fleet) -> None:
    above = timeless(below(vehicle["main"].ota("status", "--json").result)["p1"])
    itself = timeless(vehicle["p1"].ota("status", "--json").result)
    assert {key: above[key] for key in itself} == itself


def test_no_ecus_asks_nobody(vehicle: Fleet) -> None:
    done = vehicle["main"].ota("status", "--no-ecus", "--json")
    assert done.result["ecus"] == []
    assert vehicle["p1"].sshd.logins() == 0


def test_every_one_that_can_not_be_asked_is_shown_with_its_cause(
    vehicle: Fleet, tmp_path: Path
) -> None:
    vehicle.network.cut("p1")
    vehicle["p2"].sshd.refuse_all_keys()
    known = vehicle["main"].root / "boot/ota/known_hosts"
    other = make_key(tmp_path / "other")
    p3 = vehicle["p3"].sshd
    known.write_text(known.read_text().replace(p3.known_hosts_line(), p3.known_hosts_line(other)))

    started = time.monotonic()
    done = vehicle["main"].ota("status", "--json")

    assert time.monotonic() - started < 25
    assert done.code == 0
    ecus = below(done.result)
    assert list(ecus) == ["p1", "p2", "p3", "p1x"], "the one below p1 is known by name"
    slugs = {name: ecu["error"]["slug"] for name, ecu in ecus.items()}
    assert slugs["p1"] in ("ecu-timeout", "ecu-unreachable")
    assert slugs["p2"] == "key-refused"
    assert slugs["p3"] == "host-key-changed"
    assert slugs["p1x"] == "not-found"
    assert ecus["p1x"]["asked"] is False
    for ecu in ecus.values():
        assert (ecu["reachable"], bool(ecu["error"]["hint"])) == (False, True)


def test_since_when_an_ecu_is_unreachable_is_remembered_until_it_answers(vehicle: Fleet) -> None:
    main = vehicle["main"]
    vehicle["p2"].sshd.stop()
    first = below(main.ota("status", "--json").result)["p2"]["unreachable_since"]
    second = below(main.ota("status", "--json").result)["p2"]["unreachable_since"]
    assert first == second
    assert first is not None
    vehicle["p2"].sshd.start()
    assert below(main.ota("status", "--json").result)["p2"]["unreachable_since"] is None
    assert "p2" not in (main.root / "run/ota-ecus.json").read_text()


def test_one_below_an_ecu_that_answers_is_told_with_its_cause(vehicle: Fleet) -> None:
    vehicle["p1x"].sshd.refuse_all_keys()
    found = below(below(vehicle["main"].ota("status", "--json").result)["p1"])["p1x"]
    assert found["error"]["slug"] == "key-refused"
    assert found["unreachable_since"]


def test_a_silent_one_costs_no_more_than_the_time_for_all(vehicle: Fleet) -> None:
    vehicle["p1x"].sshd.force("exec sleep 100")
    started = time.monotonic()
    found = below(below(vehicle["main"].ota("status", "--json").result)["p1"])
    assert time.monotonic() - started < 25
    assert found["p1x"]["error"]["slug"] == "ecu-silent"


def test_ecus_that_list_each_other_are_told(vehicle: Fleet) -> None:
    info = vehicle["p1x"].root / "boot/ota/ecu_info.yml"
    p1 = vehicle["p1"].sshd
    info.write_text(
        f"{info.read_text()}secondaries: [{{ecu_id: p1, ip_addr: {p1.address}, "
        "identity_file: /etc/ota/key}]\n"
    )
    (vehicle["p1x"].root / "boot/ota/known_hosts").write_text(p1.known_hosts_line())
    main_key = vehicle["main"].root / "etc/ota/key"
    for half in ("key", "key.pub"):
        own = vehicle["p1x"].root / "etc/ota" / half
        own.write_bytes(main_key.with_name(half).read_bytes())
    ecus = below(vehicle["main"].ota("status", "--json").result)
    circle = below(below(ecus["p1"])["p1x"])["p1"]
    assert circle["error"]["slug"] == "ecu-circle"


def test_lines_are_indented_in_a_pipe(vehicle: Fleet) -> None:
    vehicle["p3"].sshd.stop()
    out = vehicle["main"].ota("status").out
    lines = out.splitlines()
    assert out.isascii()
    assert f"  ECU         p1 at {vehicle['p1'].sshd.address}" in lines
    assert f"    ECU         p1x at {vehicle['p1x'].sshd.address}" in lines
    [problem] = [line for line in lines if line.startswith("  no answer")]
    assert "since 20" in problem
    assert "Connection refused" in problem
    vehicle["p3"].sshd.start()


def test_a_tree_is_drawn_on_a_terminal(vehicle: Fleet) -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        vehicle["main"].argv("status"), stdin=slave, stdout=slave, stderr=slave,
        env={**environment(), "LC_ALL": "C.UTF-8", "TERM": "xterm"}, check=False, timeout=60,
    )  # fmt: skip
    os.close(slave)
    text = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 0
    assert "├─ ECU         p1 at" in text
    assert "│  └─ ECU         p1x at" in text
    assert "└─ ECU         p3 at" in text


def test_ctrl_c_ends_it_at_once_and_leaves_no_connection(vehicle: Fleet) -> None:
    vehicle["p1"].sshd.force("exec cat >/dev/null")
    running = subprocess.Popen(
        vehicle["main"].argv("status"), stdout=subprocess.PIPE, env=environment()
    )
    deadline = time.monotonic() + 20
    while not vehicle["p1"].sshd.logins():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    own = f"ota-ssh-{running.pid}-*"
    assert list(Path("/run").glob(own))
    started = time.monotonic()
    running.send_signal(2)
    running.communicate()
    assert running.returncode == 130
    assert time.monotonic() - started < 5
    assert not list(Path("/run").glob(own))


def test_doctor_tells_which_ecus_can_not_be_asked(vehicle: Fleet) -> None:
    vehicle["p2"].sshd.refuse_all_keys()
    done = vehicle["main"].ota("doctor", "--json")
    found = {each["name"]: each for each in done.result["findings"]}
    assert done.code == 69
    assert {name for name in found if name.startswith("ECU")} == {
        "ECU p1", "ECU p1x", "ECU p2", "ECU p3",
    }  # fmt: skip
    assert [name for name, each in found.items() if not each["ok"]] == ["ECU p2"]
    assert "authorized_keys" in found["ECU p2"]["hint"]
