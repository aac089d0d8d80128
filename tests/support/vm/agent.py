"""Runs inside the machine: commands come and go as JSON lines on the second serial port.

Only the standard library of the machine's own Python; this file is copied there as it is.
"""

import json
import os
import subprocess
import tty

PORT = "/dev/ttyS1"


def main() -> None:
    """Says `ready`, then answers one command after the other for ever."""
    descriptor = os.open(PORT, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    answer(descriptor, {"ready": True})
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as commands:
        for line in commands:
            if line.strip():
                answer(descriptor, carry_out(json.loads(line)))


def carry_out(request: dict) -> dict:  # type: ignore[type-arg]
    """Runs `command` in a shell, with `stdin` as its input."""
    done = subprocess.run(
        ["/bin/bash", "-c", request["command"]],
        input=request["stdin"].encode(), capture_output=True, check=False,
    )  # fmt: skip
    return {
        "id": request["id"],
        "code": done.returncode,
        "out": done.stdout.decode("utf-8", "replace"),
        "err": done.stderr.decode("utf-8", "replace"),
    }


def answer(descriptor: int, document: dict) -> None:  # type: ignore[type-arg]
    """Writes all of a line, however slow the port is."""
    data = memoryview(json.dumps(document).encode() + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
