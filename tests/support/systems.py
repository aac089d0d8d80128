"""Small root file systems that hold one of everything, in two versions."""

from __future__ import annotations

import os
import random
from pathlib import Path


def make_system(tree: Path, version: int) -> None:
    """A system of `version` 1 or 2, which differ as two releases do; it can confirm itself."""
    rng = random.Random(version)
    write(
        tree / f"boot/vmlinuz-6.1.0-{version}", rng.getrandbits(8 * 90_000).to_bytes(90_000, "big")
    )
    write(tree / f"boot/initrd.img-6.1.0-{version}", b"%d" % version * 50_000, 0o600)
    write(
        tree / "etc/fstab", b"LABEL=other / ext4 defaults 0 1\n/dev/sdz /data ext4 nofail\n# kept\n"
    )
    write(tree / "etc/hostname", b"image\n")
    write(tree / "etc/os-release", b"VERSION=%d\n" % version)
    write(
        tree / "etc/passwd", b"root:x:0:0::/:/bin/sh\nsvc:x:%d:1000::/:/bin/sh\n" % (1000 + version)
    )
    write(tree / "usr/bin/sh", b"\x7fELF shell", 0o755)
    write(tree / "usr/bin/su", b"\x7fELF su", 0o4755)
    write(tree / "usr/bin/ota", b"#!/bin/sh\n", 0o755)
    write(tree / "sbin/init", b"\x7fELF init", 0o755)
    write(tree / "opt/large", b"%d" % version + b"compressible " * 30_000)
    write(tree / f"opt/{'before' if version == 1 else 'after'}", b"moved" * 5000)
    write(tree / "srv/odd/it's, 100%? #;&=+~/ü\u2028", b"odd names")
    write(tree / "srv/odd/-rf", b"dash")
    write(tree / "srv/empty", b"")
    for number in range(30):
        write(tree / f"usr/share/{number}", b"%d " % (number + (number % 7 == 0) * version) * 300)
    os.link(tree / "usr/bin/sh", tree / "usr/bin/dash")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "srv/dangling").symlink_to("/no/such")
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (tree / name).mkdir()
    (tree / "tmp").chmod(0o1777)
    _changed_types(tree / "srv/types", version)
    for unit, target in (("ota-commit", "multi-user"), ("ota-deadline", "sysinit")):
        write(tree / f"etc/systemd/system/{unit}.service", b"[Service]\n")
        wants = tree / f"etc/systemd/system/{target}.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / f"{unit}.service").symlink_to(f"../{unit}.service")


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """A file of `mode`, whatever the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _changed_types(base: Path, version: int) -> None:
    """Each name is something else in the other version."""
    kinds = ["file", "link", "directory"]
    for first in kinds:
        for second in kinds:
            if first != second:
                _make(base / f"{first}-{second}", first if version == 1 else second)


def _make(path: Path, kind: str) -> None:
    if kind == "file":
        write(path, b"a file now")
    elif kind == "link":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("/etc")
    else:
        write(path / "below" / "file", b"in a directory")
