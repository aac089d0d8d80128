"""The real nginx, serving a directory over TLS on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import List, Optional, Type

import pytest

from ota_cli.image.keys import make_server_certificate
from tests.support.network import inside

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin") is None,
    reason="nginx is not installed here",
)

_CONFIG = """\
daemon off;
master_process off;
pid {base}/pid;
error_log {base}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format timed '$remote_addr - - [$time_local] "$request" $status $body_bytes_sent $msec';
    access_log {base}/access.log timed;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    default_type application/octet-stream;
    {site}
}}
"""
_SITE = """\
    server {{
        listen {address}:{port} ssl{listen};
        ssl_certificate {base}/cert.pem;
        ssl_certificate_key {base}/key.pem;
        root {root};
        {ciphers}
        {only}
    }}
"""


class Nginx:
    """Serves `directory` while its `with` block runs; `url` and `cacert` as for clients.

    `host`: the address clients know it by; it listens on loopback, or at `host` within a network
    `namespace`. `unsent_bytes`: how much of a body may wait in the kernel, where it counts as
    sent; None: as much as that likes. `ciphers`: of TLS 1.3, the only ones it agrees to. `cookie`:
    without it every answer is 403. `site`: a server block with such placeholders, instead of ours.
    """

    def __init__(
        self, directory: Path, host: str = "127.0.0.1", *, unsent_bytes: Optional[int] = None,
        namespace: Optional[str] = None, ciphers: str = "", cookie: str = "",
        site: str = _SITE,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._host = host
        self._inside = inside(namespace)
        self._address = host if namespace else "127.0.0.1"
        self._ciphers = f"ssl_conf_command Ciphersuites {ciphers};" if ciphers else ""
        self._only = f'if ($http_cookie != "{cookie}") {{ return 403; }}' if cookie else ""
        self._site = site
        self._listen = f" sndbuf={unsent_bytes}" if unsent_bytes else ""

    def __enter__(self) -> Nginx:
        self._temporary = tempfile.TemporaryDirectory(prefix="ota-nginx-")
        base = Path(self._temporary.name)
        pair = make_server_certificate([self._host])
        self.cacert = base / "cert.pem"
        self.cacert.write_bytes(pair.certificate)
        (base / "key.pem").write_bytes(pair.key)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        site = self._site.format(
            base=base, address=self._address, port=port, root=self._directory,
            listen=self._listen, ciphers=self._ciphers, only=self._only,
        )  # fmt: skip
        config = _CONFIG.format(base=base, site=site)
        if os.geteuid() == 0:
            config = f"user root;\n{config}"
        (base / "nginx.conf").write_text(config)
        self.port = port
        self.url = f"https://{self._host}:{port}/"
        self._log = base / "access.log"
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin") or "nginx"
        files = ["-p", str(base), "-c", str(base / "nginx.conf"), "-e", str(base / "e")]
        self._process = subprocess.Popen(
            [*self._inside, program, *files],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._wait(base / "pid")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._temporary.cleanup()

    def requests(self) -> int:
        """How many requests were answered so far."""
        return len(self.lines())

    def sent_bytes(self) -> int:
        """How many bytes of bodies were sent so far."""
        return sum(int(line.split('" ')[1].split()[1]) for line in self.lines())

    def last_answer(self) -> float:
        """The time of day at which the last request was answered, in seconds."""
        return float(self.lines()[-1].split()[-1])

    def paths(self) -> List[str]:
        """What was asked for, percent-encoded and without the leading slash, in order."""
        return [line.split('"')[1].split()[1].lstrip("/") for line in self.lines()]

    def lines(self) -> List[str]:
        """What was logged of each request: the client's address first."""
        return self._log.read_text().splitlines()

    def _wait(self, pid_file: Path) -> None:
        """Until it listens: only then it writes its number."""
        deadline = time.monotonic() + 20
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert self._process.poll() is None, "nginx ended: " + str(
                self._process.communicate()[1]
            )
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
