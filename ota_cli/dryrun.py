"""What an update would change, found by looking: nothing is read whole, nothing is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Tuple

from .core.changes import (
    Changes,
    KernelChange,
    count_files,
    count_others,
    is_other_file,
    largest,
)
from .core.local import LocalTree
from .core.plan import FileStep, Plan
from .entries import FileEntry
from .model import Device, Image
from .newsystem import kernel_of
from .ownkernel import in_use
from .persistent import present
from .source import on_the_wire


def changes(
    device: Device, image: Image, plan: Plan, standby: LocalTree, running: Optional[Path]
) -> Changes:
    """What `plan`, made for the `standby` slot as it is, changes there.

    Raises DoesNotFit and SlotUnusable where a persistent path can not be followed: the update
    would as well.
    """
    files, owners = image.tables.regulars, os.geteuid() == 0
    return Changes(
        files=count_files(plan, files, standby, owners=owners),
        others=count_others(plan, files, standby, owners=owners),
        downloads=largest(plan, lambda step: on_the_wire(image, step)),
        kernel=_kernel(device, image, plan, running),
        persisted=_persisted(device, image, running) if running else (),
    )


def _persisted(device: Device, image: Image, running: Path) -> Optional[Tuple[str, ...]]:
    try:
        return tuple(present(image.tables.persistents, device.settings.persist, running))
    except PermissionError:
        return None


def _kernel(
    device: Device, image: Image, plan: Plan, running: Optional[Path]
) -> Optional[KernelChange]:
    new = kernel_of(image)
    if new is None:
        return None
    old = in_use(device, running)

    def step_of(entry: Optional[FileEntry]) -> Optional[FileStep]:
        row = image.tables.regulars.paths.find(entry.path) if entry else None
        return None if row is None else plan.steps.find(row)

    is_other_version = bool(old.version) and old.version != new.version
    kernel, initrd = (
        is_other_file(step_of(entry), old.digests.get(name), is_other_version)
        for name, entry in (("kernel", new.kernel), ("initrd", new.initrd))
    )
    return KernelChange(old.version, new.version or None, kernel, initrd)
