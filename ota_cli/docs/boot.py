"""The device guide, ota-boot(7): what a machine needs so that `ota` can update it."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from .bootloaders import ADDING, JETSON, JETSON_BRING_UP
from .roff import Part, guide

_BOOTING: Sequence[Part] = (
    "A device has two slots, `a` and `b`, each with a whole root file system, and one boot "
    "partition that both share. This is how it goes with GRUB; Jetsons have a section of their "
    "own. GRUB's own `grub.cfg` stays as the distribution makes it; it reads `custom.cfg`, to "
    "which `ota setup` adds a rule. An update changes no script: it fills the standby slot, puts "
    "kernel, initrd and arguments into `/boot/ota/slot-b/`, flushes all of it, and then overwrites "
    "one sector of `/boot/ota/bootenv`. Until that write the old system boots, after it the new "
    "one, once, on trial.",
    "GRUB clears the trial before it starts the new kernel. What happens next needs nobody: a "
    "system that confirms itself (`ota-commit.service`, after the health checks) becomes the "
    "default; anything else ends in a reboot, and that boots the old system again: a kernel "
    "panic, an initrd that does not find its root (`panic=10`, `rd.emergency=reboot`), health "
    "checks that fail, a power cut, or no confirmation within `commit_deadline` "
    "(`ota-deadline.service`, which needs neither Python nor a complete boot).",
    "A default whose kernel or arguments can not be loaded, or whose initrd is missing, does not "
    "keep the device from booting: where the other slot is known to work, GRUB loads that one in "
    "the same start, and `ota status` says `disagree` and why. One whose initrd is there and can "
    "not be read resets: GRUB starts no second kernel once it has loaded one.",
)
_PARTITIONS: Sequence[Part] = (
    "The boot partition is ext4, `/boot`, and holds kernel and initrd of both systems and those "
    "the distribution keeps: 1 GiB is comfortable. The slots are ext4, of equal size, on the same "
    "disk, each at least as large as an image unpacked plus a few per cent, and tell upper from "
    "lower case in names, as ext4 without `casefold` does: an update refuses one that does not. "
    "With UEFI there is an EFI system partition, too; data that outlives updates lies on a "
    "partition of its own. For an empty disk (all on it is lost):",
    (
        "sfdisk /dev/sda <<END",
        "label: gpt",
        "size=512M, type=U, name=efi",
        "size=1G,   type=L, name=boot",
        "size=8G,   type=L, name=slot-a",
        "size=8G,   type=L, name=slot-b",
        "           type=L, name=data",
        "END",
        "mkfs.vfat -F 32 /dev/sda1",
        "mkfs.ext4 -O ^metadata_csum_seed -L boot /dev/sda2",
        "mkfs.ext4 -O ^metadata_csum_seed -L slot-a /dev/sda3",
        "mkfs.ext4 -L data /dev/sda5",
    ),
    "Upstream's GRUB before 2.12 reads no ext4 with `metadata_csum_seed`, which newer `mkfs.ext4` "
    "turn on. Slot b needs no file system: the first update makes one like that of slot a. Without "
    "UEFI the first partition is `size=1M, type=21686148-6449-6E6F-744E-656564454649`, for GRUB "
    "itself.",
)
_FIRST: Sequence[Part] = (
    "An existing Debian or Ubuntu is adopted as it is. Install the distribution into slot a with "
    "its own installer (manual partitioning, `/boot` on the boot partition, slot b unused), or "
    "shrink what there is; then, on the running system:",
    (
        "cp our-anchor.pem /etc/ota/certs/",
        "ota setup",
        "ota doctor",
        "ota update --version https://updates.example.com/2026.11/ --reboot",
        "ota wait            # when it is up again: is the new system confirmed?",
    ),
    "`ota setup` copies the running kernel and initrd as the boot files of slot a, writes the "
    "settings, and last of all the rule: until then the device boots as before. Slots that are not "
    "two partitions of the same disk and size are named in `ecu_info.yml`(5). Setup refuses, with "
    "the reason, what it can not serve: no boot partition of its own, one that GRUB can not write "
    "to (LVM, RAID, encrypted, or neither ext nor FAT), or a `grub.cfg` that does not read "
    "`custom.cfg`. Running it again changes nothing.",
    "Many devices of a kind: make the disk of one so, and write it to the others. `ota image "
    "unpack URL /dev/sdX3` fills a slot of a disk from the bench, without starting it; `--anchors "
    "DIR` says who may have signed.",
    "Images need `ota`, its units and the anchors inside, or they could not confirm themselves: "
    "`ota image prepare`, see `ota-image`(1).",
)
_HEALTH: Sequence[Part] = (
    "Executables in `/etc/ota/health.d/`, run as root in the order of their names, each with "
    "`health_timeout` seconds (60), all of them, also after one failed. Status 0 is healthy. The "
    "end of what a check prints is kept and shown by `ota status` after a fall back. Without any, "
    "a system is healthy once it reached `multi-user.target`. Ask what only this device can tell: "
    "does the service answer, is the sensor there, is the network that brings the next update up?",
    (
        "#!/bin/sh",
        "# /etc/ota/health.d/10-service",
        "systemctl is-active --quiet vehicle.service || exit 1",
        "curl --fail --silent --max-time 10 http://localhost:8080/healthy",
    ),
)
_WATCHDOG: Sequence[Part] = (
    "A kernel that hangs without a panic is reset by a hardware watchdog only. "
    "`RuntimeWatchdogSec=30` in `/etc/systemd/system.conf`, of the images as well, lets systemd "
    "feed it; `ota setup` and `ota doctor` say when there is none or it is not used. A driver "
    "that is a module belongs into the initrd, so that it runs early.",
)
_CHECKLIST: List[Tuple[str, str]] = [
    ("setup", "`ota setup` twice: the second time it says that all was in order."),
    ("doctor", "`ota doctor` ends with 0."),
    ("update", "An update, the reboot, `ota wait`: 0, and `ota status` says confirmed."),
    ("back", "`ota rollback`, a reboot: the first system runs and confirms itself."),
    ("health", "An image whose health check fails: the device returns by itself, and `ota status` "
     "names the check."),
    ("hang", "On a bench, `echo c >/proc/sysrq-trigger` during the trial: it returns."),
    ("power", "Pull the plug during an update, while it reboots, and during the trial: each time "
     "it boots without help, and the same command completes."),
    ("watchdog", "Where there is one: `wdctl` shows that it runs, with the time that was set."),
    ("kernel", "`apt upgrade` of a kernel: `ota status` has no warning, and the device boots it."),
]  # fmt: skip
_TROUBLE: List[Tuple[str, str]] = [
    ("Settings are damaged", "`ota setup --repair` writes them anew from what can be read; GRUB "
     "itself goes by the twin and by the marks of the slots until then."),
    ("custom.cfg is gone", "The device boots the distribution's own entry; `ota setup` puts the "
     "rule back."),
    ("A slot is doubted", "`ota verify a` compares it with its signed image."),
]  # fmt: skip

_SECTIONS: Sequence[Tuple[str, Sequence[Part]]] = (
    ("how a device boots", _BOOTING),
    ("partitions", _PARTITIONS),
    ("first installation", _FIRST),
    ("health checks", _HEALTH),
    ("watchdog", _WATCHDOG),
    ("bring-up checklist", (_CHECKLIST,)),
    ("Jetson with CBoot", JETSON),
    ("bring-up of a Jetson", JETSON_BRING_UP),
    ("adding a boot loader", ADDING),
    ("when something is wrong", (_TROUBLE,)),
)


def boot_page(name: str) -> str:
    """ota-boot(7)."""
    about = "partitions, boot loaders and bring-up of a device"
    see_also = "ota(1), ota-setup(1), ota-commit(1), ecu_info.yml(5), ota.yml(5)"
    return guide(name, "ota-boot", 7, about, _SECTIONS, see_also)
