"""Which units the systemd of a tree knows, and starts."""

from __future__ import annotations

import os
from pathlib import Path

from .inside import resolve

_DIRECTORIES = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")


def holds_unit(tree: Path, name: str) -> bool:
    """Whether the system in `tree` has the unit `name`; symlinks are followed inside only."""
    return any(os.path.isfile(f"{tree}{resolve(tree, f'{each}/{name}')}") for each in _DIRECTORIES)


def is_enabled(tree: Path, name: str) -> bool:
    """Whether some target of the system in `tree` wants the unit `name`, which is there."""
    wants = resolve(tree, "/etc/systemd/system")
    try:
        targets = [each for each in os.listdir(f"{tree}{wants}") if each.endswith(".wants")]
    except FileNotFoundError:
        return False
    links = [f"{wants}/{target}/{name}" for target in targets]
    return any(os.path.lexists(f"{tree}{link}") and _is_unit(tree, link) for link in links)


def _is_unit(tree: Path, link: str) -> bool:
    return os.path.isfile(f"{tree}{resolve(tree, link)}")
