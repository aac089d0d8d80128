"""A machine whose disk fails every write to one file of a partition."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import List

from tests.support.vm.disk import Partition, cut_out
from tests.support.vm.grubview import GrubView
from tests.support.vm.machine import Machine

_SECTOR_BYTES = 512


class RefusingMachine(Machine):
    """Writes to the first sector of `path` on the ext4 in `part` end in an I/O error."""

    def __init__(self, disk: Path, scratch: Path, part: Partition, path: str) -> None:
        scratch.mkdir(parents=True)
        view = GrubView(cut_out(disk, part, scratch / "partition.img"))
        self._sector = part.start // _SECTOR_BYTES + view.first_sector(path)
        super().__init__(disk, scratch)

    def _insert(self, disk: Path) -> None:
        self.disk = self._scratch / "disk.img"
        subprocess.run(["cp", "--sparse=always", disk, self.disk], check=True)

    def _drive(self) -> List[str]:
        options = {
            "driver": "raw",
            "node-name": "refusing",
            "file.driver": "blkdebug",
            "file.image.driver": "file",
            "file.image.filename": self.disk,
            "file.inject-error.0.event": "none",
            "file.inject-error.0.iotype": "write",
            "file.inject-error.0.errno": 5,
            "file.inject-error.0.sector": self._sector,
        }
        node = ",".join(f"{name}={value}" for name, value in options.items())
        device = "virtio-blk-pci,drive=refusing,werror=report"
        return ["-blockdev", node, "-device", device]
