"""Every failure the program can tell is in the catalogue, and keeps its exit code and meaning."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Dict, Iterator, List, Optional, Set, Tuple, Type

import ota_cli
from ota_cli import errors
from ota_cli.docs.failures import FAILURES, slugs
from ota_cli.errors import EXIT_CODES, OtaError
from tests.support.bench import BASE, ota
from tests.support.schemas import SCHEMAS

PACKAGE = Path(ota_cli.__file__).parent
CONTRACT = BASE / "tests/data/failures.txt"

#: An exit code and a slug that a failure comes with.
Failure = Tuple[int, str]

#: What makes failures of a class and slug given to it: where among its arguments these are.
MAKERS: Dict[str, Tuple[Optional[int], int]] = {
    "_flaw": (None, 0),  # of certificates: always NotTrusted
    "refusal": (1, 2),
    "_Cause": (1, 2),
}
#: Where such a maker, or what tells the failure of another ECU, passes the slug on.
PASSED_ON = {
    ("core/certs.py", "slug"), ("core/protocol.py", "self.error.slug"),
    ("verify.py", "error.slug"),
    ("fleet/failures.py", "slug"), ("fleet/failures.py", "found.slug"),
}  # fmt: skip
#: Who calls what raises these makes another failure of them.
NEVER_TOLD = {"Silent", "Overlong"}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages([str(PACKAGE)], "ota_cli."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def kinds_of(module: ModuleType) -> Dict[str, Type[OtaError]]:
    """All classes of failures by name."""
    found: Dict[str, Type[OtaError]] = {}
    for value in [*vars(errors).values(), *vars(module).values()]:
        if isinstance(value, type) and issubclass(value, OtaError):
            found[value.__name__] = value
    return found


class Reader:
    """Reads from the source of a module which failures it makes."""

    def __init__(self, module: ModuleType) -> None:
        assert module.__file__ is not None
        self.path = Path(module.__file__)
        self.shown = self.path.relative_to(PACKAGE).as_posix()
        self.module = module
        self.kinds = kinds_of(module)

    def failures(self) -> Iterator[Failure]:
        for node in ast.walk(ast.parse(self.path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield from self._of_call(node)

    def _of_call(self, call: ast.Call) -> Iterator[Failure]:
        name = dotted(call.func).rpartition(".")[2]
        given = [word.value for word in call.keywords if word.arg == "slug"]
        if name in MAKERS:
            kind, slug = MAKERS[name]
            of = "NotTrusted" if kind is None else dotted(call.args[kind])
            if not self._is_passed_on(call.args[slug]):
                yield from self._told(of, self._word(call.args[slug]))
        elif given and not self._is_passed_on(given[0]):
            yield from self._told(name, self._word(given[0]))
        elif not given and name in self.kinds and name not in NEVER_TOLD:
            yield from self._told(name, self.kinds[name].slug)

    def _told(self, kind: str, slug: str) -> Iterator[Failure]:
        if kind == "Interrupted":
            yield from ((code, slug) for code in (129, 130, 143))
        else:
            yield self.kinds[kind].exit_code, slug

    def _is_passed_on(self, slug: ast.expr) -> bool:
        return (self.shown, dotted(slug)) in PASSED_ON

    def _word(self, slug: ast.expr) -> str:
        """A constant, or the name of one."""
        if isinstance(slug, ast.Constant):
            return str(slug.value)
        value: object = self.module
        for name in dotted(slug).split("."):
            value = getattr(value, name)
        assert isinstance(value, str), f"{self.shown}:{slug.lineno}: {dotted(slug)}"
        return value


def dotted(node: ast.expr) -> str:
    """A name as it is written, `layout.NOT_SET_UP`; of other expressions nothing."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def catalogue() -> Set[Failure]:
    return {(code, slug) for code, known in FAILURES.items() for slug in known}


def test_the_catalogue_has_what_is_raised_and_nothing_else() -> None:
    raised = {failure for module in modules() for failure in Reader(module).failures()}
    assert len(raised) > 100, "the reader reads nothing"
    assert raised - catalogue() == set(), "raised, but not in ota_cli/docs/failures.py"
    assert catalogue() - raised == set(), "in ota_cli/docs/failures.py, but never raised"


def test_an_exit_code_keeps_its_meaning() -> None:
    assert EXIT_CODES == {
        0: "done, or nothing to do",
        1: "a bug in `ota`",
        2: "usage",
        10: "image not trusted: signature, chain, expiry",
        11: "image does not fit this device, or a downgrade",
        12: "image damaged or incomplete: missing (404), digest or size mismatch, malformed",
        13: "not enough space",
        14: "slot unusable",
        15: "boot loader refused; nothing switched",
        16: "an ECU failed, none was switched",
        17: "ECUs differ: a person is needed",
        18: "trial boot failed its health check or fell back",
        19: "the server denies access (401, 403)",
        20: "`check`: an update is available",
        69: "unreachable: server, proxy, ECU (retry)",
        75: "busy: another `ota` holds the lock, or a trial boot is unconfirmed (retry)",
        77: "needs root",
        78: "configuration error",
        129: "interrupted: the terminal or connection hung up (SIGHUP)",
        130: "interrupted by Ctrl-C (SIGINT)",
        143: "interrupted by SIGTERM",
    }


def test_a_slug_keeps_its_exit_code() -> None:
    """Scripts know these. A line may be added to the file, none be changed or taken away."""
    told = [line.split() for line in CONTRACT.read_text("utf-8").splitlines()]
    pinned = {(int(code), slug) for code, slug in told}
    assert pinned == catalogue()


def test_every_failure_says_what_it_is_and_what_to_do() -> None:
    for code, known in FAILURES.items():
        assert code in EXIT_CODES
        assert list(known) == sorted(known), f"{code} is not in order"
        for slug, text in known.items():
            sentences = re.findall(r"[.?:](?: |$)", text)
            assert len(sentences) >= 2, (slug, text)


def test_the_schema_names_the_known_slugs_and_leaves_room_for_others() -> None:
    schema = json.loads((SCHEMAS / "document.json").read_text("utf-8"))
    slug = schema["properties"]["error"]["properties"]["slug"]
    assert slug["examples"] == slugs()
    assert "enum" not in slug


def test_the_page_has_every_failure_below_its_code() -> None:
    page = (BASE / "man/ota-errors.7").read_text("utf-8").replace("\\-", "-")
    sections: List[str] = page.split(".SS ")[1:]
    found = {
        (int(section.split(":")[0].strip('"')), line[3:-3])
        for section in sections
        for line in section.splitlines()
        if line.startswith("\\fB") and line.endswith("\\fP") and " " not in line
    }
    assert found == catalogue()


def test_a_failure_of_a_run_is_one_of_the_catalogue(device: Path) -> None:
    for words in (("activate",), ("update", "--version", "nobody"), ("switch-slot", "c")):
        done = ota(*words, "--root", device, "--json")
        assert (done.code, done.document["error"]["slug"]) in catalogue()
