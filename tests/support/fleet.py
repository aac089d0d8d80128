"""A vehicle: ECUs in network namespaces, each a device with a real sshd, and an image server."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ota_cli.boot.simulate import next_boot
from ota_cli.probe import probe
from tests.conftest import copy_tree
from tests.support.bench import BASE, DIRECTORY_SLOTS, TIMEOUT_S, Ran, environment, ota
from tests.support.machine import MACHINE_SLOTS, make_machine
from tests.support.network import Network, inside, network
from tests.support.schemas import require_as_told
from tests.support.sshd import Sshd, make_key

#: Who is below whom; `main` is above all.
BELOW: Mapping[str, Sequence[str]] = {"main": ("p1", "p2", "p3"), "p1": ("p1x",)}


@dataclass(frozen=True)
class Running:
    """An `ota` under way, with its events. `said`: the lines it printed that were heard."""

    process: subprocess.Popen[bytes]
    said: List[bytes] = field(default_factory=list)

    def until(self, ecu_id: str, **wanted: object) -> Dict[str, Any]:
        """The next event of `ecu_id`, empty for the ECU it runs on, that has these values."""
        for event in self._objects():
            if event.get("ecu_id", "") == ecu_id and wanted.items() <= event.items():
                return event
        raise AssertionError(f"it ended without {wanted} of {ecu_id}")

    def until_ready(self, *ecu_ids: str) -> None:
        """Until each of them waits for the word."""
        left = set(ecu_ids)
        for event in self._objects():
            if event.get("text") == "ready to be switched":
                left.discard(event["ecu_id"])
            if not left:
                return
        raise AssertionError(f"it ended, and {left} were not ready")

    def document(self) -> Dict[str, Any]:
        """What it said last, at its end."""
        *_, last = self._objects()
        self.process.wait(timeout=20)
        return last

    def _objects(self) -> Iterator[Dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            yield json.loads(line)


@dataclass(frozen=True)
class EcuBench:
    """One ECU: its device, its namespace, and the sshd it is asked by."""

    name: str
    root: Path
    namespace: str
    sshd: Sshd
    gate: str
    machine: Optional[Sequence[str]] = None

    def reboot(self) -> None:
        """Simulated: what it would boot next runs."""
        next_boot(probe(self.root))

    def add_health_check(self, text: str) -> Path:
        """From now on it is healthy only if the shell script `text` ends well."""
        check = self.root / "etc/ota/health.d/check"
        check.parent.mkdir(exist_ok=True)
        check.write_text(f"#!/bin/sh\n{text}\n")
        check.chmod(0o755)
        return check

    def before_request(self, verb: str, command: str) -> None:
        """From now on the shell runs `command` here before a request for `verb` is answered."""
        self.sshd.force(
            f"read -r request\n"
            f'case $request in *\'"verb": "{verb}"\'*) {command};; esac\n'
            f"{{ printf '%s\\n' \"$request\"; cat; }} | {{ {self.gate}; }}"
        )

    def hold_word(self) -> None:
        """From now on the word to arm does not reach it."""
        self.sshd.force(
            "{ while read -r line; do\n"
            "  case $line in *'\"go\"'*) exec sleep 100;; esac\n"
            "  printf '%s\\n' \"$line\"\n"
            f"done; }} | {{ {self.gate}; }}"
        )

    def ota(
        self, *words: object, env: Optional[Mapping[str, str]] = None,
        library: Optional[Path] = None,
    ) -> Ran:  # fmt: skip
        """Runs `ota` on this ECU to its end; documents are what their schemas say.

        `library`: see `bench.ota`; not on an ECU that is a machine.
        """
        if self.machine is None:
            where, namespace = ("--root", self.root), self.namespace
            ran = ota(*words, *where, env=env, library=library, namespace=namespace)
        else:
            ran = self._started(*words, env={**environment(), **(env or {})})
        if "--json" in words:
            is_dry = "--dry-run" in words
            require_as_told("check" if is_dry else str(words[0]), ran)
        return ran

    def _started(self, *words: object, env: Mapping[str, str]) -> Ran:
        argv, limit_s = self.argv(*words), TIMEOUT_S
        done = subprocess.run(argv, capture_output=True, env=env, check=False, timeout=limit_s)
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def limit_rate(self, rate: str) -> None:
        """From now on it downloads no faster, so that there is time to break things."""
        settings = self.root / "etc/ota/ota.yml"
        settings.write_text(f"{settings.read_text()}limit_rate: {rate}\n")

    def gates(self) -> List[int]:
        """The processes that answer the ECU above."""
        return _processes(f"ota_cli ssh-gate --root {self.root}$")

    def proxies(self) -> List[int]:
        """The processes that serve the ECUs below."""
        return _processes(f"ota_cli proxy --root {self.root} ")

    def kill_gates(self) -> None:
        for pid in self.gates():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextmanager
    def running(self, *words: object) -> Iterator[Running]:
        """Runs `ota` on this ECU, to be looked at meanwhile."""
        process = subprocess.Popen(
            self.argv(*words, "--output", "jsonl"), stdout=subprocess.PIPE, env=environment()
        )
        try:
            yield Running(process)
        finally:
            process.kill()
            process.communicate()

    def argv(self, *words: object) -> List[str]:
        verb, *rest = (str(word) for word in words)
        program = [*_program(verb, self.root, self.machine), *rest]
        return [*inside(self.namespace), *(self.machine or []), *program]


def _program(verb: str, root: Path, machine: Optional[Sequence[str]]) -> List[str]:
    where = [] if machine else ["--root", str(root)]
    return [sys.executable, "-m", "ota_cli", verb, *where]


def _processes(pattern: str) -> List[int]:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@dataclass(frozen=True)
class Fleet:
    """All ECUs by name."""

    network: Network
    ecus: Mapping[str, EcuBench]

    def __getitem__(self, name: str) -> EcuBench:
        return self.ecus[name]


@contextmanager
def fleet(
    base: Path,
    device: Path,
    below: Mapping[str, Sequence[str]] = BELOW,
    *,
    as_machines: bool = False,
) -> Iterator[Fleet]:
    """The ECUs of `below`, each a copy of `device`, while the block runs.

    `as_machines`: `ota` runs on each as on a machine of its own, without --root, so that it may
    reboot it; see `machine`.
    """
    names = ["main", *(name for each in below.values() for name in each)]
    with ExitStack() as stack:
        net = stack.enter_context(network(*names, "server"))
        ecus: Dict[str, EcuBench] = {}
        for above, name in [("", "main"), *((a, n) for a, each in below.items() for n in each)]:
            obeys = ecus[above].root if above else base / "key"
            ecus[name] = _make(base, device, net, name, obeys, as_machines)
        for name, ecu in ecus.items():
            _introduce(ecu, [ecus[each] for each in below.get(name, ())], names)
            stack.enter_context(ecu.sshd)
        yield Fleet(net, ecus)


def _make(
    base: Path, device: Path, net: Network, name: str, above: Path, as_machine: bool
) -> EcuBench:
    """An ECU that obeys the key of the one whose device is at `above`."""
    home = base / name
    home.mkdir()
    root = copy_tree(device, home / "device")
    key = make_key(root / "etc/ota/key")
    obeys = above / "etc/ota/key" if above.is_dir() else key
    machine = make_machine(root) if as_machine else None
    gate = [*(machine or []), *_program("ssh-gate", root, machine)]
    program = f"PYTHONPATH={BASE} exec {shlex.join(gate)}"
    sshd = Sshd(
        home / "sshd", obeys, program, address=net.addresses[name], namespace=net.namespace(name)
    )
    return EcuBench(name, root, net.namespace(name), sshd, program, machine)


def _introduce(ecu: EcuBench, below: Sequence[EcuBench], everybody: Sequence[str]) -> None:
    """Tells an ECU its name, and of those below it."""
    lines = ["format_version: 1", f"ecu_id: {ecu.name}", f"ip_addr: {ecu.sshd.address}"]
    lines += ["bootloader: directory", "secondaries:"]
    lines += [
        f"- {{ecu_id: {each.name}, ip_addr: {each.sshd.address}, identity_file: /etc/ota/key}}"
        for each in below
    ]
    if not below:
        lines.pop()
    if ecu.name == "main":
        lines.append(f"available_ecu_ids: [{', '.join(everybody)}]")
    info = ecu.root / "boot/ota/ecu_info.yml"
    slots = MACHINE_SLOTS if ecu.machine else DIRECTORY_SLOTS
    info.write_text("\n".join(lines) + "\n" + slots)
    known = "".join(each.sshd.known_hosts_line() for each in below)
    (ecu.root / "boot/ota/known_hosts").write_text(known)
