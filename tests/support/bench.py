"""A bench for whole updates: a device below a directory, images, a TLS server, and `ota` itself.

`ota` runs as its user runs it: another process, exit code, stdout, stderr.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from tests.support.forked import Forker
from tests.support.network import path_of
from tests.support.trees import Snapshot, snapshot, without

if TYPE_CHECKING:
    from tests.conftest import Server

BASE = Path(__file__).parents[2]
GRUB_CFG = """\
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
#: How long a run may take.
TIMEOUT_S = 300.0
_BOOT_ORDER = ("/directory-boot", "/bootenv")
DIRECTORY_SLOTS = "slots:\n  a: {directory: /slots/a}\n  b: {directory: /slots/b}\n"


@dataclass(frozen=True)
class Ran:
    """How a run of `ota` ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Dict[str, Any]:
        """The one JSON document, of a run with --json."""
        found: Dict[str, Any] = json.loads(self.out)
        return found

    @property
    def result(self) -> Dict[str, Any]:
        result: Dict[str, Any] = self.document["result"]
        return result


def ota_argv() -> List[str]:
    """How to start the program under test."""
    return [sys.executable, "-m", "ota_cli"]


def environment() -> Dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTA_")}
    return {**kept, "PYTHONPATH": str(BASE)}


def installed_environment() -> Dict[str, str]:
    """The same, but byte code is cached, as on an installed system: for measuring."""
    return {k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"}


def ota(
    *words: object, stdin: bytes = b"", env: Optional[Mapping[str, str]] = None,
    library: Optional[Path] = None, namespace: Optional[str] = None,
) -> Ran:  # fmt: skip
    """Runs `ota` to its end.

    `library`: preloaded, one that can begin in a forked process. `namespace`: of the network.
    """
    environ = {**environment(), **_preloading(library), **(env or {})}
    forking = forker(library)
    if not forking.can_run(environ, stdin):
        assert namespace is None, "only forked runs enter the namespace of a network"
        return started_ota(*words, stdin=stdin, env=environ)
    network = path_of(namespace) if namespace else None
    argv = [str(word) for word in words]
    code, out, err = forking.run(argv, environ, stdin, TIMEOUT_S, network)
    return Ran(code, out.decode(), err.decode())


def started_ota(*words: object, stdin: bytes = b"", env: Optional[Mapping[str, str]] = None) -> Ran:
    """The same with an interpreter of its own, so that others see it as that of a user."""
    done = subprocess.run(
        [*ota_argv(), *(str(word) for word in words)],
        input=stdin, capture_output=True, env={**environment(), **(env or {})}, check=False,
        timeout=TIMEOUT_S,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@lru_cache(maxsize=None)
def forker(library: Optional[Path] = None) -> Forker:
    """What runs are forked from, with `library` preloaded; it ends with this process."""
    made = Forker({**environment(), **_preloading(library)})
    atexit.register(made.end)
    return made


def _preloading(library: Optional[Path]) -> Dict[str, str]:
    return {"LD_PRELOAD": str(library)} if library else {}


def make_device(
    root: Path, anchors: Sequence[Path], *, loader: str = "directory", slots: str = DIRECTORY_SLOTS,
    running: str = "a", settings: str = "persist: [/etc/ota]\n",
) -> Path:  # fmt: skip
    """A device below `root`, running a slot, not set up yet."""
    for name in ("boot/ota", "etc/ota/certs", "proc", "run", "slots/a", "slots/b"):
        (root / name).mkdir(parents=True)
    if loader == "grub":
        (root / "boot/grub").mkdir()
        (root / "boot/grub/grub.cfg").write_text(GRUB_CFG)
    info = f"format_version: 1\necu_id: bench\nbootloader: {loader}\n{slots}"
    (root / "boot/ota/ecu_info.yml").write_text(info)
    (root / "proc/cmdline").write_text(f"root=LABEL=x ro ota.slot={running}\n")
    (root / "etc/ota/ota.yml").write_text(settings)
    for anchor in anchors:
        (root / "etc/ota/certs" / anchor.name).write_bytes(anchor.read_bytes())
    return root


def unpack_first(device: Path, target: object, server: Server) -> None:
    """Fills `target`, a slot of `device`, with the server's v1, without starting anything."""
    done = ota(
        "image", "unpack", f"{server.url}v1/", target, "--cacert", server.cacert,
        "--anchors", device / "etc/ota/certs",
    )  # fmt: skip
    assert done.code == 0, done.err


def provision(device: Path, target: object, server: Server) -> None:
    """Gives `device` its first system, in slot a at `target`, and sets it up."""
    unpack_first(device, target, server)
    done = ota("setup", "--root", device)
    assert done.code == 0, done.err


def touched(device: Path) -> Snapshot:
    """What must not change when an update fails: all of the device but the standby slot's side.

    By name, kind, mode, owner, time, links and content; in `boot/ota` what decides the order.
    """
    found = snapshot(device, owners=True, mtimes=True)
    del found["/slots"]  # its time is that of the standby slot's name
    loader = snapshot(device / "boot/ota", owners=True)  # "boot a" may be written once more
    order = {name: loader[name] for name in _BOOT_ORDER if name in loader}
    return {**without(found, "/slots/b", "/boot/ota", "/run"), **order}
