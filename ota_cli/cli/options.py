"""What every verb has in common: the global options, the call it gets, the result it returns."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, TypeVar

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
    log_file: Optional[str] = None

    def over(self, before: Globals) -> Globals:
        """These where given, else those given `before` the verb."""
        return Globals(
            root=self.root or before.root,
            output=self.output or before.output,
            verbose=max(self.verbose, before.verbose),
            quiet=self.quiet or before.quiet,
            color=self.color or before.color,
            log_file=self.log_file or before.log_file,
        )


def global_options(body: Decorated, *, with_root: bool = True) -> Decorated:
    """Adds the global options; the body gets them as one `given` argument."""

    @functools.wraps(body)
    def wrapped(*args: object, **values: object) -> object:
        given = Globals(
            root=values.pop("root", None),  # type: ignore[arg-type]
            output="json" if values.pop("as_json") else values.pop("output", None),  # type: ignore[arg-type]
            verbose=values.pop("verbose"),  # type: ignore[arg-type]
            quiet=values.pop("quiet"),  # type: ignore[arg-type]
            color=values.pop("color"),  # type: ignore[arg-type]
            log_file=values.pop("log_file"),  # type: ignore[arg-type]
        )
        values.pop("output", None)
        return body(*args, given=given, **values)

    for option in reversed(_GLOBALS):
        wrapped = option(wrapped)
    if with_root:
        wrapped = _ROOT(wrapped)
    return wrapped  # type: ignore[return-value]


def _not_empty(
    context: click.Context, option: click.Parameter, value: Optional[str]
) -> Optional[str]:
    """An unset variable in a script must not mean this machine."""
    if value == "":
        raise click.BadParameter("it is empty")
    return value


_OUTPUTS = ("auto", "rich", "plain", "json", "jsonl")
_ROOT = click.option(
    "--root", metavar="DIR", callback=_not_empty, help="Operate on the device whose root is DIR."
)
_GLOBALS = (
    click.option(
        "--output", type=click.Choice(_OUTPUTS),
        help="How to show progress and the result (env OTA_OUTPUT).",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON document: --output json."),
    click.option(
        "-v", "--verbose", count=True, help="Tracebacks of bugs; with --json notes, on stderr."
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no notes."),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Colours."),
    click.option(
        "--log-file", metavar="FILE", callback=_not_empty,
        help="Append all that happens to FILE, a line each with its time.",
    ),
)  # fmt: skip


class _Verb(click.Command):
    """A command that takes an empty word for what it mostly is: an unset variable in a script."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        for before, word in zip(["", *args], args):
            option, equals, value = word.partition("=")
            if not word or (option.startswith("--") and equals and not value):
                raise click.UsageError(f"an empty value is given{_after(option or before)}", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser leaves out whose options they are
            raise


def _after(word: str) -> str:
    return f" after {word}" if word else ""


def command(
    name: str, *, on_device: bool = True, output: Optional[str] = None
) -> Callable[[Body], click.Command]:
    """Makes a verb of a function that takes a `Call` and returns a `Result`.

    A verb that is not `on_device` takes no --root: it would mean nothing there. One with an
    `output` has no other, whatever the user says.
    """

    def decorate(body: Body) -> click.Command:
        def verb(given: Globals, **values: object) -> None:
            context = click.get_current_context()
            title = " ".join(context.command_path.split(" ")[1:]) or name
            everywhere = given.over(_before(context))
            if everywhere.root is not None and not on_device:
                raise click.UsageError(f"`ota {title}` works on no device: leave out --root")
            display = display_of(Globals(output=output).over(everywhere))
            run_verb(title, display, functools.partial(body, **values))

        functools.update_wrapper(verb, body)
        made = click.command(name, cls=_Verb, context_settings=CONTEXT)
        return made(global_options(verb, with_root=on_device))

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
        output=given.output or _output_of_environment(),
        verbosity=-1 if given.quiet else given.verbose,
        color=given.color or "auto",
        log_file=given.log_file,
    )


def _output_of_environment() -> str:
    output = os.environ.get("OTA_OUTPUT") or "auto"
    if output not in _OUTPUTS:
        raise click.UsageError(f"OTA_OUTPUT={output}: expected one of {', '.join(_OUTPUTS)}")
    return output


__all__ = ["Call", "Globals", "Result", "command", "display_of", "global_options"]
