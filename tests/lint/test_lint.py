"""What a linter can know is a test: style, types, the oldest Python, the rooms' order."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

BASE = Path(__file__).parents[2]
PACKAGE = BASE / "ota_cli"
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: The rooms from left to right: imports only point left.
ROOMS: Tuple[Tuple[str, ...], ...] = (
    (
        "errors", "model", "entries", "packed", "packedothers", "paths", "compressed", "events",
        "__init__",
    ),
    ("core",),
    ("host",),
    ("slots", "boot", "metadata", "survey", "persistent", "policy", "health",
     "readback"),
    ("persist",),
    ("fill", "probe", "seal", "source", "verify", "newsystem", "confirmable"),
    ("ownkernel", "remember"),
    ("fit", "setup", "dryrun", "arming"),
    ("trial", "provision", "image", "status", "recheck"),
    ("untouched", "staging"),
    ("update", "repair", "confirm"),
    ("proxy", "fleet"),
    ("demo", "doctor"),
    ("render",),
    ("cli",),
    ("docs", "__main__"),
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=BASE, capture_output=True, text=True, check=False)


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here")


def test_ruff_finds_nothing() -> None:
    needs("ruff")
    done = run(sys.executable, "-m", "ruff", "check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout


def test_mypy_strict_finds_nothing() -> None:
    needs("mypy")
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout


def test_nothing_needs_more_than_python_3_8() -> None:
    needs("vermin")
    vermin = str(Path(sys.executable).with_name("vermin"))
    done = run(vermin, "--target=3.8-", "--no-tips", "--violations", "ota_cli")
    assert done.returncode == 0, done.stdout


def room_of(parts: Tuple[str, ...]) -> int:
    name = parts[0] if parts else "__init__"
    for index, names in enumerate(ROOMS):
        if name in names:
            return index
    raise AssertionError(f"{name} has no place among the rooms")


def imports_of(path: Path) -> Iterator[Tuple[str, ...]]:
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = here[: len(here) - (node.level - 1)]
        module = tuple(node.module.split(".")) if node.module else ()
        if base + module:
            yield base + module
        else:
            for alias in node.names:
                is_room = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").exists()
                yield (alias.name if is_room else "__init__",)


def test_imports_only_point_left() -> None:
    wrong: List[str] = []
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for imported in imports_of(path):
            if imported[0] != parts[0] and room_of(imported) > room_of(parts):
                wrong.append(f"{'.'.join(parts)} imports {'.'.join(imported)}")
    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles() -> None:
    graph: Dict[str, List[str]] = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(path.read_text("utf-8"))
        top = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level]
        here = path.relative_to(PACKAGE).parts[:-1]
        for node in top:
            base = here[: len(here) - (node.level - 1)]
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            targets = [f"{module}.{a.name}".strip(".") for a in node.names]
            graph.setdefault(name, []).extend([module, *targets])
    state: Dict[str, int] = {}

    def visit(name: str, trail: Tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, f"cycle: {' -> '.join((*trail, name))}"
        state[name] = 1
        for other in graph.get(name, []):
            if other in graph:
                visit(other, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def test_files_and_functions_stay_small() -> None:
    wrong: List[str] = []
    for path in SOURCES:
        text = path.read_text("utf-8")
        shown = path.relative_to(BASE)
        if text.count("\n") > MAX_FILE_LINES:
            wrong.append(f"{shown}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{shown}:{node.lineno} {node.name}: {length} lines")
    assert not wrong, "\n".join(wrong)


def test_only_the_boundaries_catch_everything() -> None:
    # errors.py passes on what it caught, with the footprint it knows.
    allowed = {"cli/boundary.py", "errors.py", "host/net.py", "host/files.py"}
    wrong: List[str] = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            if broad and str(path.relative_to(PACKAGE)) not in allowed:
                wrong.append(f"{path.relative_to(BASE)}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_every_file_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert not silent


def test_generated_documents_are_current() -> None:
    done = run(sys.executable, "-m", "ota_cli.docs", "--check")
    assert done.returncode == 0, done.stderr


def test_man_pages_name_every_spelling_of_help_once() -> None:
    assert "\\-h, \\-\\-help" in (BASE / "man/ota.1").read_text("utf-8")
    assert "\\-\\-help" not in (BASE / "man/ota-status.1").read_text("utf-8")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed here")
def test_man_pages_are_clean() -> None:
    for path in sorted((BASE / "man").iterdir()):
        done = run("groff", "-ww", "-man", "-Tutf8", "-rLL=200n", "-z", str(path))
        assert (done.returncode, done.stderr) == (0, ""), path.name


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "ota.bash"), ("zsh", "_ota"), ("fish", "ota.fish")]
)
def test_completions_parse(shell: str, name: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    done = run(shell, "-n", str(BASE / "completions" / name))
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_verbs_and_options() -> None:
    script = (
        "source completions/ota.bash; COMP_WORDS=(ota image bu); COMP_CWORD=2; _ota; "
        'echo "${COMPREPLY[@]}"; COMP_WORDS=(ota switch-slot ""); _ota; echo "${COMPREPLY[@]}"; '
        'COMP_WORDS=(ota update --dry); _ota; echo "${COMPREPLY[@]}"; '
        'COMP_WORDS=(ota update -n --stage); COMP_CWORD=3; _ota; echo "${COMPREPLY[@]}"'
    )
    done = run("bash", "-c", script)
    build, slots, dry, stage = done.stdout.splitlines()
    assert build == "build"
    assert slots.split()[:2] == ["a", "b"]
    assert dry == "--dry-run"
    assert stage == "--stage-only", "-n takes a value elsewhere"


def test_bash_completes_file_names_with_spaces_and_values_after_an_equals_sign(
    tmp_path: Path,
) -> None:
    (tmp_path / "a file.pem").touch()
    script = (
        f"source completions/ota.bash; COMP_WORDS=(ota check --cacert {tmp_path}/a); COMP_CWORD=3; "
        '_ota; printf "%s|" "${COMPREPLY[@]}"; '
        'COMP_WORDS=(ota status --output = js); COMP_CWORD=4; _ota; printf "%s|" "${COMPREPLY[@]}"'
    )
    done = run("bash", "-c", script)
    assert done.stdout == f"{tmp_path}/a file.pem|json|jsonl|"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ota --root /srv/device st", ["status"]),
        ("ota image --json unp", ["unpack"]),
        ("ota demo --ro", []),
        ("ota status --ro", ["--root"]),
    ],
)
def test_fish_completes_after_options_with_values(line: str, offered: List[str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed here")
    script = f"source completions/ota.fish; complete -C '{line}'"
    done = run("fish", "--no-config", "-c", script)
    assert [each.split("\t")[0] for each in done.stdout.splitlines()] == offered
