"""The vocabulary: frozen values, each named for what it proves. No effects, no parsing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Mapping, NamedTuple, Optional, Tuple, Union

from .compressed import CompressedFiles
from .entries import Digest, NodeEntry
from .packed import PackedFiles
from .packedothers import PackedDirectories, PackedLinks

SlotName = Literal["a", "b"]
SLOT_NAMES: Tuple[SlotName, SlotName] = ("a", "b")

#: How much of a standby slot is read before it is filled (DESIGN section 5).
VerifyLocal = Literal["full", "stat"]

#: Kept from the running slot besides what the image names (FORMATS section 7).
DEFAULT_PERSIST = (
    "/etc/ota",
    "/etc/machine-id",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/netplan",
    "/etc/ssh/ssh_host_*",
)


def other_slot(slot: SlotName) -> SlotName:
    """The slot that is not `slot`."""
    return "b" if slot == "a" else "a"


# --- An image (FORMATS section 1); its entries are in `entries` ---------------------------------


@dataclass(frozen=True)
class Attributes:
    """What the field's layout lacks; comes from our own signed table.

    `mtimes_ns`: path to modification time. `xattrs`: path to (name, value) pairs.
    `blob_sizes`: bytes of the compressed blob by digest of its content. In `Tables`, blobs, and
    all times but those of nodes, are in their entries instead.
    """

    mtimes_ns: Mapping[str, int]
    xattrs: Mapping[str, Tuple[Tuple[str, bytes], ...]]
    nodes: Tuple[NodeEntry, ...]
    blob_sizes: Mapping[Digest, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tables:
    """A file tree as an image describes it. `attributes` is None for field images."""

    directories: PackedDirectories
    symlinks: PackedLinks
    regulars: PackedFiles
    persistents: Tuple[str, ...]
    attributes: Optional[Attributes]


class TableRef(NamedTuple):
    """A file of an image's base URL, by name and sha256."""

    name: str
    digest: Digest


@dataclass(frozen=True)
class Details:
    """The `ota` claim, which field images lack and field clients ignore."""

    version: Optional[str] = None
    created: Optional[datetime] = None
    compatible: Optional[str] = None
    expires: Optional[datetime] = None
    attributes: Optional[TableRef] = None


@dataclass(frozen=True)
class Claims:
    """The payload of metadata.jwt whose signature and certificate chain held."""

    directories: TableRef
    symlinks: TableRef
    regulars: TableRef
    persistents: TableRef
    rootfs_directory: str
    compressed_directory: Optional[str]
    total_regular_size: Optional[int]
    details: Details

    @property
    def table_refs(self) -> Tuple[TableRef, ...]:
        """All signed tables, the optional attributes last."""
        base = (self.directories, self.symlinks, self.regulars, self.persistents)
        return base + ((self.details.attributes,) if self.details.attributes else ())


@dataclass(frozen=True)
class Image:
    """A verified image: only `core.trust` makes one.

    `image_id`: hex sha256 over table digests and the claim without dates (FORMATS section 1).
    `metadata`: the verified bytes by file name, to be kept in the slot's `/.ota`.
    """

    image_id: str
    claims: Claims
    tables: Tables
    metadata: CompressedFiles

    @property
    def version(self) -> Optional[str]:
        return self.claims.details.version


# --- The device (DESIGN section 3, FORMATS sections 3, 4, 7) ----------------------------------


@dataclass(frozen=True)
class DirectorySlot:
    """A slot that is a directory: demos, containers, tests."""

    path: Path


@dataclass(frozen=True)
class FileSlot:
    """A slot that is a disk-image file holding one ext4 file system."""

    path: Path


@dataclass(frozen=True)
class DeviceSlot:
    """A slot that is a partition. `spec` is how it was named: `PARTUUID=...`, `/dev/...`."""

    spec: str


SlotLocation = Union[DirectorySlot, FileSlot, DeviceSlot]


@dataclass(frozen=True)
class Secondary:
    """An ECU triggered by this one."""

    ecu_id: str
    ip_addr: str
    ssh_user: Optional[str] = None
    ssh_port: Optional[int] = None
    identity_file: Optional[str] = None


@dataclass(frozen=True)
class EcuInfo:
    """`/boot/ota/ecu_info.yml`; a missing file means these defaults.

    `slots` holds paths and specs as written; `host.probe` resolves them below the root.
    """

    ecu_id: str = "autoware"
    ip_addr: str = "localhost"
    secondaries: Tuple[Secondary, ...] = ()
    available_ecu_ids: Tuple[str, ...] = ("autoware",)
    bootloader: str = "auto"
    slots: Optional[Mapping[SlotName, SlotLocation]] = None
    compatible: Optional[str] = None


@dataclass(frozen=True)
class ProxyInfo:
    """`/boot/ota/proxy_info.yml`; a missing file means these defaults (FORMATS section 4)."""

    enable_local_ota_proxy: bool = True
    gateway: bool = True
    upper_ota_proxy: Optional[str] = None
    enable_local_ota_proxy_cache: bool = True
    local_ota_proxy_listen_addr: Optional[str] = None
    local_ota_proxy_listen_port: int = 8082


#: Seconds given to a trial boot to confirm itself (FORMATS section 7, `commit_deadline`).
DEFAULT_DEADLINE_S = 600
#: The same for one that is healthy and waits for other ECUs (`fleet_deadline`).
DEFAULT_FLEET_DEADLINE_S = 1800


@dataclass(frozen=True)
class Settings:
    """`/etc/ota/ota.yml` with defaults (FORMATS section 7)."""

    server: Optional[str] = None
    cacert: Optional[Path] = None
    cert: Optional[Path] = None
    key: Optional[Path] = None
    limit_rate: Optional[int] = None
    connections: int = 32
    no_progress_timeout_s: float = 600.0
    persist: Tuple[str, ...] = DEFAULT_PERSIST
    allowed_signers: Optional[Tuple[str, ...]] = None
    health_timeout_s: float = 60.0
    commit_deadline_s: int = DEFAULT_DEADLINE_S
    verify_local: VerifyLocal = "full"
    verify_writes: Optional[bool] = None
    fleet_deadline_s: int = DEFAULT_FLEET_DEADLINE_S
    require_all: bool = True


@dataclass(frozen=True)
class Device:
    """The facts of one device, read once. Paths are absolute and include `--root`.

    `root`: the device's root. `boot`: its boot partition. `running`: the slot that runs, None
    where that is not known. `loader`: name of the boot back-end, None where none fits.
    `warnings`: what is odd in its configuration, to be shown.
    """

    root: Path
    boot: Path
    ecu: EcuInfo
    proxy: ProxyInfo
    settings: Settings
    cmdline: str
    running: Optional[SlotName]
    slots: Mapping[SlotName, SlotLocation]
    loader: Optional[str]
    warnings: Tuple[str, ...] = ()

    @property
    def state_directory(self) -> Path:
        return self.boot / "ota"

    @property
    def is_this_machine(self) -> bool:
        return self.root == Path("/")


# --- What may be booted (DESIGN section 2) ----------------------------------------------------


@dataclass(frozen=True)
class BootFile:
    """A kernel or initrd: where it is in the mounted slot and what it must contain."""

    path: Path
    digest: Digest


@dataclass(frozen=True)
class BootFiles:
    """What the boot loader needs of one system. `arguments`: the whole kernel command line."""

    kernel: BootFile
    initrd: Optional[BootFile]
    arguments: str


class BootCopies(NamedTuple):
    """Copies of a system's kernel and initrd, which the boot loader boots in their place.

    `digests`: their sha256 in hex, by `kernel` and `initrd`. `made_ns`: since when they are there.
    """

    digests: Mapping[str, str]
    made_ns: int


@dataclass(frozen=True)
class Checked:
    """A slot whose every file was verified against its signed image in this run."""

    slot: SlotName
    txn: str


@dataclass(frozen=True)
class KnownGood:
    """A slot that was committed or adopted earlier and has not been touched since."""

    slot: SlotName
    txn: str


Bootable = Union[Checked, KnownGood]


@dataclass(frozen=True)
class SlotBoot:
    """What the boot loader knows of a slot: boot files complete; system known to work."""

    ready: bool
    good: bool


@dataclass(frozen=True)
class BootState:
    """What the boot loader will do. `default`: the slot of an ordinary boot; `trial`: the slot
    that is tried once at the next boot; `txn`: the transaction of the trial armed last; `told`:
    the slot of the next boot where the boot loader itself says it, complete or not."""

    default: Optional[SlotName]
    trial: Optional[SlotName]
    slots: Mapping[SlotName, SlotBoot]
    txn: str = ""
    told: Optional[SlotName] = field(default=None, compare=False)

    def disarmed(self) -> BootState:
        """The same without a trial."""
        return replace(self, trial=None, told=None)

    @property
    def next(self) -> Optional[SlotName]:
        """The slot the next boot tries, as the boot loader's rule has it; None: no slot boots."""
        if self.told is not None:
            return self.told
        if self.trial is not None and self.slots[self.trial].ready:
            return self.trial
        if self.default is None or self.slots[self.default].ready:
            return self.default
        other = self.slots[other_slot(self.default)]
        return other_slot(self.default) if other.ready and other.good else None
