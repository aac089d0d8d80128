"""Throw-away devices with a boot partition, and GRUB itself to judge them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest

from ota_cli.boot.simulate import SimulatedBoot, next_boot
from ota_cli.core.grubcfg import part
from ota_cli.entries import Digest
from ota_cli.events import Event
from ota_cli.model import BootFile, BootFiles, Device, DirectorySlot, SlotName
from ota_cli.probe import probe
from ota_cli.setup import SetupReport, setup
from tests.support.jetson import LAYOUTS, Jetson, fact

KERNEL = "vmlinuz-6.1.0-18-amd64"
INITRD = "initrd.img-6.1.0-18-amd64"
GRUB_CFG = """\
set timeout=5
set default=0
menuentry stock {
  echo STOCK
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
ECU_INFO = """\
format_version: "1"
ecu_id: bench
bootloader: {loader}
slots:
  a: {{directory: /slots/a}}
  b: {{directory: /slots/b}}
"""

needs_grub_editenv = pytest.mark.skipif(
    not shutil.which("grub-editenv"), reason="grub-editenv (package grub-common) is not installed"
)
needs_grub_emu = pytest.mark.skipif(
    not (shutil.which("grub-emu") and shutil.which("mke2fs") and shutil.which("script")),
    reason="grub-emu, mke2fs or script (packages grub-emu, e2fsprogs, bsdutils) is not installed",
)


def bare_device(root: Path, loader: str = "grub", cmdline: str = "quiet ota.slot=a") -> Device:
    """A device that `ota setup` has not seen: slot a runs, both slots are directories.

    `loader`: grub, directory, or the layout of a Jetson.
    """
    if loader in LAYOUTS:
        return _bare_jetson(Jetson(root).make(loader))
    for slot in ("a", "b"):
        boot = root / "slots" / slot / "boot"
        boot.mkdir(parents=True)
        (boot / KERNEL).write_bytes(b"kernel of " + slot.encode() * 5000)
        (boot / INITRD).write_bytes(b"initrd of " + slot.encode() * 9000)
    (root / "proc").mkdir()
    (root / "proc" / "cmdline").write_text(f"{cmdline}\n")
    state = root / "boot" / "ota"
    state.mkdir(parents=True)
    (state / "ecu_info.yml").write_text(ECU_INFO.format(loader=loader))
    if loader == "grub":
        (root / "boot" / "grub").mkdir()
        (root / "boot" / "grub" / "grub.cfg").write_text(GRUB_CFG)
    return probe(root)


def _bare_jetson(jetson: Jetson) -> Device:
    """Both slots hold a system of their own."""
    for slot in ("a", "b"):
        conf = fact(jetson.layout, "extlinux.conf").decode()
        root = f"root=/{jetson.slot(slot).relative_to(jetson.root)}"
        conf = re.sub(r"(?m)^(\s+APPEND .*?)root=\S+", rf"\1{root}", conf)
        for place in {jetson.slot(slot), jetson.booted_from(slot)}:
            (place / "boot/extlinux").mkdir(parents=True)
            (place / "boot/extlinux/extlinux.conf").write_text(conf)
            for name in ("Image", "initrd", "tegra194-xavier.dtb"):
                (place / "boot" / name).write_text(f"{name} of {slot}")
    return probe(jetson.root)


def slot_tree(device: Device, slot: SlotName) -> Path:
    """Where the system of a slot is."""
    location = device.slots[slot]
    assert isinstance(location, DirectorySlot)
    return location.path


def reboot(device: Device) -> SimulatedBoot:
    """What comes up, by whatever boots the device."""
    return Jetson(device.root).boot() if device.loader == "cboot" else next_boot(device)


def state_of(device: Device) -> Dict[str, bytes]:
    """All that decides what boots, and what boots: files, and what nvbootctrl was told."""
    found = files_below(device.root)
    if device.loader == "cboot":
        found["nvbootctrl"] = (Jetson(device.root).programs / "loader").read_bytes()
    return found


def ready_device(root: Path, loader: str = "grub") -> Device:
    """A device on which `ota setup` ran."""
    device = bare_device(root, loader)
    run_setup(device)
    return device


def run_setup(device: Device, repair: bool = False) -> SetupReport:
    events: List[Event] = []
    return setup(device, repair=repair, emit=events.append)


def boot_files(
    device: Device, slot: SlotName, arguments: Optional[str] = None
) -> Optional[BootFiles]:
    """What the boot loader needs of the system in a slot's directory."""
    if device.loader == "cboot":
        return None
    boot = device.root / "slots" / slot / "boot"
    line = f"quiet ota.slot={slot} ota.txn=t" if arguments is None else arguments
    return BootFiles(boot_file(boot / KERNEL), boot_file(boot / INITRD), line)


def boot_file(path: Path) -> BootFile:
    done = subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, check=True)
    return BootFile(path, Digest(bytes.fromhex(done.stdout.split()[0].decode())))


def grub_lists(path: Path) -> Dict[str, str]:
    """The variables of an environment block as GRUB's own tool reads them."""
    done = subprocess.run(["grub-editenv", path, "list"], stdout=subprocess.PIPE, check=True)
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines())


def files_below(directory: Path) -> Dict[str, bytes]:
    """The content of every file, to compare before with after."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def boot_with_grub(boot: Path, work: Path) -> Tuple[str, str]:
    """Boots the content of a boot partition with GRUB's emulator.

    Returns what GRUB started: `stock`, `reboot`, or the kernel's command line; and the
    environment block's trial afterwards. The emulator has no `linux` and `initrd`, so our script
    says `echo`, and asks for a file, instead; the rule, the environment and its writing are GRUB's
    own.
    """
    tree = work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(boot, tree)
    _speak(tree / "grub" / "custom.cfg")
    grub_cfg = tree / "grub" / "grub.cfg"
    text = grub_cfg.read_text().replace("echo STOCK", "echo RESULT stock; halt")
    grub_cfg.write_text(text.replace("timeout=5", "timeout=0"))  # no key is ever pressed here
    image, device_map = work / "disk.img", work / "device.map"
    image.unlink() if image.exists() else None
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "8M"],
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    device_map.write_text(f"(hd0) {image}\n")
    text = _emulate(f"grub-emu -m {device_map} -r hd0 -d /grub")
    result = re.search(r"RESULT (.*?) ?END", text) or re.search(r"RESULT (stock)", text)
    assert result is not None, text
    return result.group(1), _trial_in(image)


def _speak(custom: Path) -> None:
    text = custom.read_text()
    assert part() in text
    text = re.sub(r"if linux (\S+) (.*?); then", r"if set ota_said=" r'"\1 $*"; then', text)
    text = text.replace("elif initrd", "elif test -s").replace("insmod gzio", "true")
    text = text.replace("then boot\n", 'then echo "RESULT $ota_said $ota_mode END"; halt\n')
    custom.write_text(text.replace("\n  reboot\n", "\n  echo RESULT reboot END; halt\n"))


def _emulate(command: str) -> str:
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "400"}
    done = subprocess.run(
        ["script", "-qec", f"stty cols 400; exec timeout -s KILL 20 {command}", "/dev/null"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment, timeout=60, check=False,
    )  # fmt: skip
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]", "", done.stdout.decode("latin-1"))
    return " ".join(plain.split())


def _trial_in(image: Path) -> str:
    done = subprocess.run(
        ["debugfs", "-R", "cat /ota/bootenv", image], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    found = re.search(rb"(?m)^ota_trial=(.)$", done.stdout)
    return found.group(1).decode() if found else ""
