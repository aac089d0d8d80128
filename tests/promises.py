"""What `ota` promises and how often the tests tried to break it: the table in the README.

`python -m tests.promises REPORT...` counts in the JUnit reports of the last runs, which `make test`
and `make soak` leave in `.cache`, and writes the table. Of a test that is in several, the newest
counts, unless an older one that succeeded as well tried more; one that is gone does not count. A
test that tries many things says how many, as its property `checks`.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as Xml
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from tests.support.bench import BASE

#: The property of a test that made more than one check.
CHECKS = "checks"
_FAILED = ("failure", "error")
BEGIN, END = "<!-- promises: make promises -->", "<!-- end of promises -->"
_README = BASE / "README.md"

#: Each with the test files that prove it.
PROMISES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("Nothing is used of an image before its signature and chain hold; expiry and downgrade count",
     ("core/test_certs.py", "core/test_claims.py", "core/test_trust.py", "test_bad_input.py")),
    ("An image that means harm writes nothing outside the standby slot, in bounded time and memory",
     ("core/test_tables.py", "test_bad_input.py", "test_hostile_content.py",
      "test_hostile_images.py")),
    ("A server or proxy that means harm is given up, and learns no cookie of another",
     ("host/test_hostile_servers.py", "host/test_net.py", "host/test_net_retry.py",
      "proxy/test_app.py", "proxy/test_proxy.py", "proxy/test_upstream.py",
      "proxy/test_wanted.py")),
    ("Whatever bytes are read: a documented error, never a traceback",
     ("fuzz/test_targets.py",)),
    ("Killed at any effect or by a signal at any moment: boots, tells the truth, completes",
     ("faults/test_blocks.py", "faults/test_crashes.py", "faults/test_fleets.py",
      "faults/test_repairs.py", "faults/test_signals.py", "faults/test_untouched.py")),
    ("Any call that fails (I/O error, full, read-only): the same, and no success without a sync",
     ("faults/test_io_errors.py", "faults/test_setup.py")),
    ("What was brought is read again from the disk before it may boot",
     ("test_readback.py",)),
    ("File systems that really fail: the same",
     ("system/test_failing_disks.py", "test_no_space.py")),
    ("Power cut at any write: GRUB finds a whole system, in every state the disk can be left in",
     ("vm/test_every_write.py",)),
    ("Power cut of a running machine: it boots without help, and a second run completes",
     ("vm/test_power_cuts.py",)),
    ("A trial that fails in any way ends in the old system",
     ("vm/test_fallback.py", "vm/test_watchdog.py", "vm/test_boot_partition.py")),
    ("Jetsons, simulated: whatever fails or is cut off, CBoot boots a whole system",
     ("boot/test_backends.py", "jetson/test_crashes.py", "jetson/test_refusals.py",
      "jetson/test_story.py", "jetson/test_way_back.py")),
    ("No secret is shown, stored or handed on; nobody else may write; reading needs no root",
     ("cli/test_logs.py", "fleet/test_secrets.py", "test_least_privilege.py")),
)  # fmt: skip


class Count(NamedTuple):
    """What came of the tests of one promise. `checks`: what they tried."""

    checks: int
    skipped: int


def main(reports: Iterable[str]) -> int:
    """Writes the table; 1 when a report tells of a failure."""
    cases = cases_of(reports)
    failed = [name for name, case in cases.items() if _has(case, *_FAILED)]
    if failed:
        print(f"{len(failed)} tests failed, the first is {failed[0]}: no table", file=sys.stderr)
        return 1
    text = _README.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    rows = "\n".join(_row(promise, files, cases.values()) for promise, files in PROMISES)
    head = "| promise | tests | checks |\n|---|---|---|"
    _README.write_text(f"{before}{BEGIN}\n{head}\n{rows}\n{END}{after}", "utf-8")
    return 0


def cases_of(reports: Iterable[str]) -> Dict[Tuple[str, str], Xml.Element]:
    """The run that counts of each test that is still there, by module and name."""
    trees = [Xml.parse(report) for report in reports]  # noqa: S314 (our own reports)
    suites = [suite for tree in trees for suite in tree.iter("testsuite")]
    cases = {}
    for suite in sorted(suites, key=lambda suite: suite.get("timestamp", "")):
        for case in suite.iter("testcase"):
            key = case.get("classname", ""), case.get("name", "")
            if _is_there(*key) and not _tried_less(case, cases.get(key)):
                cases[key] = case
    return cases


def _tried_less(case: Xml.Element, before: Optional[Xml.Element]) -> bool:
    """Whether `case` succeeded, and so did one `before` that tried more."""
    if before is None or any(_has(each, "skipped", *_FAILED) for each in (case, before)):
        return False
    return _checks(case) < _checks(before)


def _is_there(module: str, name: str) -> bool:
    """Also what could not be read as a module of tests: it has no name but its own."""
    path = BASE / f"{(module or name).replace('.', '/')}.py"
    wanted = f"def {name.partition('[')[0]}(" if module else ""
    return path.is_file() and wanted in path.read_text("utf-8")


def _row(promise: str, files: Tuple[str, ...], cases: Iterable[Xml.Element]) -> str:
    count = count_of(files, cases)
    checks = f"{count.checks:,}" if count.checks else "not in these runs"
    checks += f" ({count.skipped} skipped)" if count.skipped else ""
    return f"| {promise} | {', '.join(f'`{name}`' for name in files)} | {checks} |"


def count_of(files: Tuple[str, ...], cases: Iterable[Xml.Element]) -> Count:
    """What the tests in `files`, below `tests/`, did."""
    modules = {f"tests.{name[: -len('.py')].replace('/', '.')}" for name in files}
    own = [case for case in cases if case.get("classname") in modules]
    skipped = [case for case in own if _has(case, "skipped")]
    return Count(sum(_checks(case) for case in own) - len(skipped), len(skipped))


def _checks(case: Xml.Element) -> int:
    said: List[str] = [
        each.get("value", "") for each in case.iter("property") if each.get("name") == CHECKS
    ]
    return int(said[0]) if said else 1


def _has(case: Xml.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
