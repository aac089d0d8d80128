"""Whether what CBoot loads of a slot is what was installed."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Dict

import pytest

from ota_cli.boot.cboot import boot_copy
from ota_cli.boot.cboot_files import holds, listed, listing, seen
from ota_cli.errors import BootRefused
from ota_cli.model import DeviceSlot
from ota_cli.probe import probe
from tests.support.blocks import leftovers, needs_root, run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    found = tmp_path / "tree"
    (found / "boot/extlinux").mkdir(parents=True)
    (found / "boot/extlinux/extlinux.conf").write_text("LABEL p\n  LINUX /boot/latest\n")
    (found / "boot/Image").write_text("kernel")
    (found / "boot/latest").symlink_to("Image")
    return found


def test_what_boots_is_listed_and_found_again(tree: Path) -> None:
    wanted = listed(listing(tree))
    assert sorted(wanted) == ["boot/Image", "boot/extlinux/extlinux.conf"]
    assert holds(tree, wanted)
    (tree / "boot/Image").write_text("kernal")
    assert not holds(tree, wanted)
    (tree / "boot/Image").unlink()
    assert not holds(tree, wanted)
    assert not holds(tree, {}), "of what an older ota installed only that it is there is known"


def test_what_is_not_below_boot_would_not_be_in_the_copy(tree: Path) -> None:
    (tree / "Image").write_text("kernel")
    (tree / "boot/extlinux/extlinux.conf").write_text("LABEL p\n  LINUX /Image\n")
    with pytest.raises(BootRefused) as caught:
        listing(tree)
    assert "/Image is not" in caught.value.message


def looked_at(place: Path, wanted: Dict[str, str]) -> bool:
    with seen(place) as found:
        return holds(found, wanted)


@needs_root
def test_a_partition_is_looked_at_without_a_trace(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "boot.img"
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, image, "8M")
    before, wanted = image.read_bytes(), listed(listing(tree))
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(looked_at, image, wanted).result()
        assert not pool.submit(looked_at, image, {**wanted, "boot/Image": "0" * 64}).result()
    assert image.read_bytes() == before
    assert leftovers() == ""


@needs_root
@pytest.mark.parametrize("linked", [False, True])
def test_the_copy_of_the_slot_that_runs_is_known_on_a_real_machine_as_well(
    tmp_path: Path, linked: bool
) -> None:
    """There the running slot is seen at `/`, which is no partition of NVMe by name."""
    node = tmp_path / "nvme0n1p1"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, 250))
    (tmp_path / "by-partuuid").symlink_to(node)
    slot = DeviceSlot(str(tmp_path / "by-partuuid" if linked else node))
    (tmp_path / "root").mkdir()
    device = replace(probe(tmp_path / "root"), root=Path("/"), running="a", slots={"a": slot})
    assert boot_copy(device, "a") == tmp_path / "mmcblk0p1"
