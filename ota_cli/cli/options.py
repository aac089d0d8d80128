"""What every verb has in common: the global options, the call it gets, the result it returns."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, TypeVar

import click

from .boundary import Call, Display, Result, run_verb

Body = Callable[..., Result]
Decorated = TypeVar("Decorated", bound=Callable[..., object])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class Globals:
    """The global options as given at one place; None and 0 where they were not."""

    root: Optional[str] = None
    output: Optional[str] = None
    verbose: int = 0
    quiet: bool = False
    color: Optional[str] = None

    def over(self, before: Globals) -> Globals:
        """These where given, else those given `before` the verb."""
        return Globals(
            root=self.root or before.root,
            output=self.output or before.output,
            verbose=max(self.verbose, before.verbose),
            quiet=self.quiet or before.quiet,
            color=self.color or before.color,
        )


def global_options(body: Decorated) -> Decorated:
    """Adds the global options; the body gets them as one `given` argument."""

    @functools.wraps(body)
    def wrapped(*args: object, **values: object) -> object:
        given = Globals(
            root=values.pop("root", None),  # type: ignore[arg-type]
            output="json" if values.pop("as_json") else values.pop("output", None),  # type: ignore[arg-type]
            verbose=values.pop("verbose"),  # type: ignore[arg-type]
            quiet=values.pop("quiet"),  # type: ignore[arg-type]
            color=values.pop("color"),  # type: ignore[arg-type]
        )
        values.pop("output", None)
        return body(*args, given=given, **values)

    for option in reversed(_GLOBALS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _not_empty(
    context: click.Context, option: click.Parameter, value: Optional[str]
) -> Optional[str]:
    """An unset variable in a script must not mean this machine."""
    if value == "":
        raise click.BadParameter("it is empty")
    return value


_GLOBALS = (
    click.option(
        "--root", metavar="DIR", callback=_not_empty,
        help="Operate on the device whose root is DIR.",
    ),
    click.option(
        "--output", type=click.Choice(["auto", "rich", "plain", "json", "jsonl"]),
        help="How to show progress and the result (env OTA_OUTPUT).",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON document: --output json."),
    click.option("-v", "--verbose", count=True, help="More details; tracebacks of bugs."),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no notes."),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Colours."),
)  # fmt: skip


def command(name: str) -> Callable[[Body], click.Command]:
    """Makes a verb of a function that takes a `Call` and returns a `Result`."""

    def decorate(body: Body) -> click.Command:
        def verb(given: Globals, **values: object) -> None:
            context = click.get_current_context()
            display = display_of(given.over(_before(context)))
            title = " ".join(context.command_path.split(" ")[1:]) or name
            run_verb(title, display, functools.partial(body, **values))

        functools.update_wrapper(verb, body)
        return click.command(name, context_settings=CONTEXT)(global_options(verb))

    return decorate


def _before(context: click.Context) -> Globals:
    """What was given before the verb, at any level."""
    found = Globals()
    parent = context.parent
    while parent is not None:
        if isinstance(parent.obj, Globals):
            found = found.over(parent.obj)
        parent = parent.parent
    return found


def display_of(given: Globals) -> Display:
    """How to show things: options win over the environment."""
    return Display(
        root=Path(given.root or "/"),
        output=given.output or os.environ.get("OTA_OUTPUT") or "auto",
        verbosity=-1 if given.quiet else given.verbose,
        color=given.color or "auto",
    )


__all__ = ["Call", "Globals", "Result", "command", "display_of", "global_options"]
