"""The table of promises names tests that are there, and the README has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises import BEGIN, END, PROMISES, cases_of, count_of
from tests.support.bench import BASE


def test_every_promise_of_the_readme_names_tests_that_are_there() -> None:
    table = (BASE / "README.md").read_text("utf-8").split(BEGIN)[1].split(END)[0]
    for promise, files in PROMISES:
        assert f"| {promise} |" in table, "run `make test` and `make promises`"
        for name in files:
            assert (BASE / "tests" / name).is_file()


REPORT = """<testsuites><testsuite timestamp="2026-01-{day}T10:00:00">
<testcase classname="tests.lint.test_promises" name="{name}[x]">{outcome}</testcase>
<testcase classname="tests.lint.test_promises" name="test_that_is_gone"/>
<testcase classname="tests.no.test_file" name="{name}"/>
<testcase classname="" name="tests.lint.test_lint"><error/></testcase>
</testsuite></testsuites>
"""


def test_the_newest_result_of_a_test_that_is_still_there_counts(tmp_path: Path) -> None:
    name = "test_the_newest_result_of_a_test_that_is_still_there_counts"
    newer, older = tmp_path / "test.xml", tmp_path / "soak.xml"
    newer.write_text(REPORT.format(day="02", name=name, outcome=""))
    older.write_text(REPORT.format(day="01", name=name, outcome="<failure/>"))
    found = cases_of([str(newer), str(older)])
    this = ("tests.lint.test_promises", f"{name}[x]")
    assert set(found) == {this, ("", "tests.lint.test_lint")}
    assert found[this].find("failure") is None


TRIED = '<properties><property name="checks" value="{count}"/></properties>'


@pytest.mark.parametrize(
    ("before", "now", "counts"),
    [
        (TRIED.format(count=200), TRIED.format(count=8), 200),
        (TRIED.format(count=8), TRIED.format(count=200), 200),
        (TRIED.format(count=200), "<skipped/>", 0),
        ("<failure/>", TRIED.format(count=8), 8),
    ],
)
def test_of_two_runs_that_succeeded_the_one_that_tried_more_counts(
    tmp_path: Path, before: str, now: str, counts: int
) -> None:
    name = "test_of_two_runs_that_succeeded_the_one_that_tried_more_counts"
    reports = []
    for day, outcome in (("01", before), ("02", now)):
        reports.append(tmp_path / f"{day}.xml")
        reports[-1].write_text(REPORT.format(day=day, name=name, outcome=outcome))
    found = cases_of(map(str, reports))
    assert count_of(("lint/test_promises.py",), found.values()).checks == counts
