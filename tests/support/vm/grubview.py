"""A boot partition as GRUB's own file system code reads it, which replays no journal."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO, Iterator, NamedTuple, Optional, Tuple

import pytest

from ota_cli.boot.simulate import chosen_files, grub_choice
from ota_cli.core.grubcfg import read_arguments_file, rule_of
from ota_cli.model import SlotName

FSTEST = "grub-fstest"
needs_grub_fstest = pytest.mark.skipif(
    shutil.which(FSTEST) is None, reason="grub-fstest (package grub-common) is not installed"
)

_SECTOR = 512
_EXTENT = re.compile(r"(\d+)(?:\+(\d+))?(?:\[(\d+)-(\d+)\])?")
_SETS = tuple(f"ota/slot-{slot}{place}" for slot in "ab" for place in ("", "/refreshed"))
_TEXTS = (
    "grub/custom.cfg", "ota/bootenv", "ota/bootenv.bak", "ota/slot-a/good", "ota/slot-b/good",
    *(f"{each}/{name}" for each in _SETS for name in ("ready", "arguments.cfg")),
)  # fmt: skip


class Loaded(NamedTuple):
    """What GRUB starts. `arguments`: the kernel's, without what a trial adds (`mode`)."""

    slot: SlotName
    kernel: bytes
    initrd: Optional[bytes]
    arguments: Tuple[str, ...]
    mode: Tuple[str, ...]


class GrubView:
    """Reads files of the partition image `image`, an ext4, by their paths on it."""

    def __init__(self, image: Path) -> None:
        self._image = image

    def read(self, path: str) -> Optional[bytes]:
        """The content of a file, None where GRUB finds none or can not read it."""
        return self._ask("cat", path)

    def large(self, path: str) -> Optional[bytes]:
        """The same for a large file, from the places GRUB says it lies at."""
        listed = self._ask("blocklist", path)
        if listed is None:
            return None
        with open(self._image, "rb") as file:
            return b"".join(_extents(file, listed.decode("ascii")))

    def first_sector(self, path: str) -> int:
        """Where a file begins, in sectors from the start of the partition."""
        listed = self._ask("blocklist", path)
        assert listed, path
        return int(_EXTENT.findall(listed.decode("ascii"))[0][0])

    def boots(self, work: Path) -> Iterator[Loaded]:
        """What an ordinary start loads, then what the next loads, and so on, as the rule has it.

        The rule is followed by `ota_cli.boot.simulate`, which other tests hold against GRUB's
        emulator. Raises BootRefused where GRUB would not come to any slot.
        """
        shutil.rmtree(work, ignore_errors=True)
        self._copy_out(work)
        assert rule_of((work / "grub/custom.cfg").read_text()) is not None, "no rule of ota"
        while True:
            slot, mode = grub_choice(work / "ota")
            files = chosen_files(work / "ota", slot)
            assert files is not None
            place = str(files.relative_to(work))
            words, has_initrd = read_arguments_file((files / "arguments.cfg").read_bytes())
            initrd = self.large(f"{place}/initrd") if has_initrd else None
            kernel = self.large(f"{place}/kernel") or b""
            yield Loaded(slot, kernel, initrd, tuple(words), tuple(mode))

    def _ask(self, command: str, path: str) -> Optional[bytes]:
        argv = [FSTEST, self._image, command, f"(loop0)/{path}"]
        done = subprocess.run(argv, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def _copy_out(self, work: Path) -> None:
        """What the rule looks at; of the kernels only that they are there."""
        found = {path: self.read(path) for path in _TEXTS}
        found.update(
            (f"{each}/kernel", self._ask("blocklist", f"{each}/kernel"))
            for each in _SETS
            if found[f"{each}/ready"]
        )
        for path, content in found.items():
            if content is not None:
                (work / path).parent.mkdir(parents=True, exist_ok=True)
                (work / path).write_bytes(content)


def _extents(file: BinaryIO, text: str) -> Iterator[bytes]:
    """The bytes of a block list: `first+count` sectors, or `first[from-to]` bytes of one."""
    for first, count, start, end in _EXTENT.findall(text):
        offset, size = int(first) * _SECTOR, int(count or 1) * _SECTOR
        if end:
            offset, size = offset + int(start), int(end) - int(start)
        file.seek(offset)
        yield file.read(size)
