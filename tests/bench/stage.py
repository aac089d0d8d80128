"""Where the race is run: two loop devices as slots, a device that owns them, a server."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

from tests.bench.relay import Relay
from tests.bench.trees import Images
from tests.support.bench import make_device, ota, ota_argv
from tests.support.blocks import loop_device, mounted, run
from tests.support.nginx import Nginx

ROUND_TRIP_S = 0.04


#: How a device is told that a slot's unchanged files need no reading.
TRUST_STAT = "verify_local: stat\n"
#: Otherwise the kernel goes on writing inode tables after mkfs, in the middle of what is measured.
_NOT_LATER = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
_SETTINGS = "persist: [/etc/ota]\n"


@dataclass(frozen=True)
class Slots:
    """How both slots are made: their size for truncate(1), and options of mkfs.ext4."""

    size: str
    options: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """`running` and `standby`: loop devices; `root`: the device that owns them.

    `far`: another way to the server, with that round trip.
    """

    images: Images
    server: Nginx
    far: Relay
    root: Path
    running: str
    standby: str
    slots: Slots
    scratch: Path

    def update(self, *, far: bool) -> List[str]:
        """The command that brings the new image into the standby slot."""
        return [
            *ota_argv(), "update", "--root", str(self.root), "--no-self-confirm",
            "--output", "jsonl",
            "--version", f"{self.url(far)}new", "--cacert", str(self.server.cacert),
        ]  # fmt: skip

    def url(self, far: bool) -> str:
        """The server's, or that of the same server behind a long way."""
        return f"https://127.0.0.1:{self.far.port}/" if far else self.server.url

    def make_empty(self) -> None:
        """The standby slot holds an empty file system."""
        _punch(self.standby)
        self.format(self.standby)

    def format(self, device: str) -> None:
        """An empty file system on one of the slots."""
        run("mkfs.ext4", "-q", "-F", *_NOT_LATER, *self.slots.options, device)

    def make_old(self) -> None:
        """The standby slot holds the old image."""
        _punch(self.standby)
        run("dd", f"if={self.running}", f"of={self.standby}", "bs=4M", "conv=sparse")
        run("e2fsck", "-fy", self.standby)
        run("tune2fs", "-U", "random", self.standby)

    def can_trust_stat(self) -> bool:
        """Whether this `ota` knows the setting."""
        with self.trusting_stat():
            return ota("status", "--root", self.root).code == 0

    @contextmanager
    def trusting_stat(self) -> Iterator[None]:
        """Meanwhile the device trusts unchanged inodes of the standby slot."""
        config = self.root / "etc/ota/ota.yml"
        config.write_text(f"{_SETTINGS}{TRUST_STAT}")
        try:
            yield
        finally:
            config.write_text(_SETTINGS)

    @contextmanager
    def mounted_standby(self) -> Iterator[Path]:
        with mounted(self.standby, self.scratch / "standby", "noatime") as place:
            yield place

    @contextmanager
    def mounted_running(self, mode: str = "ro") -> Iterator[Path]:
        with mounted(self.running, self.scratch / "running", f"{mode},noatime") as place:
            yield place


@contextmanager
def stage(
    images: Images, slots: Slots, scratch: Path, fill: Callable[[Stage], None]
) -> Iterator[Stage]:
    """A device whose running slot holds what `fill` puts there; nothing is left after the block."""
    run("rm", "-rf", scratch)
    scratch.mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(run, "rm", "-rf", scratch)
        running, standby = (
            stack.enter_context(_slot(scratch / f"slot-{name}.img", slots.size)) for name in "ab"
        )
        server = stack.enter_context(Nginx(images.served))
        far = stack.enter_context(Relay(server.port, ROUND_TRIP_S))
        root = make_device(
            scratch / "device", [images.anchor], settings=_SETTINGS,
            slots=f"slots:\n  a: {{device: {running}}}\n  b: {{device: {standby}}}\n",
        )  # fmt: skip
        made = Stage(images, server, far, root, running, standby, slots, scratch)
        made.format(running)
        made.make_empty()
        fill(made)
        succeed("setup", "--root", root)
        yield made


@contextmanager
def _slot(file: Path, size: str) -> Iterator[str]:
    run("truncate", "-s", size, file)
    with loop_device(file) as device:
        yield device


def unpack_old(made: Stage) -> None:
    """The running slot holds the image `old`."""
    succeed(
        "image", "unpack", f"{made.server.url}old", made.running,
        "--cacert", made.server.cacert, "--anchors", made.root / "etc/ota/certs",
    )  # fmt: skip


def succeed(*words: object) -> None:
    """Runs `ota`, however long it takes; raises where it fails."""
    run(*ota_argv(), *words)


def _punch(device: str) -> None:
    """Gives back what the file behind a loop device holds."""
    run("blkdiscard", "-f", device)
