"""The real sshd, with keys of its own and one forced command for one client key."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Type

import pytest

from tests.support.network import inside

_PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")

needs_sshd = pytest.mark.skipif(
    _PROGRAM is None or shutil.which("ssh") is None, reason="OpenSSH's sshd is not installed here"
)

_CONFIG = """\
ListenAddress {address}:{port}
HostKey {base}/host_key
PidFile none
AuthorizedKeysFile {base}/authorized_keys
AuthenticationMethods publickey
UsePAM no
StrictModes no
LogLevel VERBOSE
# bash(1) then leaves ~/.bashrc alone, which may wait for locks that a killed session left.
SetEnv SHLVL=2
"""


def make_key(path: Path) -> Path:
    """A new key pair at `path` and `path`.pub."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def public_half(key: Path) -> str:
    """Type and base64 of a key, as the files of OpenSSH have them."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Sshd:
    """Listens at `address` while its `with` block runs, in the network `namespace` if one is named.

    `base`: an own directory for its files. Who has `client_key` runs `forced`, whatever it asks.
    """

    def __init__(
        self, base: Path, client_key: Path, forced: str, *, address: str = "127.0.0.1",
        port: int = 22, namespace: Optional[str] = None,
    ) -> None:  # fmt: skip
        base.mkdir()
        self.base = base
        self.address = address
        self.port = port
        self.host_key = make_key(base / "host_key")
        self.log = base / "log"
        self._client_key = client_key
        self._inside = inside(namespace)
        (base / "sshd_config").write_text(_CONFIG.format(address=address, port=port, base=base))
        self.force(forced)

    def force(self, command: str) -> None:
        """From now on the client key runs `command`, by the shell."""
        script = self.base / "forced.sh"
        script.write_text(f"{command}\n")
        self._authorize(f'restrict,command="exec sh {script}" {public_half(self._client_key)}\n')

    def allow_any_command(self) -> None:
        """From now on the client key may run what it asks for."""
        self._authorize(f"restrict {public_half(self._client_key)}\n")

    def refuse_all_keys(self) -> None:
        self._authorize("")

    def _authorize(self, line: str) -> None:
        (self.base / "authorized_keys").write_text(line)

    def known_hosts_line(self, key: Optional[Path] = None) -> str:
        """The line that makes clients take `key` for the server's own, which is the default."""
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return f"{name} {public_half(key or self.host_key)}\n"

    def logins(self) -> int:
        """How often a key was accepted so far: sessions over one connection count once."""
        return self.log.read_text().count("Accepted publickey")

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it for its unprivileged part
        self.log.touch()
        before = self.log.stat().st_size
        argv = [str(_PROGRAM), "-D", "-f", str(self.base / "sshd_config"), "-E", str(self.log)]
        self._process = subprocess.Popen([*self._inside, *argv], start_new_session=True)
        deadline = time.monotonic() + 20
        while b"Server listening" not in self.log.read_bytes()[before:]:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it and all its connections; what runs over them sees its stdin end."""
        for pid in [*self.children(), self._process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def children(self) -> List[int]:
        """The processes of its connections."""
        found = subprocess.run(
            ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def signal(self, number: int) -> None:
        """Sends a signal to the one that listens."""
        os.kill(self._process.pid, number)
