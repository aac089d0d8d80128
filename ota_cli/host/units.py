"""Which units the systemd of a tree knows."""

from __future__ import annotations

import os
from pathlib import Path

from .inside import resolve

_DIRECTORIES = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")


def holds_unit(tree: Path, name: str) -> bool:
    """Whether the system in `tree` has the unit `name`; symlinks are followed inside only."""
    return any(os.path.isfile(f"{tree}{resolve(tree, f'{each}/{name}')}") for each in _DIRECTORIES)
