"""`ota demo`: a whole update on a throw-away device in a temporary directory.

Everything but the reboot is real: images are built, signed, served over TLS and verified; the
boot loader's files are GRUB's. The device is a directory, its system is a handful of files, and
the reboot is simulated by `boot.simulate` from the files GRUB would read. Needs no root, no
network beyond loopback, no hardware.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from .boot.simulate import next_boot
from .errors import OtaError
from .events import Emit, Note, silent
from .host.files import temporary_errors
from .host.interrupts import undisturbed
from .image.build import BuildOptions, build
from .image.keys import make_image_keys
from .image.prepare import prepare
from .image.serve import DevServer
from .image.sign import sign
from .probe import probe

_GRUB_CFG = """\
# A stand-in for what grub-mkconfig writes.
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
_ECU_INFO = """\
format_version: 1
ecu_id: demo
bootloader: grub
slots:
  a: {directory: /slots/a}
  b: {directory: /slots/b}
"""
_FSTAB = "LABEL=slot-a / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n"


@dataclass(frozen=True)
class Step:
    """One command of the demonstration, what it is for, and how it ended."""

    why: str
    argv: Tuple[str, ...]
    exit_code: int
    output: str


@dataclass(frozen=True)
class Demonstration:
    """All steps. `kept`: the directory, where the user asked to keep it."""

    steps: Tuple[Step, ...]
    kept: str


class DemoFailed(OtaError):
    """A step of the demonstration did not end as it should: a bug."""

    slug = "demo-failed"


def demonstrate(keep: bool, emit: Emit) -> Demonstration:
    """Makes the device and two images, updates, commits and rolls back.

    Raises DemoFailed when a step ends with another exit code than it should, and ConfigError where
    there is no room for it.
    """
    with _workshop(keep) as base:
        emit(Note(f"building two images and a device in {base}"))
        with temporary_errors():
            anchor = _publish(base)
            device = _make_device(base, anchor)
        with DevServer(base / "images") as server:
            steps = list(_story(device, server, base, emit))
    return Demonstration(tuple(steps), str(base) if keep else "")


def _story(device: Path, server: DevServer, base: Path, emit: Emit) -> Iterator[Step]:
    """The commands a technician would type, and two simulated reboots."""
    runner = _Runner(device, server.cacert, base, emit)
    v1, v2 = f"{server.url}v1/", f"{server.url}v2/"
    yield runner.image("first provisioning: fill slot a with version 1", v1)
    _boot_first_time(device)
    yield runner.ota("prepare the device once", "setup")
    yield runner.ota("what runs?", "status")
    yield runner.ota("is version 2 an update?", "check", *runner.at(v2), expect=20)
    yield runner.ota("bring it into slot b and arm it", "update", *runner.at(v2))
    runner.reboot()
    yield runner.ota("health checks passed: confirm it", "commit")
    yield runner.ota("version 2 is the default now", "status")
    yield runner.ota("back to version 1, which is still in slot a", "rollback")
    runner.reboot()
    yield runner.ota("confirm that as well", "commit")
    yield runner.ota("and all is as it was", "status")


@dataclass(frozen=True)
class _Runner:
    """Runs `ota` as its user would, in a process of its own, and shows what it prints."""

    device: Path
    cacert: Path
    base: Path
    emit: Emit

    def at(self, url: str) -> Tuple[str, ...]:
        return ("--version", url, "--cacert", str(self.cacert))

    def ota(self, why: str, *words: str, expect: int = 0) -> Step:
        return self._run(why, ("ota", *words, "--root", str(self.device)), expect)

    def image(self, why: str, url: str) -> Step:
        target = self.device / "slots" / "a"
        anchors = self.base / "keys"
        words = ("ota", "image", "unpack", url, str(target), "--cacert", str(self.cacert))
        return self._run(why, (*words, "--anchors", str(anchors)), 0)

    def reboot(self) -> None:
        booted = next_boot(probe(self.device))
        trial = ", on trial" if booted.trial else ""
        self.emit(Note(f"(simulated reboot: slot {booted.slot} comes up{trial})"))

    def _run(self, why: str, argv: Tuple[str, ...], expect: int) -> Step:
        shown = " ".join(argv).replace(str(self.base), "DEMO")
        self.emit(Note(f"# {why}"))
        self.emit(Note(f"$ {shown}"))
        done = subprocess.run(
            [sys.executable, "-m", "ota_cli", *argv[1:], "--output", "plain"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_environment(), check=False,
        )  # fmt: skip
        output = done.stdout.decode("utf-8", "replace").replace(str(self.base), "DEMO")
        for line in output.splitlines():
            self.emit(Note(f"  {line}"))
        if done.returncode != expect:
            raise DemoFailed(f"`{shown}` ended with {done.returncode} instead of {expect}")
        return Step(why, argv, done.returncode, output)


def _environment() -> Dict[str, str]:
    """Without the settings of this machine's own device: `OTA_<KEY>` wins over `ota.yml`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTA_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def _workshop(keep: bool) -> Iterator[Path]:
    with temporary_errors():
        base = Path(tempfile.mkdtemp(prefix="ota-demo-"))
    try:
        yield base
    finally:
        if not keep:
            with undisturbed():
                _remove(base)


def _remove(base: Path) -> None:
    """Also directories the demo's system made unwritable."""
    for directory, names, _ in os.walk(base):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(base)


def _publish(base: Path) -> Path:
    """Two signed images below `base`/images; returns the anchor that devices trust."""
    keys = base / "keys"
    keys.mkdir()
    chain = make_image_keys()
    (keys / "anchor.pem").write_bytes(chain.anchor)
    (keys / "sign.crt").write_bytes(chain.signer.certificate)
    (keys / "sign.key").write_bytes(chain.signer.key)
    (base / "images").mkdir()
    for version in (1, 2):
        tree, image = base / f"rootfs-v{version}", base / "images" / f"v{version}"
        _make_system(tree, version)
        prepare(tree, [keys / "anchor.pem"], silent)
        build(tree, image, BuildOptions(version=f"demo-{version}"), silent)
        sign(image, keys / "sign.key", keys / "sign.crt", datetime.now(timezone.utc))
    return keys / "anchor.pem"


def _make_device(base: Path, anchor: Path) -> Path:
    root = base / "device"
    for name in ("boot/grub", "boot/ota", "etc/ota/certs", "proc", "slots/b", "run"):
        (root / name).mkdir(parents=True)
    (root / "boot" / "grub" / "grub.cfg").write_text(_GRUB_CFG)
    (root / "boot" / "ota" / "ecu_info.yml").write_text(_ECU_INFO)
    shutil.copy(anchor, root / "etc" / "ota" / "certs" / "anchor.pem")
    return root


def _boot_first_time(device: Path) -> None:
    """A device is delivered running slot a, by whatever means its maker has."""
    (device / "proc" / "cmdline").write_text("root=LABEL=slot-a ro quiet ota.slot=a\n")


def _make_system(tree: Path, version: int) -> None:
    """A small but varied root file system; the two versions differ as releases do."""
    rng = random.Random(0)  # noqa: S311 (contents, not keys)
    files: List[Tuple[str, bytes, int]] = [
        (f"boot/vmlinuz-6.1.0-{version}", _noise(rng, 200_000 + version), 0o644),
        (f"boot/initrd.img-6.1.0-{version}", _noise(rng, 400_000 + version), 0o600),
        ("etc/fstab", _FSTAB.encode(), 0o644),
        ("etc/os-release", f"NAME=demo\nVERSION={version}\n".encode(), 0o644),
        ("etc/hostname", b"demo\n", 0o644),
        ("usr/bin/sh", b"\x7fELF stand-in for a shell\n", 0o755),
        ("sbin/init", b"\x7fELF stand-in for init\n", 0o755),
        ("usr/bin/ota", b"#!/bin/sh\n# stand-in for the client inside the image\n", 0o755),
        ("usr/bin/passwd", b"\x7fELF stand-in with suid\n", 0o4755),
        ("opt/app/data.bin", b"map tile " * 40_000 + str(version).encode(), 0o644),
        (f"opt/app/{'old' if version == 1 else 'new'}-name", b"the same content " * 900, 0o644),
        ("srv/it's, 100%/file", b"odd names are fine\n", 0o640),
    ]
    files += [
        (f"usr/share/doc/package-{n}/README", f"package {n}\n".encode() * (n + 1), 0o644)
        for n in range(150)
    ]
    for name, data, mode in files:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    os.link(tree / "usr/bin/sh", tree / "usr/bin/dash")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    for name in ("dev", "proc", "sys", "run", "tmp"):
        (tree / name).mkdir()
    (tree / "tmp").chmod(0o1777)


def _noise(rng: random.Random, count: int) -> bytes:
    """Bytes that do not compress, like a kernel."""
    return rng.getrandbits(8 * count).to_bytes(count, "little")
