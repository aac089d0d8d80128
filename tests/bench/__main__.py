"""`make bench`: prints ratios measured in one run; absolute times depend on the machine.

SIZE=small or large also races a whole update of a real Debian against other tools (root);
ROUNDS: how often, 3 unless told otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench import race, startup
from tests.bench.trees import SIZES


def main() -> None:
    """All that was asked for."""
    startup.main()
    size = os.environ.get("SIZE", "")
    if not size:
        print("SIZE=small or SIZE=large races updates, too")
    elif size not in SIZES:
        raise SystemExit(f"SIZE={size} is none of {', '.join(SIZES)}")
    elif os.geteuid() != 0:
        raise SystemExit("racing updates needs root: loop devices, cold caches")
    else:
        race.main(size, int(os.environ.get("ROUNDS", "3")))


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
