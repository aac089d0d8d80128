"""Network namespaces that see each other over a bridge, as ECUs in a vehicle do. Needs root."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Sequence

import pytest

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("nsenter")),
    reason="network namespaces need root, iproute2 and util-linux",
)

_PREFIX = "ota-test"


def inside(namespace: Optional[str]) -> List[str]:
    """What runs the words behind it in `namespace`; nothing for None.

    `ip netns exec` would take a copy of all mounts along, and with it what other tests have
    mounted just then: their devices would stay in use.
    """
    return ["nsenter", f"--net={path_of(namespace)}", "--"] if namespace else []


def path_of(namespace: str) -> str:
    """Where iproute2 keeps it (ip-netns(8))."""
    return f"/run/netns/{namespace}"


class Network:
    """Namespaces by name, each with an address of its own on one bridge."""

    def __init__(self, names: Sequence[str]) -> None:
        self._number = next(_numbers)
        self.addresses: Dict[str, str] = {
            name: f"10.77.{self._number % 256}.{place}" for place, name in enumerate(names, 1)
        }

    def namespace(self, name: str) -> str:
        return f"{_PREFIX}-{os.getpid()}-{self._number}-{name}"

    def cut(self, name: str) -> None:
        """Nothing reaches `name` any more, as with a cable pulled out."""
        _ip("-n", self.namespace("bridge"), "link", "set", name, "down")

    def mend(self, name: str) -> None:
        _ip("-n", self.namespace("bridge"), "link", "set", name, "up")

    def make(self) -> None:
        bridge = self._new("bridge")
        _ip("-n", bridge, "link", "add", "middle", "type", "bridge")
        _ip("-n", bridge, "link", "set", "middle", "up")
        for name, address in self.addresses.items():
            own = self._new(name)
            pair = ("name", "eth0", "netns", own, "type", "veth", "peer", "name", name)
            _ip("link", "add", *pair, "netns", bridge)
            _ip("-n", bridge, "link", "set", name, "master", "middle", "up")
            _ip("-n", own, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", own, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Also what still runs inside."""
        for name in ("bridge", *self.addresses):
            _remove(self.namespace(name))

    def _new(self, name: str) -> str:
        namespace = self.namespace(name)
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Namespaces of these names while the block runs."""
    _remove_what_killed_runs_left()
    made = Network(names)
    try:
        made.make()
        yield made
    finally:
        made.remove()


_numbers = itertools.count(1)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def _namespaces() -> Sequence[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line]


def _remove(namespace: str) -> None:
    if namespace in _namespaces():
        for pid in _ip("netns", "pids", namespace).split():
            subprocess.run(["kill", "-9", pid], stderr=subprocess.DEVNULL, check=False)
        _ip("netns", "delete", namespace)


def _remove_what_killed_runs_left() -> None:
    for namespace in _namespaces():
        if namespace.startswith(f"{_PREFIX}-"):
            pid = namespace[len(_PREFIX) + 1 :].split("-")[0]
            if not os.path.exists(f"/proc/{pid}"):
                _remove(namespace)
