"""The shell scripts of our systemd units, run where a test wants their paths to be."""

from __future__ import annotations

import re
import subprocess
from typing import Mapping, Sequence

from ota_cli.core.systemd import Unit


def script_of(name: str, among: Sequence[Unit]) -> str:
    """The shell text as systemd hands it to sh: lines joined, `$$` made `$`."""
    text = next(unit.text for unit in among if unit.name == name)
    script = text.replace("\\\n", " ").split("-c '")[1].split("'\n")[0]
    return script.replace("$$", "$")


def run_script(script: str, moved: Mapping[str, str], path: str) -> int:
    """The status of `script`, in which the places of `moved` are taken elsewhere."""
    places = "|".join(re.escape(each) for each in moved)
    script = re.sub(places, lambda found: moved[found.group()], script)
    done = subprocess.run(["/bin/sh", "-c", script], env={"PATH": path}, check=False)
    return done.returncode
