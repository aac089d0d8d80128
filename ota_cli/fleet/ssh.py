"""The `ssh` command to an ECU below. Its words are options of ours, never a user's text in a shell.

What is asked for is always the same constant command; what it should do goes to its stdin.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import List, NamedTuple, Optional

from ..model import Secondary

#: The whole command line that the shell at the other end sees.
GATE_COMMAND = "ota ssh-gate"
CONNECT_TIMEOUT_S = 10
#: A connection over which nothing comes for this long is given up by ssh, on our side.
_KEEP_ALIVE_S, _KEEP_ALIVES = 5, 4
#: How long a connection waits for the next question; after a kill -9 it is gone soon.
_PERSIST_S = 15
_PREFIX = "ota-ssh-"

#: No file but those named here decides: `-F none`. Nothing of this machine is lent to the other.
_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no",
    "PreferredAuthentications=publickey", "IdentityAgent=none", "ForwardAgent=no",
    "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no", "RequestTTY=no",
    "EscapeChar=none", "ConnectionAttempts=1", f"ServerAliveInterval={_KEEP_ALIVE_S}",
    f"ServerAliveCountMax={_KEEP_ALIVES}", "ControlMaster=auto",
    f"ControlPersist={_PERSIST_S}", "LogLevel=ERROR",
)  # fmt: skip


class SshFiles(NamedTuple):
    """Files of one connection, under names that need no quoting; see `make_directory`.

    `known_hosts` and `identity`: None for those that ssh finds itself.
    """

    control: Path
    known_hosts: Optional[Path]
    identity: Optional[Path]


def make_directory() -> Path:
    """A new directory that only this user may enter, with a short name: sockets live here.

    A path of a socket has at most 107 bytes (unix(7)), and ssh gives `%` and blanks in names of
    files a meaning: what has a name of the user's gets a symlink here. Directories of commands
    that were killed are removed.
    """
    place = "/run" if os.access("/run", os.W_OK) else "/tmp"  # noqa: S108 (mkdtemp makes it safe)
    for old in Path(place).glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # another `ota` removes it as well
            if _is_ours(old.lstat()) and not _is_running(old.name):
                remove_directory(old)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))


def _is_ours(found: os.stat_result) -> bool:
    """Never a link: what anybody put into /tmp could lead anywhere."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _is_running(name: str) -> bool:
    """Whether the process that made the directory `name` is there."""
    return os.path.exists(f"/proc/{name[len(_PREFIX) :].partition('-')[0]}")


def remove_directory(directory: Path) -> None:
    """Removes what `make_directory` made, while ssh may be making or removing its socket there.

    Where one comes in between, the directory stays for the next `make_directory` to remove.
    """
    for path in directory.iterdir():
        path.unlink(missing_ok=True)
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def gate_argv(secondary: Secondary, files: SshFiles, connect_timeout_s: float) -> List[str]:
    """Runs the gate at `secondary`, over a connection that is there already if one is."""
    timeout = f"ConnectTimeout={max(1, round(connect_timeout_s))}"
    options = [*_OPTIONS, timeout, f"ControlPath={files.control}", *_trusted(files)]
    who = ["-l", secondary.ssh_user] if secondary.ssh_user else []
    where = ["-p", str(secondary.ssh_port)] if secondary.ssh_port else []
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", "-T", *words, *who, *where, "--", secondary.ip_addr, GATE_COMMAND]


def close_argv(secondary: Secondary, control: Path) -> List[str]:
    """Ends the connection that waits for another question."""
    return ["ssh", "-F", "none", "-O", "exit", "-S", str(control), "--", secondary.ip_addr]


def _trusted(files: SshFiles) -> List[str]:
    known = []
    if files.known_hosts is not None:
        known = [f"UserKnownHostsFile={files.known_hosts}", "GlobalKnownHostsFile=none"]
    own = []
    if files.identity is not None:
        own = [f"IdentityFile={files.identity}", "IdentitiesOnly=yes"]
    return [*known, *own]
