"""A vehicle: ECUs in network namespaces, each a device with a real sshd, and an image server."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence

from tests.conftest import copy_tree
from tests.support.bench import BASE, DIRECTORY_SLOTS, Ran, environment
from tests.support.network import Network, network
from tests.support.sshd import Sshd, make_key

#: Who is below whom; `main` is above all.
BELOW: Mapping[str, Sequence[str]] = {"main": ("p1", "p2", "p3"), "p1": ("p1x",)}


@dataclass(frozen=True)
class EcuBench:
    """One ECU: its device, its namespace, and the sshd it is asked by."""

    name: str
    root: Path
    namespace: str
    sshd: Sshd

    def ota(self, *words: object) -> Ran:
        """Runs `ota` on this ECU to its end."""
        done = subprocess.run(
            self.argv(*words), capture_output=True, env=environment(), check=False, timeout=300
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def argv(self, *words: object) -> List[str]:
        verb, *rest = (str(word) for word in words)
        program = [sys.executable, "-m", "ota_cli", verb, "--root", str(self.root), *rest]
        return ["ip", "netns", "exec", self.namespace, *program]


@dataclass(frozen=True)
class Fleet:
    """All ECUs by name."""

    network: Network
    ecus: Mapping[str, EcuBench]

    def __getitem__(self, name: str) -> EcuBench:
        return self.ecus[name]


@contextmanager
def fleet(base: Path, device: Path, below: Mapping[str, Sequence[str]] = BELOW) -> Iterator[Fleet]:
    """The ECUs of `below`, each a copy of `device`, while the block runs."""
    names = ["main", *(name for each in below.values() for name in each)]
    with ExitStack() as stack:
        net = stack.enter_context(network(*names, "server"))
        ecus: Dict[str, EcuBench] = {}
        for above, name in [("", "main"), *((a, n) for a, each in below.items() for n in each)]:
            ecus[name] = _make(base, device, net, name, ecus[above].root if above else base / "key")
        for name, ecu in ecus.items():
            _introduce(ecu, [ecus[each] for each in below.get(name, ())], names)
            stack.enter_context(ecu.sshd)
        yield Fleet(net, ecus)


def _make(base: Path, device: Path, net: Network, name: str, above: Path) -> EcuBench:
    """An ECU that obeys the key of the one whose device is at `above`."""
    home = base / name
    home.mkdir()
    root = copy_tree(device, home / "device")
    key = make_key(root / "etc/ota/key")
    obeys = above / "etc/ota/key" if above.is_dir() else key
    program = f"PYTHONPATH={BASE} exec {sys.executable} -m ota_cli ssh-gate --root {root}"
    sshd = Sshd(
        home / "sshd", obeys, program, address=net.addresses[name], namespace=net.namespace(name)
    )
    return EcuBench(name, root, net.namespace(name), sshd)


def _introduce(ecu: EcuBench, below: Sequence[EcuBench], everybody: Sequence[str]) -> None:
    """Tells an ECU its name, and of those below it."""
    lines = ["format_version: 1", f"ecu_id: {ecu.name}", "bootloader: directory", "secondaries:"]
    lines += [
        f"- {{ecu_id: {each.name}, ip_addr: {each.sshd.address}, identity_file: /etc/ota/key}}"
        for each in below
    ]
    if not below:
        lines.pop()
    if ecu.name == "main":
        lines.append(f"available_ecu_ids: [{', '.join(everybody)}]")
    info = ecu.root / "boot/ota/ecu_info.yml"
    info.write_text("\n".join(lines) + "\n" + DIRECTORY_SLOTS)
    known = "".join(each.sshd.known_hosts_line() for each in below)
    (ecu.root / "boot/ota/known_hosts").write_text(known)
