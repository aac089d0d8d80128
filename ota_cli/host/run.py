"""The one way to run another program: an argv list, a scrubbed environment, a time limit."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import Dict, List, Optional, Sequence

from ..errors import OtaError

DEFAULT_TIMEOUT_S = 120.0
#: Where a system has its programs.
_PROGRAMS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


class CommandFailed(OtaError):
    """A program `ota` relies on is missing, failed or hung.

    Callers that know what the failure means raise their own error from this one.
    """

    slug = "command-failed"

    def __init__(self, argv: Sequence[str], why: str, returncode: Optional[int] = None) -> None:
        super().__init__(f"`{shlex.join(argv)}` {why}")
        self.argv: List[str] = list(argv)
        self.why = why
        self.returncode = returncode


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = DEFAULT_TIMEOUT_S,
    ok: Sequence[int] = (0,),
    holding: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Runs `argv` to its end and returns it with captured output.

    The program has the descriptors `holding` too: their locks last as long as it works, also
    when this process is killed.

    Raises CommandFailed, with the last line the program printed, when the program is missing,
    ends with a status not in `ok`, or takes longer than `timeout_s` seconds.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, env=clean_environment(),
            timeout=timeout_s, check=False, cwd="/", pass_fds=tuple(holding),
        )  # fmt: skip
    except FileNotFoundError:
        raise CommandFailed(argv, "is not installed") from None
    except OSError as error:
        raise CommandFailed(argv, f"can not be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(argv, f"took longer than {timeout_s:.0f} s") from None
    if done.returncode not in ok:
        why = f"failed with status {done.returncode}{_last_words(done.stderr or done.stdout)}"
        raise CommandFailed(argv, why, done.returncode)
    return done


def is_installed(program: str) -> bool:
    """Whether `run` finds it."""
    return shutil.which(program, path=clean_environment()["PATH"]) is not None


def clean_environment() -> Dict[str, str]:
    """What children may see: the search path and a fixed locale, no secrets.

    cron searches /usr/bin and /bin only, and blkid, e2fsck and mkfs.ext4 are not there.
    """
    given = os.environ.get("PATH", "").split(":")
    path = [*filter(None, given), *(each for each in _PROGRAMS if each not in given)]
    return {"PATH": ":".join(path), "LC_ALL": "C.UTF-8", "HOME": "/root"}


def _last_words(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
