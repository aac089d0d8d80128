"""A real Debian and its next version: debootstrap, and a dist-upgraded copy.

Made once for all workers of a run, and kept in OTA_TEST_CACHE, if that is set, for the next run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

PACKAGES = "systemd-sysv,udev,kmod,e2fsprogs,initramfs-tools,linux-image-cloud-amd64"
_BEGIN = """\
set -e
mount -t proc proc "$1/proc"
export DEBIAN_FRONTEND=noninteractive
"""
_INSTALL = """\
chroot "$1" apt-get -q update
chroot "$1" apt-get -qy install --no-install-recommends $2
"""
_UPGRADE = """\
for file in /etc/apt/sources.list.d/*.sources; do
    grep -q "^Suites:.*$2" "$file" && cp "$file" "$1/etc/apt/sources.list.d/"
done
chroot "$1" apt-get -q update
chroot "$1" apt-get -qy dist-upgrade
mkdir -p "$3"
find "$1"/var/cache/apt/archives -name 'linux-image-*.deb' -exec mv -t "$3" {} +
"""
_END = """\
chroot "$1" apt-get clean
rm -rf "$1"/var/lib/apt/lists/*
"""


class Debian(NamedTuple):
    """Two root file systems, and the kernel packages that the newer one got."""

    old: Path
    new: Path
    packages: Path


def make_debian(
    scratch: Path,
    packages: str = PACKAGES,
    name: str = "debian",
    finish: Callable[[Path, Path], None] = lambda tree, scratch: None,
    more: str = "",
) -> Debian:
    """Both trees; skips, saying why, where they can not be made.

    `more`: packages that need apt's own solver, by name, with spaces between.
    `finish(tree, scratch)` is done to both, once; the name keeps different ones apart.
    """
    if os.geteuid() != 0:
        pytest.skip("debootstrap needs root")
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed here")
    suite, mirror = _source()
    place = _shared(scratch)
    base = place / f"{name}-{suite}"
    found = Debian(base / "old", base / "new", base / "packages")
    with open(place / f"{name}-{suite}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "complete").exists():
            shutil.rmtree(base, ignore_errors=True)
            base.mkdir()
            _make(found, packages, more, suite, mirror)
            for tree in (found.old, found.new):
                finish(tree, scratch)
            (base / "complete").touch()
    return found


def _make(found: Debian, packages: str, more: str, suite: str, mirror: str) -> None:
    _run("debootstrap", "--variant=minbase", f"--include={packages}", suite, str(found.old), mirror)
    if more:
        _run_in(_INSTALL, str(found.old), more)
    _run("cp", "-a", str(found.old), str(found.new))
    _run_in(_UPGRADE, str(found.new), suite, str(found.packages))


def _run_in(script: str, *words: str) -> None:
    """Runs what `script` does with the tree that the first word names; its mounts end with it."""
    _run(
        "unshare", "--mount", "--propagation", "private", "bash", "-c", f"{_BEGIN}{script}{_END}",
        "debian", *words, timeout_s=3600,
    )  # fmt: skip


def _shared(scratch: Path) -> Path:
    """A directory that all workers of this run know; `scratch` lies two levels below pytest's."""
    cache = os.environ.get("OTA_TEST_CACHE")
    if cache:
        return Path(cache)
    return scratch.parents[1] if "PYTEST_XDIST_WORKER" in os.environ else scratch


def download(package: str, directory: Path) -> Path:
    """The file of the package that the meta package `package` depends on first."""
    listed = subprocess.run(
        ["apt-cache", "depends", package], capture_output=True, text=True, check=True
    ).stdout
    name = listed.split("Depends: ")[1].split()[0]
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return next(directory.glob(f"{name}_*.deb"))


def _source() -> tuple[str, str]:
    """Suite and mirror of this machine's own packages."""
    suite = ""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            suite = line.split("=")[1].strip('"')
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    rows = [line.split() for line in listing.splitlines()]
    mirrors = [row[1] for row in rows if row and row[0] == suite]
    if not mirrors:
        pytest.skip("this machine has no Debian package source to make a system from")
    return suite, mirrors[0]


def _run(*argv: str, timeout_s: int = 900) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
