"""The table of promises names tests that are there, and the README has it."""

from __future__ import annotations

from tests.promises import BEGIN, END, PROMISES
from tests.support.bench import BASE


def test_every_promise_of_the_readme_names_tests_that_are_there() -> None:
    table = (BASE / "README.md").read_text("utf-8").split(BEGIN)[1].split(END)[0]
    for promise, files in PROMISES:
        assert f"| {promise} |" in table, "run `make test` and `make promises`"
        for name in files:
            assert (BASE / "tests" / name).is_file()
