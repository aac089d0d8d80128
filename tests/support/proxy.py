"""The real `ota proxy`, running beside a test, and what a client of it gets."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Type
from urllib.parse import urlsplit

from tests.support.bench import environment, ota_argv


class Got(NamedTuple):
    """An answer. `cut`: the body ended before what the headers promised."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


class RunningProxy:
    """`ota proxy` on the device below `root`, while its `with` block runs; on any free port."""

    def __init__(self, root: Path, upstream: str, *words: object) -> None:
        self._argv = [
            *ota_argv(), "proxy", "--root", str(root), "--upstream", upstream, "--port", "0",
            "--output", "jsonl", *(str(word) for word in words),
        ]  # fmt: skip
        self.report: Dict[str, Any] = {}

    def __enter__(self) -> RunningProxy:
        self._process = subprocess.Popen(
            self._argv, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = json.loads(line).get("text", "")
            if text.startswith("proxy listens on "):
                self.port = int(text.rpartition(":")[2])
                self.url = f"http://127.0.0.1:{self.port}"
                return self
        raise AssertionError(self._process.communicate())

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def end(self) -> Dict[str, Any]:
        """Ends it as an operator would; its report."""
        self._process.send_signal(signal.SIGTERM)
        out, err = self._process.communicate(timeout=30)
        document = json.loads(out.splitlines()[-1])
        assert document["ok"], (document, err)
        result: Dict[str, Any] = document["result"]
        return result

    def kill(self) -> None:
        """Ends it at once, with whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def get(
        self, url: str, headers: Optional[Mapping[str, str]] = None, *, method: str = "GET",
        source: str = "127.0.0.1",
    ) -> Got:  # fmt: skip
        """What a client at the address `source` gets for a URL, of which it says http."""
        target = url if url.startswith("/") else urlsplit(url)._replace(scheme="http").geturl()
        client = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        try:
            client.request(method, target, headers=dict(headers or {}))
            answer = client.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            try:
                return Got(answer.status, found, answer.read())
            except http.client.IncompleteRead as error:
                return Got(answer.status, found, error.partial, cut=True)
        finally:
            client.close()
