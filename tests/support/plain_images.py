"""Tables straight from a tree, and a fetch straight from it: the engine without a network."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Callable, Generator, List, Optional

from ota_cli.core.plan import FileStep, ManySteps, Plan
from ota_cli.entries import Digest, DirEntry, FileEntry, LinkEntry
from ota_cli.events import silent
from ota_cli.fill import Fetch, Filled, fill
from ota_cli.model import Tables
from ota_cli.packed import PackedFiles
from ota_cli.packedothers import PackedDirectories, PackedLinks
from ota_cli.survey import planned

#: Whether slots have room for what is new beside what goes.
IS_ROOMY = True


def tables_of(tree: Path) -> Tables:
    """The tables a publisher would make of `tree`."""
    directories: List[DirEntry] = []
    symlinks: List[LinkEntry] = []
    regulars: List[FileEntry] = []
    for directory, names, files in os.walk(tree):
        for name in [*names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            shown = f"/{path.relative_to(tree)}"
            mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
            if stat.S_ISLNK(status.st_mode):
                symlinks.append(LinkEntry(shown, os.readlink(path), uid, gid))
            elif stat.S_ISDIR(status.st_mode):
                directories.append(DirEntry(shown, mode, uid, gid))
            else:
                data = path.read_bytes()
                digest = Digest(hashlib.sha256(data).digest())
                inode = str(status.st_ino) if status.st_nlink > 1 else None
                regulars.append(FileEntry(shown, mode, uid, gid, digest, len(data), inode, False))
    return Tables(
        PackedDirectories(directories), PackedLinks(symlinks), PackedFiles(regulars), (), None
    )


def fetch_from(tree: Path, fetched: List[str]) -> Fetch:
    """Gives content from `tree`, noting in `fetched` which paths were asked for."""

    def fetch(
        steps: ManySteps, directory: Path, attend: Callable[[], None]
    ) -> Generator[FileStep, None, None]:
        for step in steps:
            attend()
            fetched.append(step.entry.path)
            data = Path(f"{tree}{step.entry.path}").read_bytes()
            (directory / step.entry.digest.hex()).write_bytes(data)
            yield step

    return fetch


def bring(
    tree: Path,
    standby: Path,
    running: Path = Path("/nonexistent"),
    tables: Optional[Tables] = None,
) -> Brought:
    """Plans and fills `standby` with the image of `tree`, or with `tables` for its contents."""
    tables = tables or tables_of(tree)
    fetched: List[str] = []
    source = running if running.is_dir() else None
    return Brought(filled(tables, standby, source, fetch_from(tree, fetched)).plan, fetched)


def filled(tables: Tables, standby: Path, running: Optional[Path], fetch: Fetch) -> Filled:
    """Plans and fills `standby` with the tree of `tables`, as far as needed with what `fetch`
    brings."""
    plan, before = planned(tables, standby, running, silent, unlock=True)
    return fill(standby, running, plan, before, None, fetch, silent, is_roomy=IS_ROOMY)


class Brought:
    """What `bring` planned, and which paths it fetched."""

    def __init__(self, plan: Plan, fetched: List[str]) -> None:
        self.plan = plan
        self.fetched = fetched
