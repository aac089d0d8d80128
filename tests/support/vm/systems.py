"""The systems a machine runs: Debian and its next version, with `ota` and the agent inside."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

from ota_cli.core.kernels import kernels
from tests.support import debian
from tests.support.bench import BASE, ota

PACKAGES = f"{debian.PACKAGES},python3,iproute2,zstd,ca-certificates,grub-common"
#: Not needed to boot and update, and large or many: an emulated machine is slow with both.
_TRIMMED = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n",
    "usr/share/common-licenses", "usr/share/zoneinfo", "var/cache/apt", "var/lib/apt/lists",
    "usr/lib/udev/hwdb.bin", "usr/lib/udev/hwdb.d", "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/python3/dist-packages/pygments", "usr/share/bash-completion", "usr/share/zsh",
    "usr/share/bug", "usr/share/lintian", "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/test",
    "usr/lib/python3.11/unittest", "usr/lib/python3.11/distutils", "usr/lib/python3.11/idlelib",
)  # fmt: skip
#: The kernel modules that such a machine may load, below `kernel/`.
_MODULES = (
    "drivers/net/virtio_net.ko", "drivers/net/net_failover.ko", "net/core/", "fs/fat/", "fs/nls/",
    "drivers/virtio/", "drivers/block/", "fs/ext4/", "fs/jbd2/", "fs/mbcache.ko", "lib/", "crypto/",
    "arch/x86/crypto/",
)  # fmt: skip
#: Units that such a machine can boot without, and that take it seconds.
_MASKED = (
    "e2scrub_reap.service", "e2scrub_all.timer", "apt-daily.timer", "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer", "fstrim.timer", "systemd-tmpfiles-clean.timer", "getty.target",
    "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
    "systemd-random-seed.service", "apparmor.service", "dev-hugepages.mount",
    "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
    "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
    *(f"modprobe@{module}.service" for module in ("configfs", "drm", "efi_pstore", "fuse", "loop")),
)  # fmt: skip
_PACKAGES = "usr/lib/python3/dist-packages"
_NETWORK = "[Match]\nName=e*\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
_AGENT_UNIT = """\
[Unit]
Description=Answers the test bench on the second serial port
After=basic.target

[Service]
ExecStart=/usr/bin/python3 -u /usr/local/sbin/bench-agent
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
_OTA = """\
#!/usr/bin/python3
from ota_cli.__main__ import main

main()
"""


def make_systems(scratch: Path) -> debian.Debian:
    """Both trees, bootable, without anchors; skips, saying why, where they can not be made."""
    return debian.make_debian(scratch, PACKAGES, "machine", _finish)


def prepare(tree: Path, anchor: Path) -> None:
    """Puts the program as it is now into a tree and makes that able to confirm itself."""
    program = tree / _PACKAGES / "ota_cli"
    shutil.rmtree(program, ignore_errors=True)
    shutil.copytree(BASE / "ota_cli", program, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(tree, f"{_PACKAGES}/ota_cli")
    done = ota("image", "prepare", tree, "--anchor", anchor)
    assert done.code == 0, done.err
    made = subprocess.run(
        ["chroot", tree, "update-initramfs", "-u"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def install_ota(tree: Path) -> None:
    """What the program depends on, for the tree's Python, and its command; `prepare` puts in
    the program itself."""
    version = _python(tree)[len("python") :]
    _pip(
        "install", "--target", str(tree / _PACKAGES), "--upgrade", "--no-compile",
        "--python-version", version,
        "--only-binary=:all:", "--platform", "manylinux2014_x86_64",
        "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_34_x86_64",
        *_dependencies(),
    )  # fmt: skip
    program = tree / "usr/bin/ota"
    program.write_text(_OTA)
    program.chmod(0o755)


def _finish(tree: Path, scratch: Path) -> None:
    """What turns a bare Debian into a system of the test bench."""
    (tree / "etc/hostname").write_text("bench\n")
    (tree / "etc/fstab").write_text(
        "LABEL=slot-a / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n"
    )
    (tree / "etc/systemd/network").mkdir(parents=True, exist_ok=True)
    (tree / "etc/systemd/network/bench.network").write_text(_NETWORK)
    shutil.copy(Path(__file__).with_name("agent.py"), tree / "usr/local/sbin/bench-agent")
    (tree / "etc/systemd/system/bench-agent.service").write_text(_AGENT_UNIT)
    _enable(tree, "bench-agent.service", "/etc/systemd/system")
    _enable(tree, "systemd-networkd.service", "/lib/systemd/system")
    for unit in _MASKED:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    install_ota(tree)
    _trim(tree)
    _compile(tree, _PACKAGES, f"usr/lib/{_python(tree)}")


def _python(tree: Path) -> str:
    """The name of the tree's Python, such as python3.11."""
    return next((tree / "usr/bin").glob("python3.[0-9]*")).name


def _compile(tree: Path, *directories: str) -> None:
    """Byte code that says nothing of times: the same for the same source in both systems."""
    argv = ["chroot", tree, "python3", "-m", "compileall", "-f", "-q"]
    argv += ["--invalidation-mode", "unchecked-hash", *(f"/{each}" for each in directories)]
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


def _trim(tree: Path) -> None:
    """Leaves what it takes to boot the newest kernel, and to update."""
    for name in _TRIMMED:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    newest = kernels([path.name for path in (tree / "boot").iterdir()])[0].version
    for path in (tree / "boot").iterdir():
        if not path.name.endswith(newest):
            path.unlink()
    for modules in (tree / "usr/lib/modules").iterdir():
        if modules.name != newest:
            shutil.rmtree(modules)
            continue
        for module in (modules / "kernel").rglob("*.ko"):
            if not str(module.relative_to(modules / "kernel")).startswith(_MODULES):
                module.unlink()


def _dependencies() -> List[str]:
    setup = configparser.ConfigParser()
    setup.read(BASE / "setup.cfg")
    return setup["options"]["install_requires"].split()


def _enable(tree: Path, unit: str, directory: str) -> None:
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    link = wants / unit
    if not link.is_symlink():
        link.symlink_to(f"{directory}/{unit}")


def _pip(*words: str) -> None:
    argv: Sequence[str] = [sys.executable, "-m", "pip", "--quiet", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
