"""The shell scripts of our systemd units, run where a test wants their paths to be."""

from __future__ import annotations

import re
import subprocess
from typing import List, Mapping, Sequence

from ota_cli.core.systemd import Unit


def script_of(name: str, among: Sequence[Unit]) -> str:
    """The shell text as systemd hands it to sh: lines joined, `$$` made `$`."""
    text = next(unit.text for unit in among if unit.name == name)
    script = text.replace("\\\n", " ").split("-c '")[1].split("'\n")[0]
    return script.replace("$$", "$")


def limited(name: str, among: Sequence[Unit]) -> List[str]:
    """What runs a program, as root, with no more capabilities than the unit leaves it."""
    text = next(unit.text for unit in among if unit.name == name)
    named = re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[0].lower().split()
    kept = ",".join(["-all", *(each.replace("cap_", "+") for each in named)])
    return ["setpriv", "--no-new-privs", f"--bounding-set={kept}"]


def run_script(
    script: str, moved: Mapping[str, str], path: str, before: Sequence[str] = ()
) -> int:  # fmt: skip
    """The status of `script`, in which the places of `moved` are taken elsewhere.

    `before`: what runs the shell.
    """
    places = "|".join(re.escape(each) for each in moved)
    script = re.sub(places, lambda found: moved[found.group()], script)
    argv = [*before, "/bin/sh", "-c", script]
    done = subprocess.run(argv, env={"PATH": path}, check=False)
    return done.returncode
