"""A real terminal of 80 columns: tmux runs a command in it and says what is on the screen."""

from __future__ import annotations

import re
import shlex
import subprocess
import uuid
from pathlib import Path
from typing import Mapping, Sequence

from tests.support.bench import environment, ota_argv

COLUMNS, LINES = 80, 50

#: What is another in each run; a `#` stands for each character, so that nothing moves.
_CHANGING = (
    re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d UTC)|(?:\d+(?:\.\d+)? (?:[kMGT]?B|s)\b)"),
    re.compile(r"(?<=127\.0\.0\.1:)\d+"),
    re.compile(r"(?<=/tmp/ota-)\w{8}(?=/)"),
)


def screen(
    words: Sequence[str], where: Path, env: Mapping[str, str], *, colours: bool = False
) -> str:
    """What `ota` with `words`, started in `where`, leaves on the screen, without what changes
    from run to run. `colours`: with the escapes that make them."""
    name = f"ota-{uuid.uuid4().hex[:8]}"
    variables = {**_plain_environment(), **env}
    settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items())
    command = f"env -i {settings} {shlex.join([*ota_argv(), *words])}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    ended = f"{shlex.join(tmux)} wait-for -S ended"
    try:
        _run([*tmux, "-u", "new-session", "-d", *size, f"{command}; {ended}; exec cat"], where)
        _run([*tmux, "wait-for", "ended"], where)
        shown = _run([*tmux, "capture-pane", "-p", *(["-e"] if colours else [])], where)
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)
    lines = [line.rstrip() for line in _steady(shown).rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _plain_environment() -> Mapping[str, str]:
    kept = {key: value for key, value in environment().items() if key in ("PATH", "PYTHONPATH")}
    return {**kept, "HOME": "/", "TERM": "tmux-256color", "LANG": "C.UTF-8"}


def _run(argv: Sequence[str], where: Path) -> str:
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _steady(text: str) -> str:
    times_and_sizes, *others = _CHANGING
    text = times_and_sizes.sub(lambda found: re.sub(r"\d", "#", found.group()), text)
    for pattern in others:
        text = pattern.sub(lambda found: "#" * len(found.group()), text)
    return text
