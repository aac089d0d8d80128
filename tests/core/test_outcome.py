"""What the record, the boot loader and the running system say together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Optional

import pytest

from ota_cli.core import record as phases
from ota_cli.core.outcome import given_up, settle, verdict
from ota_cli.core.record import (
    JointCommit,
    Record,
    SlotRecord,
    Transaction,
    checksum,
    format_record,
    parse_record,
)
from ota_cli.errors import ConfigError
from ota_cli.model import BootState, SlotBoot, SlotName

NOW = "2026-11-24T00:00:00Z"
#: When the update was begun, and when the running system was booted.
BEGUN, BOOTED = "2026-11-23T22:00:00Z", "2026-11-23T23:00:00Z"
READY = SlotBoot(ready=True, good=True)


def boot(default: SlotName, trial: Optional[SlotName] = None) -> BootState:
    return BootState(default, trial, {"a": READY, "b": READY}, "t1")


def armed(phase: str = phases.ARMED, attempts: int = 0) -> Record:
    """An update from slot a to b that was armed."""
    last = Transaction("t1", "update", phase, "a", "b", "id2", "v2", BEGUN, attempts=attempts)
    record = Record(transaction=last).with_slot("a", state="good", version="v1")
    return record.with_slot("b", state="armed", version="v2", image_id="id2")


def test_an_armed_trial_that_was_not_booted_yet_stays_armed() -> None:
    record = armed()
    assert settle(record, boot("a", "b"), "a", False, NOW, BOOTED) == record
    assert verdict(record, boot("a", "b"), "a", False).code == "armed"


def test_an_armed_trial_that_the_last_boot_did_not_try_is_told() -> None:
    record = armed()
    assert record.transaction is not None
    record = replace(record, transaction=replace(record.transaction, armed_in="one"))
    codes = [verdict(record, boot("a", "b"), "a", False, each).code for each in ("one", "two", "")]
    assert codes == ["armed", "disagree", "armed"]


def test_a_running_trial_is_on_trial() -> None:
    record = armed()
    assert settle(record, boot("a"), "b", True, NOW, BOOTED) == record
    assert verdict(record, boot("a"), "b", True).code == "trial"


def test_a_trial_lost_before_user_space_leaves_the_slot_staged() -> None:
    settled = settle(armed(), boot("a"), "a", False, NOW, BOOTED)
    assert settled.transaction is not None
    assert settled.transaction.ended == BOOTED
    assert settled.slots["b"].state == "staged"
    assert settled.failed == ()
    found = verdict(settled, boot("a"), "a", False)
    assert found.code == "fell_back"
    assert "activate" in found.hint


def test_a_trial_does_not_end_before_it_was_begun() -> None:
    """A container's `/proc/stat` tells when its host was booted; a clock may have been wrong."""
    settled = settle(armed(), boot("a"), "a", False, NOW, "1970-01-01T00:00:40Z")
    assert settled.transaction is not None
    assert settled.transaction.ended == BEGUN


def test_the_third_lost_trial_makes_the_slot_bad() -> None:
    settled = settle(armed(attempts=2), boot("a"), "a", False, NOW, BOOTED)
    assert settled.slots["b"].state == "bad"
    assert settled.failed == ("id2",)


def test_a_boot_loader_that_was_never_told_has_tried_nothing() -> None:
    untold = replace(boot("a"), txn="t0")
    settled = settle(armed(), untold, "a", False, NOW, BOOTED)
    assert settled.slots["b"].state == "staged"
    assert verdict(settled, untold, "a", False).code == "confirmed"
    assert verdict(settled, untold, "a", False).hint == "`ota activate` arms it"
    with_others = verdict(settled, untold, "a", False, has_others=True)
    assert with_others.hint == "`ota activate --all` arms it"


@pytest.mark.parametrize("phase", [phases.ARMED, phases.TRIAL])
@pytest.mark.parametrize("state", ["good", "adopted"])
def test_a_slot_known_to_be_good_stays_so_when_its_trial_ends(phase: str, state: str) -> None:
    record = armed(phase, attempts=9).with_slot("b", state=state)
    settled = settle(record, boot("a"), "a", False, NOW, BOOTED)
    assert settled.slots["b"].state == state
    assert settled.failed == ()
    assert verdict(settled, boot("a"), "a", False).code == "fell_back"


def test_an_armed_slot_that_is_not_ready_will_not_be_tried() -> None:
    half = replace(boot("a", "b"), slots={"a": READY, "b": SlotBoot(ready=False, good=False)})
    found = verdict(armed(), half, "a", False)
    assert half.next == "a"
    assert (found.code, "slot a boots next" in found.text) == ("disagree", True)


def test_a_default_that_is_not_ready_is_told_with_what_boots_instead() -> None:
    half = replace(boot("b"), slots={"a": READY, "b": SlotBoot(ready=False, good=True)})
    found = verdict(Record(), half, "b", False)
    assert half.next == "a"
    assert (found.code, "slot a boots next" in found.text) == ("disagree", True)


def test_a_default_that_could_not_be_loaded_is_told_with_what_runs_instead() -> None:
    half = replace(boot("b"), slots={"a": READY, "b": SlotBoot(ready=False, good=True)})
    found = verdict(armed(phases.COMMITTED), half, "a", False)
    assert found.code == "disagree"
    assert "slot a runs instead" in found.text


def test_a_trial_that_reached_user_space_and_is_gone_has_failed() -> None:
    settled = settle(armed(phases.TRIAL), boot("a"), "a", False, NOW, BOOTED)
    assert settled.slots["b"].state == "bad"
    assert settled.failed == ("id2",)


def test_one_that_was_healthy_and_fell_back_because_of_others_stays_staged() -> None:
    record = replace(armed(phases.HEALTHY), joint=JointCommit("t1", decides=False))
    assert settle(record, boot("a"), "b", True, NOW, BOOTED) == record
    waiting = verdict(record, boot("a"), "b", True)
    assert (waiting.code, "waits for the other ECUs" in waiting.text) == ("trial", True)

    for settled in (
        settle(record, boot("a"), "a", False, NOW, BOOTED),
        settle(given_up(record, "t1"), boot("a"), "a", False, NOW, BOOTED),
    ):
        assert (settled.slots["b"].state, settled.failed) == ("staged", ())
        assert settled.transaction is not None
        assert settled.transaction.attempts == 0
        found = verdict(settled, boot("a"), "a", False)
        assert (found.code, "not all ECUs" in found.text) == ("fell_back", True)
        assert "activate" in found.hint


def test_one_that_decided_and_was_cut_off_before_it_noted_that_has_decided() -> None:
    joint = JointCommit("t1", decides=True, ecu_ids=("p1", "p2"))
    record = replace(armed(phases.HEALTHY), joint=joint)
    settled = settle(record, boot("b"), "b", True, NOW, BOOTED)
    assert settled.joint == replace(joint, decided=NOW, untold=("p1", "p2"))
    assert settle(record, boot("a"), "a", False, NOW, BOOTED).joint == joint

    earlier = replace(record, joint=replace(joint, txn="t0"))
    assert settle(earlier, boot("b"), "b", True, NOW, BOOTED).joint == earlier.joint


def test_a_power_cut_between_commit_and_record_counts_as_committed() -> None:
    settled = settle(armed(phases.TRIAL), boot("b"), "b", True, NOW, BOOTED)
    assert settled.transaction is not None
    assert settled.transaction.phase == phases.COMMITTED
    assert verdict(settled, boot("b"), "b", True).code == "confirmed"


def test_a_default_that_does_not_run_is_a_disagreement() -> None:
    assert verdict(armed(phases.COMMITTED), boot("b"), "a", False).code == "disagree"
    assert verdict(Record(), None, "a", False).code == "disagree"
    assert verdict(Record(), boot("a"), None, False).code == "disagree"


def test_a_device_without_history_was_never_updated() -> None:
    assert verdict(Record(), boot("a"), "a", False).code == "never_updated"


def test_an_interrupted_update_is_told() -> None:
    found = verdict(armed(phases.STAGING), boot("a"), "a", False)
    assert found.code == "confirmed"
    assert "interrupted" in found.text


def test_a_record_survives_the_round_trip_and_keeps_what_it_does_not_know() -> None:
    joint = JointCommit("t1", True, ("p1",), NOW, ("p1",), unknown={"why": "new"})
    record = replace(armed(), unknown={"fleet": {"decided": True}}, failed=("x",), joint=joint)
    assert parse_record(format_record(record), "state.json") == record


def test_an_older_ota_keeps_what_a_newer_one_wrote_as_long_as_it_is_about_the_same() -> None:
    document = json.loads(format_record(armed()))
    document["schema"] = 2
    document["slots"]["b"]["patches"] = [1]
    document["slots"]["c"] = {"state": "good"}
    document["transaction"]["decided"] = True
    document["checksum"] = checksum({k: v for k, v in document.items() if k != "checksum"})
    record = parse_record(json.dumps(document).encode(), "state.json")

    kept = json.loads(format_record(record.with_slot("a", state="bad")))
    assert kept["schema"] == 2
    assert kept["slots"]["b"]["patches"] == [1]
    assert kept["slots"]["c"] == {"state": "good"}
    assert kept["transaction"]["decided"] is True

    anew = replace(record, slots={**record.slots, "b": SlotRecord("staging")}, transaction=None)
    assert "patches" not in json.loads(format_record(anew))["slots"]["b"]


def test_a_torn_or_rotten_record_is_refused() -> None:
    data = format_record(armed())
    for broken in (b"", data[:-20], data.replace(b'"v2"', b'"v3"'), b"[]", b"{}", b"[" * 200_000):
        with pytest.raises(ConfigError, match=r"state\.json is damaged"):
            parse_record(broken, "state.json")
