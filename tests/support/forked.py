"""`ota` without waiting for its imports: each run is forked from a process that has loaded it.

Half of the time of a test that runs `ota` was the start of an interpreter, which is the same
each time. What is forked is a process of its own in all else: it has its own words,
environment, directory, umask and pipes, leads its own life, and ends as the program ends.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import (
    BinaryIO,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    TextIO,
    Tuple,
)

#: What a pipe takes without a reader; more to read than this is not for a forked run.
MAX_STDIN_BYTES = 64 * 1024
#: An interpreter reads these when it starts, and not again.
_FIXED = ("PYTHON", "LD_", "LC_", "LANG")
_STREAMS = 3
#: What `ota` loads where it needs it, besides modules of its own.
_LAZY = (
    "yaml", "cryptography.hazmat.backends.openssl.backend", "encodings.ascii", "encodings.idna",
)  # fmt: skip
#: Of clone(2): a network namespace is entered.
_CLONE_NEWNET = 0x40000000


class Ended(Exception):
    """A run took too long, and was killed."""


class Forker:
    """The process that runs are forked from, for the time of this one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._fixed = _fixed(environment)
        self._place = tempfile.mkdtemp(prefix="ota-forked-")
        argv = [sys.executable, "-m", "tests.support.forked", f"{self._place}/socket"]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment)
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def can_run(self, environment: Mapping[str, str], stdin: bytes) -> bool:
        """Whether a run would be the same as one that is started anew."""
        return _fixed(environment) == self._fixed and len(stdin) <= MAX_STDIN_BYTES

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], stdin: bytes, limit_s: float,
        network: Optional[str] = None,
    ) -> Tuple[int, bytes, bytes]:  # fmt: skip
        """Exit code (negative: the signal), stdout and stderr. Raises Ended after `limit_s`.

        `network`: the path of the network namespace in which it runs.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(f"{self._place}/socket")
            theirs, ours = _pipes()
            with ours[0] as writer:  # while somebody could read it: a run may end before
                writer.write(stdin)
            what = {
                "words": list(words), "environment": dict(environment), "directory": os.getcwd(),
                "network": network,
                "umask": _umask(),
            }  # fmt: skip
            _send(channel, json.dumps(what).encode(), theirs)
            for each in theirs:
                os.close(each)
            return _outcome(channel, ours[1:], limit_s)

    def end(self) -> None:
        """Nothing is forked any more."""
        self._process.communicate()


def _fixed(environment: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_FIXED)}


def _umask() -> int:
    """That of this process (proc_pid_status(5)); asking umask(2) would change it for a moment."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def _pipes() -> Tuple[List[int], List[BinaryIO]]:
    """Ends of stdin, stdout and stderr: for the run, and for us."""
    stdin, stdout, stderr = (os.pipe() for _ in range(_STREAMS))
    ours = [os.fdopen(stdin[1], "wb"), *(os.fdopen(each[0], "rb") for each in (stdout, stderr))]
    return [stdin[0], stdout[1], stderr[1]], ours


def _outcome(
    channel: socket.socket, streams: Sequence[BinaryIO], limit_s: float
) -> Tuple[int, bytes, bytes]:
    said: List[bytes] = [b"", b""]

    def read(number: int) -> None:
        with streams[number] as stream:
            said[number] = stream.read()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(len(said))]
    for reader in readers:
        reader.start()
    answers = channel.makefile("r")
    pid = int(answers.readline())
    channel.settimeout(limit_s)
    try:
        code = int(answers.readline())
    except BaseException as error:  # nobody waits for it any more
        os.kill(pid, signal.SIGKILL)
        if isinstance(error, OSError):
            raise Ended(f"still running after {limit_s:g} s") from None
        raise
    for reader in readers:
        reader.join()
    return code, said[0], said[1]


def _send(channel: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    rights = array.array("i", descriptors)
    channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    channel.sendall(message)
    channel.shutdown(socket.SHUT_WR)


def _receive(channel: socket.socket) -> Tuple[bytes, List[int]]:
    rights = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_LEN(_STREAMS * rights.itemsize))
    rights.frombytes(ancillary[0][2])
    message = b"".join(iter(lambda: channel.recv(65536), b""))
    return message, list(rights)


# --- the process that forks ---------------------------------------------------------------------


class _Request(NamedTuple):
    """A run to be: its words, environment, directory, network and umask; its standard streams."""

    words: List[str]
    environment: Dict[str, str]
    directory: str
    network: Optional[str]
    umask: int
    descriptors: List[int]


def _main(path: str) -> None:
    _load()
    request = _Server().until_forked(path)
    if request is not None:
        _become(request)
    else:
        shutil.rmtree(os.path.dirname(path))


def _load() -> None:
    """Loads all that a run may need, and starts nothing."""
    import ota_cli

    for module in pkgutil.walk_packages(ota_cli.__path__, "ota_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


class _Server:
    """Forks a run for each connection, and tells there how it ended."""

    def __init__(self) -> None:
        self._running: Dict[int, socket.socket] = {}
        self._ended, waker = (os.fdopen(each, "rb", 0) for each in _wakeup())
        self._waker = waker

    def until_forked(self, path: str) -> Optional[_Request]:
        """Serves at `path` until stdin ends: None. In each forked process: what to run there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(16)
            os.write(1, b"ready\n")
            while True:
                there, _, _ = select.select([listener, self._ended, 0], [], [])
                if self._ended in there:
                    self._tell_ended()
                if 0 in there:
                    for pid in self._running:
                        os.kill(pid, signal.SIGKILL)
                    return None
                if listener in there:
                    request = self._forked(listener.accept()[0])
                    if request is not None:
                        return request

    def _forked(self, channel: socket.socket) -> Optional[_Request]:
        message, descriptors = _receive(channel)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for each in (channel, self._ended, self._waker, *self._running.values()):
                each.close()
            return _Request(**json.loads(message), descriptors=descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.sendall(f"{pid}\n".encode())
        self._running[pid] = channel
        return None

    def _tell_ended(self) -> None:
        self._ended.read(4096)
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            with self._running.pop(pid) as channel:
                channel.sendall(f"{code}\n".encode())


def _wakeup() -> Tuple[int, int]:
    """A pipe that says when a child has ended."""
    ended, waker = os.pipe()
    for each in (ended, waker):
        os.set_blocking(each, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker)
    return ended, waker


def _become(request: _Request) -> None:
    """This process is a run of `ota` from here on."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(request.descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    _begin_preloaded()
    os.chdir(request.directory)
    if request.network:
        _enter(request.network)
    os.umask(request.umask)
    program = importlib.import_module("ota_cli.__main__")
    sys.argv = [str(program.__file__), *request.words]
    sys.stdin, sys.stdout, sys.stderr = _streams()
    program.main()


def _enter(network: str) -> None:
    """setns(2), which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(network, "rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"{network} can not be entered")


def _begin_preloaded() -> None:
    """A library that was preloaded reads its environment when it is loaded; now it is another."""
    begin = getattr(ctypes.CDLL(None), "preloaded_begin", None)
    if begin is not None:
        begin()


def _streams() -> Tuple[TextIO, TextIO, TextIO]:
    """As an interpreter opens them for pipes."""
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    return (
        open(0, encoding=encoding, errors=errors),
        open(1, "w", encoding=encoding, errors=errors),
        open(2, "w", encoding=encoding, errors="backslashreplace", buffering=1),
    )


if __name__ == "__main__":
    _main(sys.argv[1])
