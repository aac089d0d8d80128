"""What `--help` tells, the man pages tell and the shells complete: nothing more, nothing less."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import click
import pytest

from ota_cli.cli.main import cli
from tests.support.bench import BASE
from tests.support.shells import offered

_GLOBAL = {
    "--output",
    "--json",
    "-v",
    "--verbose",
    "-q",
    "--quiet",
    "--color",
    "--log-file",
    "-h",
    "--help",
}


def commands(
    command: click.Command = cli, path: str = "ota"
) -> Iterator[Tuple[str, click.Command]]:
    """Every command by its words, read from click and from nothing documents are made of."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


COMMANDS = dict(commands())


def helped(path: str) -> Set[str]:
    """The spellings of options that `--help` shows."""
    command = COMMANDS[path]
    context = click.Context(command, info_name=path, **command.context_settings)
    lines = re.findall(r"^  (-[^ ].*?)(?:  |$)", command.get_help(context), re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line)}


def choices(path: str) -> Dict[str, List[str]]:
    """The options of a command that take one of some words."""
    return {
        name: list(parameter.type.choices)
        for parameter in COMMANDS[path].params
        if isinstance(parameter, click.Option) and isinstance(parameter.type, click.Choice)
        for name in parameter.opts
    }


def paged(path: str) -> Set[str]:
    """The spellings of options that have an entry in the man page of a command."""
    verbs = path.split()[1:]
    page = (BASE / "man" / f"{'-'.join(['ota', *verbs[:1]])}.1").read_text("utf-8")
    page = page.replace("\\-", "-")
    if len(verbs) > 1:
        page = page.split(f'.SS "{path}"\n')[1].split(".SS ")[0].split(".SH ")[0]
    tags = re.findall(r"^\.TP\n\\fB(-.*)\\fP$", page, re.MULTILINE)
    return {name for tag in tags for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", tag)}


def test_help_shows_the_options_that_there_are() -> None:
    assert len(COMMANDS) > 20
    for path, command in COMMANDS.items():
        context = click.Context(command, info_name=path, **command.context_settings)
        taken = {
            name
            for parameter in command.get_params(context)
            if isinstance(parameter, click.Option)
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        assert helped(path) == taken, path


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != "ota image"])
def test_the_man_page_has_every_option(path: str) -> None:
    common = set() if path == "ota" else _GLOBAL | {"--root"}
    assert paged(path) | common >= helped(path)
    assert paged(path) <= helped(path)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_every_option_verb_and_value(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    wanted: Dict[str, Set[str]] = {}
    for path, command in COMMANDS.items():
        names = helped(path)
        wanted[f"{path} --"] = {name for name in names if name.startswith("--")}
        if isinstance(command, click.Group):
            wanted[f"{path} "] = set(command.list_commands(click.Context(command)))
        elif not any(isinstance(each.type, click.Choice) for each in command.params[:1]):
            wanted[f"{path} "] = set()
        for name, words in choices(path).items():
            wanted[f"{path} {name} "] = set(words)
        for argument in command.params:
            if isinstance(argument, click.Argument) and isinstance(argument.type, click.Choice):
                wanted[f"{path} "] = set(argument.type.choices)
    found = offered(shell, list(wanted), tmp_path)
    wrong = {
        line: (sorted(words - set(found[line])), sorted(_more(line, found[line]) - words))
        for line, words in wanted.items()
    }
    assert {line: each for line, each in wrong.items() if each != ([], [])} == {}


def _more(line: str, found: List[str]) -> Set[str]:
    """What may be too much: after a verb bash offers options beside what else may follow."""
    return {word for word in found if line.endswith("--") or not word.startswith("-")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_names_of_files_where_one_is_wanted(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    (tmp_path / "anchor.pem").touch()
    lines = [f"ota check --cacert {tmp_path}/anch", f"ota image build {tmp_path}/anch"]
    for line, words in offered(shell, lines, tmp_path).items():
        assert [Path(word).name for word in words] == ["anchor.pem"], line
