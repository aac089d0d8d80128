"""Looks at each target for SECONDS with atheris: what it finds new in coverage, it goes on with.

    python -m tests.fuzz [TARGET...]

Findings stay in .cache/fuzz/TARGET, as do the inputs that reached something new.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

SECONDS = int(os.environ.get("SECONDS") or 30)
FOUND = Path(".cache/fuzz")


def main() -> int:
    failed = [name for name in sys.argv[1:] or sorted(TARGETS) if not holds(name)]
    print(f"{len(failed)} targets failed: {', '.join(failed)}" if failed else "no target failed")
    return bool(failed)


def holds(name: str) -> bool:
    """Whether nothing was found."""
    own = FOUND / name
    own.mkdir(parents=True, exist_ok=True)
    print(f"--- {name}", flush=True)
    argv = [
        sys.executable, "-m", "tests.fuzz.look", name, str(own), str(CORPUS / name),
        f"-max_total_time={SECONDS}", f"-artifact_prefix={own}/finding-", "-max_len=4096",
        "-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    return subprocess.run(argv, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
