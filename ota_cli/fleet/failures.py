"""Why another ECU could not be asked: what OpenSSH or the shell there said, as an error. Pure.

The texts are those of OpenSSH 8.2 to 9.2 with `LogLevel=ERROR`; what is not known among them is
passed on as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Tuple, Type

from ..core.protocol import SCHEMA, Answer
from ..core.text import printable
from ..errors import ConfigError, OtaError, Unreachable
from ..events import Hello
from ..model import Secondary

#: ssh(1): "exits with the exit status of the remote command or with 255 if an error occurred".
SSH_FAILED = 255
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_MAX_WORDS = 300


class _Cause(NamedTuple):
    """`sign`: what ssh prints. `why` and `hint` may name `{host}`, `{known_hosts}`, `{line}`."""

    sign: str
    kind: Type[OtaError]
    slug: str
    why: str
    hint: str


_CAUSES: Tuple[_Cause, ...] = (
    _Cause(
        "REMOTE HOST IDENTIFICATION HAS CHANGED", ConfigError, "host-key-changed",
        "its host key is not the one that is known: it was set up anew, or somebody else answers",
        "find out which; then replace the key of {host} in {known_hosts}",
    ),
    _Cause(
        r"Host key verification failed|host key is known for", ConfigError, "host-key-unknown",
        "its host key is not known here",
        "compare its fingerprint, then add the line of `ssh-keyscan {host}` to {known_hosts}",
    ),
    _Cause(
        r"Permission denied|Too many authentication failures", ConfigError, "key-refused",
        "it refuses our key",
        "put the public key of `identity_file` into authorized_keys there, as `man ota-ssh-gate` "
        "shows",
    ),
    _Cause(
        r"timed out|Timeout", Unreachable, "ecu-timeout", "it does not answer in time",
        "is it running, and is the network there?",
    ),
    _Cause(
        r"Could not resolve hostname", Unreachable, "ecu-unreachable", "{line}",
        "correct `ip_addr` in ecu_info.yml",
    ),
    _Cause(
        r"connect to host|closed by|Connection reset|Broken pipe|kex_exchange|banner",
        Unreachable, "ecu-unreachable", "{line}", "is it running, and is its sshd?",
    ),
)  # fmt: skip


def refusal(secondary: Secondary, kind: Type[OtaError], slug: str, why: str, hint: str) -> OtaError:
    """An error about `secondary`: each names the ECU, its address and the cause."""
    where = f"ECU {secondary.ecu_id} at {secondary.ip_addr}"
    return kind(f"{where} can not be asked: {why}", hint=hint, slug=slug)


def no_hello(secondary: Secondary, status: int, said: str, known_hosts: str) -> OtaError:
    """Why `ssh`, which ended with `status` and `said` this on stderr, brought no first line."""
    line = _last_line(said)
    if status == SSH_FAILED:
        return _ssh_failed(secondary, said, line, known_hosts)
    if status in (_NOT_FOUND, _NOT_EXECUTABLE):
        return refusal(
            secondary, ConfigError, "ota-missing", f"there is no ota to run: {line}",
            "install ota there; it must be on the PATH of a non-interactive shell",
        )  # fmt: skip
    if "ssh-gate" in said and "No such command" in said:
        return refusal(
            secondary, ConfigError, "ota-too-old", "its ota knows nothing of other ECUs",
            "update ota there",
        )  # fmt: skip
    return refusal(
        secondary, ConfigError, "not-ota",
        f"what it runs ended with status {status} and is not ota{f': {line}' if line else ''}",
        "see the forced command in authorized_keys there, and `man ota-ssh-gate`",
    )  # fmt: skip


def lost(secondary: Secondary, status: int, said: str) -> OtaError:
    """Why the answer of `secondary` ended before its end."""
    if status == SSH_FAILED:
        return refusal(
            secondary, Unreachable, "ecu-lost", "the connection broke in the middle",
            "run the same command again; finished work is kept there",
        )  # fmt: skip
    line = _last_line(said)
    return refusal(
        secondary, Unreachable, "ecu-lost",
        f"its ota ended in the middle, with status {status}{f': {line}' if line else ''}",
        "run the same command again; finished work is kept there",
    )  # fmt: skip


def told(secondary: Secondary, answer: Answer) -> OtaError:
    """The failure that `secondary` itself told, with its own exit code."""
    return answer.failure(f"ECU {secondary.ecu_id}: ")


def other_schema(secondary: Secondary, hello: Hello) -> OtaError:
    """The `ota` of `secondary` is of another age."""
    return refusal(
        secondary, ConfigError, "other-schema",
        f"its ota {hello.version} speaks schema {hello.schema}, this one {SCHEMA}",
        "update the older of both by itself: `ota update` there, `--ecu` here",
    )  # fmt: skip


def other_ecu(secondary: Secondary, hello: Hello) -> OtaError:
    """Somebody else answers at the address of `secondary`."""
    return refusal(
        secondary, ConfigError, "other-ecu", f"it says that it is {hello.ecu_id}",
        "correct `secondaries` in ecu_info.yml here, or `ecu_id` there",
    )  # fmt: skip


def silent(secondary: Secondary, limit_s: float) -> OtaError:
    """`secondary` has said nothing for `limit_s` seconds."""
    return refusal(
        secondary, Unreachable, "ecu-silent", f"it was silent for {limit_s:.0f} s",
        "is its network there, and is it overloaded?",
    )  # fmt: skip


def no_time(secondary: Secondary) -> OtaError:
    """The time for the whole tree was used up on the way to `secondary`."""
    return refusal(
        secondary, Unreachable, "ecu-timeout", "no time was left for it",
        "run `ota status` on an ECU that is nearer to it",
    )  # fmt: skip


def nonsense(secondary: Secondary, why: str) -> OtaError:
    """`secondary` says what is not of the protocol."""
    return refusal(
        secondary, ConfigError, "not-ota", f"it does not talk as ota does: {why}",
        "nothing but ota may print there: see the shell's start-up files and authorized_keys",
    )  # fmt: skip


def _ssh_failed(secondary: Secondary, said: str, line: str, known_hosts: str) -> OtaError:
    found = _cause(said)
    if found is None:
        return refusal(
            secondary, Unreachable, "ecu-unreachable", line or "ssh failed without a word",
            "try `ssh` to it by hand",
        )  # fmt: skip
    names = {"host": secondary.ip_addr, "known_hosts": known_hosts, "line": line}
    why, hint = found.why.format(**names), found.hint.format(**names)
    return refusal(secondary, found.kind, found.slug, why, hint)


def _cause(said: str) -> Optional[_Cause]:
    return next((cause for cause in _CAUSES if re.search(cause.sign, said)), None)


def _last_line(said: str) -> str:
    lines = said.splitlines()
    return printable(lines[-1].strip())[-_MAX_WORDS:] if lines else ""
