"""How far an ECU is, by what its status says: who decides for all goes by that."""

from __future__ import annotations

import pytest

from ota_cli.core import record as phases
from ota_cli.core.outcome import Verdict
from ota_cli.core.record import Transaction
from ota_cli.fleet.decision import standing
from ota_cli.fleet.report import Ecu
from ota_cli.status import Status

UNTRIED = Verdict("disagree", "v2 is armed in slot b, but this boot did not try it")
UNREADABLE = Verdict("disagree", "The boot loader's settings can not be read.")


def armed(verdict: Verdict, boot_problem: str = "") -> Ecu:
    last = Transaction("t1", "update", phases.ARMED, "a", "b", "id2", "v2", "2026-11-23T00:00:00Z")
    return Ecu("p1", "10.0.0.2", Status("p1", "a", "b", {}, verdict, last, boot_problem))


@pytest.mark.parametrize(
    ("ecu", "code", "text"),
    [
        (armed(Verdict("armed", "")), "waiting", "not rebooted yet"),
        (armed(Verdict("trial", "")), "waiting", "on trial, its health checks have not passed yet"),
        (armed(UNTRIED), "lost", UNTRIED.text),
        (armed(UNREADABLE, "it can not be read"), "waiting", UNREADABLE.text),
    ],
)
def test_an_ecu_that_is_armed_has_to_reboot_into_its_trial(ecu: Ecu, code: str, text: str) -> None:
    found = standing(ecu, "t1")
    assert (found.code, found.text) == (code, text)
