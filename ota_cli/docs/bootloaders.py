"""Sections of ota-boot(7) about boot loaders besides GRUB: Jetson's CBoot, and one's own."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from .roff import Part

_NEEDS: List[Tuple[str, str]] = [
    ("a BSP older than R34", "R34 and later boot by UEFI and are refused. `/etc/nv_tegra_release` "
     "names the BSP, the device tree (`nvidia,tegra194`) the machine."),
    ("two root file systems", "Flashed with `ROOTFS_AB=1`: partitions 1 and 2 of the disk that `/` "
     "is on, eMMC or NVMe, are slots a and b."),
    ("a partition of its own for ota", "Ext4, some MB, mounted on `/boot/ota` by both systems, "
     "with a line in `/etc/fstab`; the data partition `UDA` of NVIDIA's layouts will do. Two "
     "copies of what ota remembers, one in each slot, would differ after any power cut."),
    ("nv_update_verifier.service", "NVIDIA's unit restores CBoot's counter of retries at each "
     "boot. A file beside it, put there by `ota setup` and `ota image prepare`, keeps it from "
     "calling a trial a success before the health checks have."),
]  # fmt: skip
JETSON: Sequence[Part] = (
    "The back-end `cboot` is for NVIDIA Jetson Xavier. It was written after NVIDIA's documentation "
    "and published source, and is tested against a simulated loader only: it has not yet been run "
    "on hardware. It needs:",
    _NEEDS,
    "CBoot boots the entry of `/boot/extlinux/extlinux.conf` in the slot that `DEFAULT` names, "
    "else the first one. Of that file only `root=` changes; one that does not say what boots is "
    "refused. With the root on NVMe, CBoot reads `/boot` from the partition of eMMC with the "
    "slot's number: an update makes that one the same as the slot's, and removes what else was "
    "there. What it put there is looked at again before a slot is gone back to and before the "
    "other one is taken. Kernels that packages install later into a running system on NVMe are "
    "not followed. `ota image unpack` on a bench leaves extlinux.conf as it is in the image: name "
    "the partition there.",
    "CBoot's own state is changed by `nvbootctrl` only, each call of which has ten seconds; one "
    "that fails or prints something else is exit 15. In this order: the standby slot becomes "
    "unbootable, is filled, its extlinux.conf is pointed at it, `/boot` is copied, all is "
    "flushed, the mark of a trial is put into the slot, and `set-active-boot-slot` arms it. Where "
    "root file system and boot loader have slots of their own, only those of root file systems "
    "are switched; in unified mode both move together, a slot can not be made unbootable, and "
    "NVIDIA's verifier marks a boot as successful, so that `ota commit` does not.",
    "A trial is told by the mark, `/.ota/trial` in the slot itself, not by nvbootctrl: NVIDIA's "
    "unit marks a boot as successful whatever our checks say, and CBoot passes no argument of "
    "ours to the kernel. A mark that is damaged counts, too. While it is there `ota-once.service` "
    "makes the old slot active again as soon as user space is reached, so the next boot returns "
    "to it; `ota commit` makes the new slot active, tells CBoot that it works, and removes the "
    "mark: that is the instant of confirmation. A commit that fails before makes the old slot "
    "active again, and so does the unit that ends a trial at its deadline. A kernel that never "
    "reaches user space is tried until CBoot's counter has run out, three or seven times, and "
    "then the old system boots; when that fails as well, CBoot enters recovery. In unified mode "
    "CBoot may come to a slot that is just being filled, if the running one fails.",
    "A slot that was only staged, or that `ota verify --repair` has mended, is known to ota as "
    "complete, but CBoot still holds it for unbootable: it is no fall back of CBoot's own before "
    "it was armed once. If the running system no longer starts then, recovery is entered. `ota "
    "switch-slot`, a reboot and `ota commit` give the device both its systems again.",
)
_BRING_UP: List[Tuple[str, str]] = [
    ("facts", "`cat /etc/nv_tegra_release`, `tr '\\0' '\\n' </proc/device-tree/compatible`, "
     "`lsblk`, `nvbootctrl dump-slots-info`, the same with `-t rootfs`, and `nvbootctrl "
     "is-unified-enabled; echo $?`. Does dump-slots-info have a line `Active ... slot:`, or "
     "priorities?"),
    ("questions", "`nvbootctrl -t rootfs is-slot-bootable 1; echo $?` of a slot that is, and of "
     "one after `set-slot-as-unbootable 1`: 0, and 70 or 1? Does `set-active-boot-slot 1` make it "
     "bootable again? ota does not write to a slot that would still boot, and does not call one "
     "armed that would not. Does it answer without root? "
     "Else `ota status` needs root as well."),
    ("boots", "`ota update`, a reboot: does slot b run (`findmnt /`), does `ota status` say trial, "
     "does `dump-slots-info` say that slot a is active again?"),
    ("confirms", "After `ota commit` and two more reboots: slot b, all its retries."),
    ("falls back", "A health check that fails; a deadline of a minute and a commit unit that is "
     "masked; `echo c >/proc/sysrq-trigger` in the trial; a kernel that is no kernel: how many "
     "tries until slot a boots?"),
    ("early enough", "`systemctl status ota-once.service` in a trial: nvbootctrl finds its "
     "partitions before `sysinit.target`?"),
    ("cuts", "The plug pulled during the update, during `set-active-boot-slot` (in a loop), and "
     "during `ota commit`."),
    ("NVMe", "Does CBoot take `/boot` from eMMC on this board, and does it read a symlink there?"),
]  # fmt: skip
JETSON_BRING_UP: Sequence[Part] = (
    "What has to be looked at on a real device before others follow; what it prints belongs into "
    "`tests/data/jetson`.",
    _BRING_UP,
)
_FUNCTIONS: List[Tuple[str, str]] = [
    ("detect, read", "Whether it boots the device, and what it will boot: the default, a trial, "
     "which slots are ready and good. Facts are read here; what can not be read is a BootRefused."),
    ("withdraw, install, arm", "An update: out of every choice, complete, tried once."),
    ("commit, revert", "The running slot is what boots; no trial."),
    ("lead_back", "After an arm or a commit that failed half-way the next boot is the default's; "
     "nothing where the switch is one write."),
    ("copies, occupied_bytes", "For loaders that boot copies of kernel and initrd on the boot "
     "partition: which, and how much room an update gets back there. None and 0 where the files "
     "of the slot boot themselves."),
    ("shared, adapted, lacking", "Where both slots mount the partition they share; which files of "
     "a filled slot have to name that slot, and what they then say; what a system lacks for its "
     "trial to end, which an update refuses."),
    ("needs_boot_files, boots_machines, marks_trials", "Not functions but facts: whether it boots "
     "copies; whether it boots machines, whose systems have to confirm themselves; whether a trial "
     "is told by the mark in its slot."),
    ("the others", "For `ota setup`: settings made, saved, mended. Most are empty where the loader "
     "has a place of its own."),
]  # fmt: skip
ADDING: Sequence[Part] = (
    "A back-end is one module, `ota_cli/boot/NAME.py`, with what `Backend` in "
    "`ota_cli/boot/base.py` lists, and one row in the table there; all that `ota` knows of a boot "
    "loader is in it, and nothing elsewhere asks which one it is. It changes nothing: it returns "
    "lists of ops, which one executor applies (`host/ops.py`, and `host/loaderops.py` for loaders "
    "with tools of their own).",
    _FUNCTIONS,
    "The order of the list is the safety argument: after any prefix of it some slot that was "
    "bootable still boots, and doing it twice is doing it once. The switch is one op that is done "
    "or not done. Decide first what tells a trial from a confirmed boot without Python, for the "
    "units that end a trial have to see it: `ota.trial=1` on the kernel command line, or the mark "
    "`/.ota/trial` in the slot.",
    "Then add the loader to `LOADERS` in `tests/boot/test_backends.py`, with devices of its kind "
    "in `tests/support/boot.py` and something that boots them by the loader's own rules, from what "
    "is on the disk: GRUB's emulator, or a stand-in for its tool that keeps state, first on "
    "`PATH`. That suite cuts every list off after every op. Captured facts of real devices go to "
    "`tests/data`. `bootloader:` in `ecu_info.yml`(5) gets the name.",
)
