"""`make bench`: prints ratios measured in one run; absolute times depend on the machine.

SIZE=small or large also races a whole update of a real Debian against other tools (root);
GROWTH=1, or numbers of files with commas between, races on made-up trees that grow (root);
ROUNDS: how often, 3 unless told otherwise, 1 for GROWTH.
REPORT=1 measures nothing: it prints what was kept of the last runs, for the README.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Sequence

from tests.bench import downloads, growth, kept, race, startup
from tests.bench.trees import SIZES

RESULTS = Path("bench-results")


def main() -> None:
    """All that was asked for."""
    size, grown = os.environ.get("SIZE", ""), os.environ.get("GROWTH", "")
    if os.environ.get("REPORT"):
        kept.main(RESULTS)
        return
    if size and size not in SIZES:
        raise SystemExit(f"SIZE={size} is none of {', '.join(SIZES)}")
    steps = _steps(grown)
    startup.main()
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin"):
        downloads.main()
    else:
        print("with nginx installed the costs of downloads are measured, too")
    if not size and not grown:
        print("SIZE=small or SIZE=large races updates, GROWTH=1 on more and more files, too")
        return
    if os.geteuid() != 0:
        raise SystemExit("racing updates needs root: loop devices, cold caches")
    cache = Path(os.environ.get("OTA_TEST_CACHE") or ".cache").resolve()
    cache.mkdir(exist_ok=True)
    if size:
        race.main(size, _rounds(3), cache, RESULTS)
    if steps:
        growth.main(steps, _rounds(1), cache, RESULTS)


def _steps(grown: str) -> Sequence[int]:
    try:
        return growth.steps(grown) if grown else ()
    except ValueError as error:
        raise SystemExit(f"GROWTH={grown}: {error}") from None


def _rounds(usual: int) -> int:
    return int(os.environ.get("ROUNDS") or usual)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
