"""A publisher whose image can be spoilt, and an update that is expected to fail on it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, List, Tuple

import zstandard

from ota_cli.image.serve import DevServer
from ota_cli.image.sign import sign
from tests.support.bench import Ran, ota, touched


class Publisher:
    """An image of our own to spoil, and a server for it."""

    def __init__(self, directory: Path, server: DevServer, keys: Path) -> None:
        self.directory = directory
        self.server = server
        self.keys = keys

    def at(self) -> List[str]:
        return ["--version", f"{self.server.url}v2/", "--cacert", str(self.server.cacert)]

    def sign(self) -> None:
        """Signs whatever is in the directory now."""
        now = datetime.now(timezone.utc)
        sign(self.directory, self.keys / "sign.key", self.keys / "sign.crt", now)

    def edit(self, name: str, old: bytes, new: bytes) -> None:
        """Changes one place of a file."""
        data = (self.directory / name).read_bytes()
        assert old in data
        (self.directory / name).write_bytes(data.replace(old, new, 1))


def add_attributes(*lines: bytes) -> Callable[[Publisher], None]:
    """Appends lines to the table that is compressed."""

    def spoil(publisher: Publisher) -> None:
        table = publisher.directory / "attributes.txt.zst"
        text = zstandard.ZstdDecompressor().decompress(table.read_bytes())
        table.write_bytes(zstandard.ZstdCompressor().compress(text + b"\n".join(lines) + b"\n"))

    return spoil


class Attempt:
    """An update that is expected to fail, and what it must leave alone."""

    def __init__(self, device: Path, publisher: Publisher) -> None:
        self.device = device
        self.publisher = publisher
        self.before = touched(device)

    def fails(self, code: int, *said: str, extra: Tuple[str, ...] = ()) -> Ran:
        """The update ends with `code`, says so, and has touched nothing but the standby slot."""
        done = ota("update", "--root", self.device, *self.publisher.at(), *extra)
        assert done.code == code, f"{done.code}: {done.err}"
        assert done.err.count("ota: error:") == 1, done.err
        assert "hint: " in done.err
        assert "Traceback" not in done.err
        for text in said:
            assert text in done.err, done.err
        assert touched(self.device) == self.before
        return done

    def completes(self) -> None:
        done = ota("update", "--root", self.device, *self.publisher.at())
        assert done.code == 0, done.err
        assert ota("status", "--root", self.device, "--json").result["next"] == "b"
