"""The command tree as values, read from click once; every document is made from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Tuple

import click


@dataclass(frozen=True)
class Option:
    """One option: its spellings, what it takes (empty for flags), what it does."""

    names: Tuple[str, ...]
    metavar: str
    choices: Tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Verb:
    """One command. `path` is ("ota", "image", "build"); groups have `verbs`."""

    path: Tuple[str, ...]
    summary: str
    description: str
    arguments: Tuple[str, ...]
    argument_choices: Tuple[str, ...]
    options: Tuple[Option, ...]
    verbs: Tuple[Verb, ...]

    @property
    def name(self) -> str:
        return self.path[-1]

    def walk(self) -> Iterator[Verb]:
        """This command and all below it."""
        yield self
        for verb in self.verbs:
            yield from verb.walk()


def read_tree() -> Verb:
    """The whole `ota` command."""
    from ..cli.main import cli

    return _verb(cli, ("ota",))


def _verb(command: click.Command, path: Tuple[str, ...]) -> Verb:
    context = click.Context(command, info_name=path[-1], **command.context_settings)
    text = " ".join((command.help or "").split("\n\n")[0].split())
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    return Verb(
        path=path,
        summary=text.split(". ")[0].rstrip("."),
        description=command.help or "",
        arguments=tuple(_argument(a) for a in arguments),
        argument_choices=tuple(c for a in arguments for c in _choices(a)),
        options=tuple(_option(p) for p in command.get_params(context) if _shown(p)),
        verbs=_verbs(command, context, path),
    )


def _verbs(
    command: click.Command, context: click.Context, path: Tuple[str, ...]
) -> Tuple[Verb, ...]:
    if not isinstance(command, click.Group):
        return ()
    found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
    return tuple(_verb(verb, (*path, name)) for name, verb in found if verb is not None)


def _shown(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.hidden


def _option(parameter: click.Parameter) -> Option:
    assert isinstance(parameter, click.Option)
    takes_value = not parameter.is_flag and not parameter.count
    metavar = _metavar(parameter) if takes_value else ""
    spellings = (*parameter.opts, *parameter.secondary_opts)
    return Option(
        names=tuple(sorted(spellings, key=len)),  # click 8.1 has those of help in no order
        metavar=metavar, choices=_choices(parameter),
        help=f"{parameter.help or ''}{' Required.' if parameter.required else ''}",
    )  # fmt: skip


def _argument(argument: click.Argument) -> str:
    """How it is written in a synopsis; click 8.1 and 8.2 ask for this in different ways."""
    choices = "|".join(_choices(argument))
    name = choices or argument.metavar or (argument.name or "").upper()
    shown = name if argument.required else f"[{name}]"
    return shown if argument.nargs == 1 else f"{shown}..."


def _metavar(option: click.Option) -> str:
    choices = _choices(option)
    return "|".join(choices) if choices else (option.metavar or option.type.name.upper())


def _choices(parameter: click.Parameter) -> Tuple[str, ...]:
    if isinstance(parameter.type, click.Choice):
        return tuple(str(choice) for choice in parameter.type.choices)
    return ()
