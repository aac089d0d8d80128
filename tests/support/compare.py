"""Is a slot equal to the tree its image was built from? Judged by rsync, not by our own code."""

from __future__ import annotations

from pathlib import Path

from tests.support.blocks import mounted, run

#: Not part of the comparison: the updater's own, and what belongs to the device.
LEFT_OUT = ("/.ota", "/lost+found", "/etc/fstab", "/etc/ota", "/etc/machine-id", "/etc/hostname",
            "/etc/hosts")  # fmt: skip


def differences(tree: Path, image: Path, mountpoint: Path, *more: str) -> str:
    """What rsync would have to do to make the file system in `image` like `tree`."""
    left_out = [f"--exclude={path}" for path in (*LEFT_OUT, *more)]
    argv = ["rsync", "-aHAXnc", "--delete", "--itemize-changes", *left_out]
    with mounted(image, mountpoint, "ro,loop") as slot:
        found = run(*argv, f"{tree}/", f"{slot}/")
    # `/` itself has no entry in an image, and what belongs to the device is put into `/etc`
    return found.replace(".d..t...... ./\n", "").replace(".d..t...... etc/\n", "")
