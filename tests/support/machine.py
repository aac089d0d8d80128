"""A device below a directory that takes itself for a whole machine, with a simulated reboot.

What `ota` knows of a machine is mounted over the host's own, in a mount namespace of the one
command: /boot, /etc/ota, /run, /srv (its slots), /var/cache and the kernel's command line. There
`reboot` is a program that boots what the boot loader would boot next, on paper, and then does what
`ota-commit.service` would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import List

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.support.bench import BASE, environment, ota_argv

MACHINE_SLOTS = "slots:\n  a: {directory: /srv/a}\n  b: {directory: /srv/b}\n"

#: A tmpfs below /etc makes room for /etc/ota where the host has none.
_ENTER = """\
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mkdir -p /etc/ota
for each in boot etc/ota run srv var/cache proc/cmdline usr/sbin/reboot; do
    mount --bind "{root}/$each" "/$each"
done
exec "$@"
"""

_REBOOT = """\
#!/bin/sh
exec >>{root}/reboots 2>&1 </dev/null
PYTHONPATH={base} setsid {python} -m tests.support.machine {root} &
"""


def make_machine(root: Path) -> List[str]:
    """Makes the device at `root` a machine; the words that run those behind them on it."""
    (root / "slots").rename(root / "srv")
    for name in ("var/cache", "usr/sbin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    enter = root / "enter.sh"
    enter.write_text(_ENTER.format(root=root))
    reboot = root / "usr/sbin/reboot"
    reboot.write_text(_REBOOT.format(root=root, base=BASE, python=sys.executable))
    reboot.chmod(0o755)
    return ["unshare", "--mount", "sh", str(enter)]


def reboots(root: Path) -> List[str]:
    """The slots that the machine at `root` has booted since it was made."""
    log = root / "reboots"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split()[1] for line in lines if line.startswith("booted ")]


def boot(root: Path) -> None:
    """Boots; a trial tries to confirm itself, and leaves where its checks fail."""
    booted = next_boot(probe(root))
    print("booted", booted.slot, flush=True)
    if not booted.trial:
        return
    argv = ["unshare", "--mount", "sh", str(root / "enter.sh"), *ota_argv(), "commit"]
    if subprocess.run(argv, env=environment(), check=False).returncode == 18:
        print("booted", next_boot(probe(root)).slot, flush=True)


if __name__ == "__main__":
    os.chdir("/")
    boot(Path(sys.argv[1]))
