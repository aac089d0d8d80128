"""What `ota setup` and `ota doctor` say of the watchdog."""

from __future__ import annotations

from ota_cli.host.watchdog import advice


def test_a_machine_without_a_watchdog_is_told_what_that_means() -> None:
    assert "hangs without a panic" in advice(False, "0")


def test_a_watchdog_that_nobody_uses_is_pointed_out() -> None:
    for runtime in ("0", "infinity", ""):
        assert "RuntimeWatchdogSec=30" in advice(True, runtime)


def test_a_watchdog_in_use_is_not_worth_a_word() -> None:
    assert advice(True, "30s") == ""
