"""What Jetsons tell about themselves; the facts of three layouts are read as a device has them."""

from __future__ import annotations

from typing import Optional, Tuple

import pytest

from ota_cli.core.jetson import (
    Bsp,
    Facts,
    Loader,
    active_slot,
    may_be_unified,
    parse_compatible,
    why_not,
)
from ota_cli.core.partitions import find_numbered_slots
from ota_cli.model import DeviceSlot, SlotName
from tests.support.jetson import fact

RELEASE = "# R32 (release), REVISION: 6.1, GCID: 1, BOARD: t186ref, EABI: aarch64\n"
XAVIER = ("nvidia,p2972-0000", "nvidia,tegra194")


def facts_of(layout: str) -> Facts:
    release = fact(layout, "nv_tegra_release").decode()
    return Facts(release, parse_compatible(fact(layout, "compatible")), True)


@pytest.mark.parametrize(
    ("layout", "bsp", "unified"),
    [("xavier-emmc", Bsp(32, 5, 1), False), ("xavier-nvme", Bsp(32, 6, 1), True),
     ("agx-unified", Bsp(32, 7, 3), True)],
)  # fmt: skip
def test_the_three_layouts_are_served(layout: str, bsp: Bsp, unified: bool) -> None:
    facts = facts_of(layout)
    assert facts.is_jetson
    assert facts.bsp == bsp
    assert why_not(facts) is None
    assert may_be_unified(bsp) is unified, "whether nvbootctrl can be asked"


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("xavier-emmc", "e0c5d0e4-6d8b-4a7a-8a11-000000000001",
         "e0c5d0e4-6d8b-4a7a-8a11-000000000002"),
        ("xavier-nvme", "5c3a1f02-51a9-4a0e-9d2f-000000000001",
         "5c3a1f02-51a9-4a0e-9d2f-000000000002"),
        ("agx-unified", "e0c5d0e4-6d8b-4a7a-8a11-000000000001",
         "e0c5d0e4-6d8b-4a7a-8a11-000000000002"),
    ],
)  # fmt: skip
def test_the_slots_are_partitions_1_and_2_of_the_disk_of_the_root(
    layout: str, first: str, second: str
) -> None:
    root = fact(layout, "root").decode().strip()
    slots = find_numbered_slots(fact(layout, "lsblk.json"), root)
    expected = {"a": DeviceSlot(f"PARTUUID={first}"), "b": DeviceSlot(f"PARTUUID={second}")}
    assert slots == expected


@pytest.mark.parametrize("root", ["179:3", "8:1", ""])
def test_a_root_on_another_partition_has_no_slots(root: str) -> None:
    assert find_numbered_slots(fact("xavier-emmc", "lsblk.json"), root) == {}


@pytest.mark.parametrize(
    ("layout", "active"), [("xavier-emmc", "a"), ("xavier-nvme", "b"), ("agx-unified", "b")]
)
def test_the_active_slot_is_named_or_has_the_higher_priority(
    layout: str, active: SlotName
) -> None:
    assert active_slot(fact(layout, "dump-slots-info").decode()) == active


@pytest.mark.parametrize(
    "dump",
    ["", "Active rootfs slot: C\n", "Active rootfs slot: \n", "slot: 0, priority: 15,\n",
     "slot: 0,  priority: 15, x\nslot: 1,  priority: 15, x\n", "Segmentation fault\n",
     "slot: 0,  retry_count: 3,  status: normal\nslot: 1,  retry_count: 3,  status: normal\n"],
)  # fmt: skip
def test_output_that_names_no_active_slot_names_none(dump: str) -> None:
    assert active_slot(dump) is None


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts(RELEASE.replace("R32", "R34"), XAVIER, True), "R34.6.1 boots by UEFI"),
        (Facts(RELEASE.replace("R32", "R35"), XAVIER, True), "R35.6.1 boots by UEFI"),
        (Facts("rubbish\n", XAVIER, True), "names no BSP release"),
        (Facts(None, XAVIER, True), "names no BSP release"),
        (Facts(RELEASE, ("nvidia,tegra234",), True), "no Jetson Xavier"),
        (Facts(RELEASE, (), True), "no Jetson Xavier"),
        (Facts(RELEASE, XAVIER, False), "nvbootctrl is not installed"),
    ],
)
def test_what_can_not_be_served_is_refused_with_the_reason(facts: Facts, why: str) -> None:
    refused = why_not(facts)
    assert refused is not None
    assert why in refused.why
    assert refused.hint


@pytest.mark.parametrize(
    ("bootable", "active", "expected"),
    [((True, True), "a", "a"), ((True, True), "b", "b"), ((True, False), "b", "a"),
     ((False, True), "a", "b"), ((False, False), "a", None)],
)  # fmt: skip
def test_a_slot_without_tries_is_passed_over(
    bootable: Tuple[bool, bool], active: SlotName, expected: Optional[SlotName]
) -> None:
    loader = Loader(False, "a", active, {"a": bootable[0], "b": bootable[1]})
    assert loader.next == expected


