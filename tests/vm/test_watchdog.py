"""A new kernel that hangs without a panic: the machine's watchdog resets it, the old one boots."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.blocks import needs_root, run
from tests.support.debian import download
from tests.support.nginx import needs_nginx
from tests.support.vm.machine import Machine, needs_qemu
from tests.support.vm.verbs import status, update
from tests.vm.conftest import Bench, PreparedDisk

pytestmark = [
    needs_root, needs_nginx, needs_qemu, pytest.mark.soak, pytest.mark.xdist_group("machines 1"),
]  # fmt: skip

DRIVER = "i6300esb"
#: Real-time tasks on every processor leave nothing to PID 1 and to the deadline.
HANG = """\
#!/bin/sh
echo -1 > /proc/sys/kernel/sched_rt_runtime_us
for cpu in 1 2 3; do
  chrt --fifo 99 sh -c 'while :; do :; done' &
done
wait
"""


def test_a_kernel_that_hangs_is_reset_by_the_watchdog(
    bench: Bench, adopted_disk: PreparedDisk, tmp_path: Path
) -> None:
    def watched(tree: Path) -> None:
        put_generic_kernel(tree, tmp_path)
        put(tree / "etc/systemd/system.conf.d/watchdog.conf", "[Manager]\nRuntimeWatchdogSec=20\n")
        put(tree / "etc/ota/health.d/10-hang", HANG, 0o755)

    bench.publisher.publish_changed("watched", tmp_path, watched)
    disk = adopted_disk.copy(tmp_path / "disk.img")
    with Machine(disk, tmp_path / "machine", ["-device", DRIVER]) as machine:
        machine.boot()
        update(machine, bench.server, "watched")
        machine.begin("systemctl reboot")
        machine.wait_until_off()
        machine.switch_on()
        machine.wait_until_off()
        assert "ota-commit.serv" in machine.console()
        assert "Kernel panic" not in machine.console()
        machine.boot()
        found = status(machine)
        assert (found["running"], found["verdict"]["code"]) == ("a", "fell_back")


def put_generic_kernel(tree: Path, scratch: Path) -> None:
    """Debian's generic kernel in place of the one for clouds, which has no watchdog drivers."""
    package = download("linux-image-amd64", scratch / "packages")
    unpacked = scratch / "unpacked"
    run("dpkg-deb", "-x", package, unpacked)
    version = next((unpacked / "boot").glob("vmlinuz-*")).name[len("vmlinuz-") :]
    for path in (tree / "boot").iterdir():
        path.unlink()
    for name in ("vmlinuz", "config"):
        shutil.copy(unpacked / f"boot/{name}-{version}", tree / "boot")
    shutil.rmtree(tree / "usr/lib/modules")
    shutil.copytree(unpacked / "lib/modules", tree / "usr/lib/modules", symlinks=True)
    put(tree / "etc/initramfs-tools/modules", f"{DRIVER}\nvirtio_blk\nvirtio_pci\next4\n")
    put(tree / "etc/initramfs-tools/conf.d/small", "MODULES=list\n")
    for words in (["depmod", version], ["update-initramfs", "-c", "-k", version]):
        subprocess.run(["chroot", tree, *words], check=True, capture_output=True)
    keep = ("virtio_net.ko", "net_failover.ko", "failover.ko", f"{DRIVER}.ko", "watchdog.ko")
    for module in (tree / "usr/lib/modules").rglob("*.ko"):
        if module.name not in keep:
            module.unlink()


def put(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
