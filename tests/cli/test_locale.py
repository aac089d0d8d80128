"""Names in images are UTF-8; the locale of whoever runs `ota` has no say in that."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import List

import pytest

from tests.conftest import Server
from tests.support.bench import environment, ota, ota_argv

#: What Python does in a locale with another encoding; the C locale alone means UTF-8 to it.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAME = "srv/odd/it's, 100%? #;&=+~/ü\u2028"


@pytest.mark.parametrize("program", [ota_argv(), [str(Path(ota_argv()[0]).with_name("ota"))]])
def test_names_are_utf8_where_the_locale_has_another_encoding(
    device: Path, server: Server, program: List[str]
) -> None:
    argv = [*program, "update", "--root", str(device), "--as", "Müller", "--stage-only"]
    argv += ["--version", f"{server.url}v2/", "--cacert", str(server.cacert)]
    done = subprocess.run(
        argv, env={**environment(), **ASCII}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert (device / "slots/b" / NAME).is_file()
    assert ota("verify", "--root", device).code == 0
