"""A disk that boots by GRUB: a boot partition, slots a and b, and what its firmware starts GRUB
from: the gap behind the MBR, or an EFI system partition at the end. Nothing is mounted for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from ota_cli.core.kernels import kernels

MIB = 1024 * 1024
GRUB = Path("/usr/lib/grub")
BIOS, UEFI = "i386-pc", "x86_64-efi"
_MODULES = (
    "part_msdos ext2 normal configfile linux gzio loadenv serial terminal echo search "
    "search_label search_fs_uuid test minicmd reboot"
)
_EFI_MIB = 40
_FIND_BOOT = "search --no-floppy --label --set=root boot\nset prefix=($root)/grub\n"
#: What Debian's grub-mkconfig makes of such a disk, shortened; the serial console is ours.
_GRUB_CFG = """\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
set default=0
menuentry 'Debian GNU/Linux' {{
  search --no-floppy --label --set=root boot
  linux /{kernel} root=LABEL=slot-a ro console=ttyS0 panic=5
  initrd /{initrd}
}}
if [ -f  ${{config_directory}}/custom.cfg ]; then
  source ${{config_directory}}/custom.cfg
elif [ -z "${{config_directory}}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
_ECU_INFO = "format_version: 1\necu_id: bench\n"


class Partition(NamedTuple):
    """`start` and `size` in bytes."""

    label: str
    start: int
    size: int


def layout(boot_mib: int = 256, slot_mib: int = 1280) -> Tuple[Partition, Partition, Partition]:
    """Boot, a and b, one after the other from the first MiB."""
    boot = Partition("boot", MIB, boot_mib * MIB)
    a = Partition("slot-a", boot.start + boot.size, slot_mib * MIB)
    return boot, a, Partition("slot-b", a.start + a.size, slot_mib * MIB)


def make_disk(disk: Path, system: Path, scratch: Path, platform: str = BIOS) -> Path:
    """A disk of an ordinary Debian: `system` in slot a, its kernel on the boot partition."""
    boot, a, b = parts = layout()
    efi = Partition("efi", b.start + b.size, _EFI_MIB * MIB)
    _partition_table(disk, parts, efi if platform == UEFI else None)
    tree, files = scratch / "tree", scratch / "boot"
    for path in (tree, files):
        shutil.rmtree(path, ignore_errors=True)
    _run("cp", "-a", "--reflink=auto", system, tree)
    (tree / "boot").rename(files)
    (tree / "boot").mkdir()
    _fill_boot(files, platform)
    _format(disk, boot, files)
    _format(disk, a, tree)
    _format(disk, b, None)
    if platform == UEFI:
        put_partition(disk, efi, _efi_partition(scratch))
    else:
        _install_in_gap(disk, scratch)
    for path in (tree, files):
        shutil.rmtree(path)
    return disk


def cut_out(disk: Path, part: Partition, image: Path) -> Path:
    """A copy of one partition in a file of its own."""
    _run(
        "dd", "status=none", f"if={disk}", f"of={image}", "bs=1M", "conv=sparse",
        f"skip={part.start // MIB}", f"count={part.size // MIB}",
    )  # fmt: skip
    return image


def put_partition(disk: Path, part: Partition, content: Path) -> None:
    """Makes the file system image `content` that of a partition."""
    assert content.stat().st_size <= part.size
    _run(
        "dd", "status=none", f"if={content}", f"of={disk}", "bs=1M", "conv=notrunc,sparse",
        f"seek={part.start // MIB}",
    )  # fmt: skip


def _partition_table(disk: Path, parts: Tuple[Partition, ...], efi: Optional[Partition]) -> None:
    typed = [*((part, "83") for part in parts), *([(efi, "ef")] if efi else [])]
    last, _ = typed[-1]
    with open(disk, "wb") as file:
        file.truncate(last.start + last.size + MIB)
    lines = ["label: dos", "label-id: 0x07a07a01"]
    lines += [f"start={p.start // 512}, size={p.size // 512}, type={kind}" for p, kind in typed]
    _run("sfdisk", "--quiet", disk, stdin="\n".join(lines) + "\n")


def _fill_boot(files: Path, platform: str) -> None:
    newest = kernels([path.name for path in files.iterdir()])[0]
    (files / "grub").mkdir(exist_ok=True)
    text = _GRUB_CFG.format(kernel=newest.kernel, initrd=newest.initrd)
    (files / "grub/grub.cfg").write_text(text)
    shutil.copytree(GRUB / platform, files / "grub" / platform)
    (files / "ota").mkdir()
    (files / "ota/ecu_info.yml").write_text(_ECU_INFO)


def _format(disk: Path, part: Partition, tree: Optional[Path]) -> None:
    content = ["-d", tree] if tree else []
    _run(
        "mke2fs", "-q", "-t", "ext4", "-L", part.label, *content,
        "-E", f"offset={part.start},lazy_itable_init=1", disk, f"{part.size // 1024}k",
    )  # fmt: skip


def _install_in_gap(disk: Path, scratch: Path) -> None:
    core = scratch / "core.img"
    modules = ["biosdisk", *_MODULES.split()]
    _run("grub-mkimage", "-O", BIOS, "-p", "(hd0,msdos1)/grub", "-o", core, *modules)
    assert core.stat().st_size <= MIB - 512
    with open(disk, "r+b") as file:
        file.write((GRUB / BIOS / "boot.img").read_bytes()[:440])
        file.seek(512)
        file.write(core.read_bytes())


def _efi_partition(scratch: Path) -> Path:
    """A FAT with GRUB as what removable disks start."""
    core, config, image = (scratch / name for name in ("BOOTX64.EFI", "find-boot.cfg", "efi.img"))
    config.write_text(_FIND_BOOT)
    modules = ["fat", *_MODULES.split()]
    _run("grub-mkimage", "-O", UEFI, "-p", "/grub", "-c", config, "-o", core, *modules)
    with open(image, "wb") as file:
        file.truncate(_EFI_MIB * MIB)
    _run("mkfs.vfat", image)
    _run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT")
    _run("mcopy", "-i", image, core, "::/EFI/BOOT/BOOTX64.EFI")
    return image


def _run(*argv: object, stdin: str = "") -> None:
    words = [str(word) for word in argv]
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[0]}: {done.stderr[-2000:]}"


class Surgery:
    """Changes files on a raw disk that is switched off, with ext4's own debugger."""

    def __init__(self, disk: Path, scratch: Path) -> None:
        self._disk = disk
        self._scratch = scratch

    def read(self, part: Partition, path: str) -> str:
        """The content of a file."""
        return self._debugfs(part, f"cat {path}")

    def remove(self, part: Partition, path: str) -> None:
        """Removes a file that must be there."""
        assert self._exists(part, path), path
        self._debugfs(part, f"rm {path}", write=True)
        assert not self._exists(part, path)

    def write(self, part: Partition, path: str, content: str, mode: int) -> None:
        """Makes or replaces a file of root's."""
        self._put(part, path, content.encode(), mode)

    def truncate(self, part: Partition, path: str, size: int) -> None:
        """Keeps the first `size` bytes of a file."""
        whole = self._scratch / "whole"
        self._debugfs(part, f"dump {path} {whole}")
        data = whole.read_bytes()
        assert len(data) > size
        self._put(part, path, data[:size], 0o644)

    def erase(self, part: Partition, size: int) -> None:
        """Zeroes the first `size` bytes of a partition."""
        with open(self._disk, "r+b") as file:
            file.seek(part.start)
            file.write(b"\0" * size)

    def _put(self, part: Partition, path: str, data: bytes, mode: int) -> None:
        source = self._scratch / "source"
        source.write_bytes(data)
        if self._exists(part, path):
            self._debugfs(part, f"rm {path}", write=True)
        self._debugfs(part, f"write {source} {path}", write=True)
        self._debugfs(part, f"set_inode_field {path} mode 0{0o100000 | mode:o}", write=True)
        assert self._exists(part, path), path

    def _exists(self, part: Partition, path: str) -> bool:
        return "Type:" in self._debugfs(part, f"stat {path}")

    def _debugfs(self, part: Partition, request: str, *, write: bool = False) -> str:
        argv = ["debugfs", *(["-w"] if write else []), "-R", request]
        argv.append(f"{self._disk}?offset={part.start}")
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
