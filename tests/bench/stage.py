"""Where the race is run: two loop devices as slots, a device that owns them, a server."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from tests.bench.relay import Relay
from tests.bench.trees import SIZES, Images
from tests.support.bench import make_device, ota, ota_argv
from tests.support.blocks import loop_device, mounted, run
from tests.support.nginx import Nginx

ROUND_TRIP_S = 0.04


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
    scratch: Path

    def update(self, *, far: bool) -> List[str]:
        """The command that brings the new image into the standby slot."""
        return [
            *ota_argv(), "update", "--root", str(self.root), "--no-self-confirm", "--json",
            "--version", f"{self.url(far)}new", "--cacert", str(self.server.cacert),
        ]  # fmt: skip

    def url(self, far: bool) -> str:
        """The server's, or that of the same server behind a long way."""
        return f"https://127.0.0.1:{self.far.port}/" if far else self.server.url

    def make_empty(self) -> None:
        """The standby slot holds an empty file system."""
        _punch(self.standby)
        run("mkfs.ext4", "-q", "-F", self.standby)

    def make_old(self) -> None:
        """The standby slot holds the old image."""
        _punch(self.standby)
        run("dd", f"if={self.running}", f"of={self.standby}", "bs=4M", "conv=sparse")
        run("e2fsck", "-fy", self.standby)
        run("tune2fs", "-U", "random", self.standby)

    @contextmanager
    def mounted_standby(self) -> Iterator[Path]:
        with mounted(self.standby, self.scratch / "standby", "noatime") as place:
            yield place

    @contextmanager
    def mounted_running(self) -> Iterator[Path]:
        with mounted(self.running, self.scratch / "running", "ro,noatime") as place:
            yield place


@contextmanager
def stage(images: Images, size: str, scratch: Path) -> Iterator[Stage]:
    """A device that runs the old image; everything is given back after the block."""
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        slots = []
        for name in ("a", "b"):
            file = scratch / f"slot-{name}.img"
            file.unlink(missing_ok=True)
            run("truncate", "-s", SIZES[size].slot, file)
            slots.append(stack.enter_context(loop_device(file)))
        server = stack.enter_context(Nginx(images.served))
        far = stack.enter_context(Relay(server.port, ROUND_TRIP_S))
        run("rm", "-rf", scratch / "device")
        root = make_device(
            scratch / "device", [images.anchor],
            slots=f"slots:\n  a: {{device: {slots[0]}}}\n  b: {{device: {slots[1]}}}\n",
        )  # fmt: skip
        made = Stage(images, server, far, root, slots[0], slots[1], scratch)
        _provision(made)
        yield made


def _provision(made: Stage) -> None:
    run("mkfs.ext4", "-q", "-F", made.running)
    made.make_empty()
    for words in (
        ("image", "unpack", f"{made.server.url}old", made.running,
         "--cacert", made.server.cacert, "--anchors", made.root / "etc/ota/certs"),
        ("setup", "--root", made.root),
    ):  # fmt: skip
        done = ota(*words)
        if done.code != 0:
            raise RuntimeError(done.err)


def _punch(device: str) -> None:
    """Gives back what the file behind a loop device holds."""
    run("blkdiscard", "-f", device)
