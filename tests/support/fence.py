"""A fence around a program: the machine is read-only to it but for a few directories.

The kernel judges where a call leads, through links and all, and at the moment it is made; strace
tells which ones it turned down, those among them whose failure the program passes over. In the
fence are no disks, device nodes that are made there do not work, and nothing can be mounted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import pytest

_BUILD = """
set -eu
umount --recursive --lazy /dev
mount -t tmpfs -o mode=755 dev /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
findmnt --raw --noheadings --output TARGET | while read -r place; do
    mount -o remount,bind,ro,nodev "$(printf '%b' "$place")"
done
mount -o remount,bind,ro,dev /dev
until [ "$1" = -- ]; do
    mount --bind "$1" "$1"
    mount -o remount,bind,rw,nodev "$1"
    shift
done
shift
exec setpriv --bounding-set=-sys_admin -- "$@"
"""
#: A rename or link from where one may write to where one may not is EXDEV. Asking is no writing.
_TURNED_DOWN = re.compile(r"\d+ +(?!f?access)\w+\(.* = -1 (?:EROFS|EXDEV) ")


class Fenced(NamedTuple):
    """How a program in a fence ended, and its calls that would have written outside."""

    done: subprocess.CompletedProcess[bytes]
    escapes: List[str]


def fence_is_possible() -> bool:
    """Root that may make a mount namespace, and the tools."""
    tools = ("strace", "unshare", "setpriv", "findmnt")
    return (
        os.geteuid() == 0
        and all(map(shutil.which, tools))
        and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
        == 0
    )


needs_fence = pytest.mark.skipif(not fence_is_possible(), reason="a fence needs root and strace")


def fenced(
    argv: Sequence[str], writable: Sequence[Path], log: Path, env: Dict[str, str],
    timeout_s: float = 60, limit: Optional[Callable[[], None]] = None,
) -> Fenced:  # fmt: skip
    """Runs `argv`, which can write below the directories `writable` only.

    `log`: a file for strace, outside of them. `limit` runs in the new process.
    """
    places = [str(place) for place in writable]
    trace = ["strace", "-f", "-q", "-Z", "-s", "256", "-o", str(log)]
    done = subprocess.run(
        [*trace, "unshare", "-m", "sh", "-c", _BUILD, "sh", *places, "--", *argv],
        capture_output=True, env={**env, "PYTHONDONTWRITEBYTECODE": "1"}, check=False,
        timeout=timeout_s, preexec_fn=limit,
    )  # fmt: skip
    return Fenced(done, [line for line in _lines(log) if _TURNED_DOWN.match(line)])


def _lines(log: Path) -> List[str]:
    return log.read_text("utf-8", "replace").splitlines()
