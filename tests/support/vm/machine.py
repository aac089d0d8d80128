"""One machine: switched on, driven over its serial ports, rebooted, and cut off from power."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Type

import pytest

from tests.support.bench import Ran

QEMU = "qemu-system-x86_64"
BOOT_S = 600.0
COMMAND_S = 900.0
#: The host's loopback as the machine sees it (QEMU's user-mode network).
HOST = "10.0.2.2"

needs_qemu = pytest.mark.skipif(
    not (shutil.which(QEMU) and shutil.which("qemu-img") and shutil.which("sfdisk")),
    reason="qemu-system-x86, qemu-utils or fdisk is not installed here",
)


class Machine:
    """A machine with its own copy of a disk, at no cost; off when its `with` block ends.

    It has one processor: two machines side by side on two cores get more done that way.

    `hardware`: what it has besides a disk, a network and a serial port, as words for QEMU.
    """

    def __init__(self, disk: Path, scratch: Path, hardware: Sequence[object] = ()) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._hardware = [str(word) for word in hardware]
        self.disk = scratch / "disk.qcow2"
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._agent: Optional[socket.socket] = None
        self._unread = b""
        self._count = 0
        self._said = 0
        self._insert(disk)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.cut()

    def switch_on(self) -> None:
        """Starts the machine; returns before it has booted."""
        self.cut()
        path = self._scratch / "agent.sock"
        with suppress(FileNotFoundError):
            path.unlink()
        self._said = len(self.console())
        self._process = subprocess.Popen(
            [
                QEMU, "-accel", "tcg,thread=multi", "-smp", "1", "-m", "1024", "-display", "none",
                "-no-reboot", "-nodefaults",
                *self._drive(), *self._hardware,
                "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n",
                "-chardev", f"file,id=console,path={self.console_log},append=on",
                "-serial", "chardev:console",
                "-chardev", f"socket,id=agent,path={path},server=on,wait=off",
                "-serial", "chardev:agent",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._agent = self._connect(path)
        self._unread = b""

    def boot(self) -> None:
        """Starts the machine and waits until its system answers."""
        self.switch_on()
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Until the system answers. Fails with the end of the console when it does not."""
        message = self._receive(time.monotonic() + BOOT_S)
        assert message == {"ready": True}, message

    def run(self, command: str, stdin: str = "", timeout_s: float = COMMAND_S) -> Ran:
        """Runs a shell command as root in the machine, to its end."""
        self._send(command, stdin)
        return self._answer(timeout_s)

    def must(self, command: str, stdin: str = "", timeout_s: float = COMMAND_S) -> str:
        """Runs a command that must succeed; what it printed."""
        done = self.run(command, stdin, timeout_s)
        assert done.code == 0, f"{command}: {done.code}\n{done.out}{done.err}"
        return done.out

    def begin(self, command: str) -> None:
        """Starts a command whose answer is not waited for: the power will be cut."""
        self._send(command, "")

    def wait_for_console(self, text: str, timeout_s: float = BOOT_S) -> None:
        """Until `text` was printed since the machine was switched on."""
        deadline = time.monotonic() + timeout_s
        while text not in self.console()[self._said :]:
            assert time.monotonic() < deadline, f"{text!r} is not on:\n{self.console()[-3000:]}"
            time.sleep(0.05)

    def run_for(self, seconds: float) -> None:
        """Lets the machine run on for a while: a cut comes at any moment, not at a sign."""
        time.sleep(seconds)

    def wait_until_off(self, timeout_s: float = BOOT_S) -> None:
        """Until the machine reset or switched itself off."""
        assert self._process is not None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the machine does not go off; its console:\n{self.console()[-3000:]}")

    def reboot(self) -> None:
        """An ordinary reboot, from inside."""
        self.begin("systemctl reboot")
        self.wait_until_off()
        self.boot()

    def cut(self) -> None:
        """Cuts the power: what the system had not flushed is gone."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def console_log(self) -> Path:
        return self._scratch / "console.log"

    def console(self) -> str:
        """All that GRUB, kernels and systems have printed."""
        return self.console_log.read_text("utf-8", "replace") if self.console_log.exists() else ""

    def _insert(self, disk: Path) -> None:
        """Makes the machine's own copy of `disk`."""
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, self.disk],
            check=True,
        )

    def _drive(self) -> List[str]:
        """How QEMU shall attach the disk."""
        return ["-drive", f"file={self.disk},format=qcow2,if=virtio"]

    def _connect(self, path: Path) -> socket.socket:
        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            agent = socket.socket(socket.AF_UNIX)
            try:
                agent.connect(str(path))
                return agent
            except OSError:
                agent.close()
            assert self._process.poll() is None, str(self._process.communicate()[1])
            assert time.monotonic() < deadline, "QEMU does not open its socket"
            time.sleep(0.02)

    def _send(self, command: str, stdin: str) -> None:
        assert self._agent is not None
        self._count += 1
        request = {"id": self._count, "command": command, "stdin": stdin}
        self._agent.sendall(json.dumps(request).encode() + b"\n")

    def _answer(self, timeout_s: float) -> Ran:
        message = self._receive(time.monotonic() + timeout_s)
        assert message.get("id") == self._count, message
        return Ran(message["code"], message["out"], message["err"])

    def _receive(self, deadline: float) -> Dict[str, Any]:
        """The next message; firmware also prints on this port, before there are any."""
        while True:
            _, brace, message = self._line(deadline).partition(b"{")
            if brace:
                found: Dict[str, Any] = json.loads(brace + message)
                return found

    def _line(self, deadline: float) -> bytes:
        assert self._agent is not None
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            assert left > 0, f"no answer; the console ends with:\n{self.console()[-3000:]}"
            self._agent.settimeout(left)
            try:
                data = self._agent.recv(65536)
            except socket.timeout:
                continue
            assert data, f"the machine went off; its console:\n{self.console()[-3000:]}"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line
