"""How large slots are, for `ota status`: nothing is mounted, nobody needs root."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ota_cli.host.capacity import Capacity, capacity
from ota_cli.model import Device, DeviceSlot, FileSlot, SlotLocation
from ota_cli.probe import probe
from tests.support.bench import ota

BLOCKS = Path("/sys/class/block")


def of(device: Path, location: SlotLocation) -> Capacity:
    found: Device = probe(device)
    return capacity(replace(found, slots={**found.slots, "b": location}), "b")


def test_a_file_is_as_large_as_it_is(device: Path, tmp_path: Path) -> None:
    (tmp_path / "slot.img").write_bytes(b"\0" * 5000)
    assert of(device, FileSlot(tmp_path / "slot.img")) == Capacity(5000)


@pytest.mark.parametrize("spec", ["/dev/none", "PARTUUID=none", "LABEL=../../..", "LABEL="])
def test_what_is_not_there_has_no_size_and_is_no_error(spec: str, device: Path) -> None:
    assert of(device, DeviceSlot(spec)) == Capacity()
    assert of(device, FileSlot(Path("/nowhere"))) == Capacity()


def test_a_partition_has_the_size_that_its_end_is_at(device: Path) -> None:
    nodes = [Path("/dev") / path.name for path in BLOCKS.iterdir()] if BLOCKS.is_dir() else []
    readable = [node for node in nodes if os.access(node, os.R_OK)]
    if not readable:
        pytest.skip("no block device can be read here")
    with open(readable[0], "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
    assert of(device, DeviceSlot(str(readable[0]))) == Capacity(end)


def test_directories_share_their_room_and_tell_no_size(device: Path) -> None:
    slots = ota("status", "--root", device, "--json").result["slots"]
    assert {each["size_bytes"] for each in slots.values()} == {None}
