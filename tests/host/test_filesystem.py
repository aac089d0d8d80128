"""A new file system takes the place of the one that was there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ota_cli.host.filesystem import make_file_system, probe_file_system


@pytest.mark.parametrize("label", ["rootfs-b", "ROOT B", "Größe", '"$\\x'])
def test_a_new_file_system_is_found_by_the_label_of_the_old_one(tmp_path: Path, label: str) -> None:
    node = tmp_path / "slot.img"
    with node.open("wb") as stream:
        stream.truncate(8 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-L", label, node], check=True)
    make_file_system(str(node), probe_file_system(str(node)), None)
    argv = ["blkid", "-p", "-o", "value", "-s", "LABEL", str(node)]
    assert subprocess.check_output(argv, text=True, encoding="utf-8") == f"{label}\n"
