"""The `ota` program: the group of verbs, and usage errors in the form the user asked for."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from typing import List, NoReturn, Optional

import click

from .. import __version__
from ..errors import Interrupted, OtaError, SignalReceived, UsageProblem
from ..host.interrupts import catch_interrupts, ignore_interrupts
from ..render.choice import open_output
from ..render.stream import Stream
from .boundary import document
from .lazy import VERBS, LazyGroup
from .options import CONTEXT, Globals, global_options

_EPILOG = "`ota VERB --help` tells more; `man ota` all. Exit codes are in `man ota`."


@click.command(
    cls=LazyGroup, verbs=VERBS, context_settings=CONTEXT, epilog=_EPILOG, no_args_is_help=False
)  # fmt: skip
@click.version_option(__version__, prog_name="ota", message="%(prog)s %(version)s")
@global_options
@click.pass_context
def cli(context: click.Context, given: Globals) -> None:
    """Update this Linux device over the air: A/B slots, signed images, plain HTTPS."""
    context.obj = given


def main(argv: Optional[List[str]] = None) -> NoReturn:
    """Runs the program and exits with its documented code."""
    words = sys.argv[1:] if argv is None else argv
    _occupy_standard_streams()
    gc.set_threshold(50_000, 50, 100)  # hundreds of thousands of values live to the end of a run
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn developers, not technicians
    try:
        catch_interrupts()
        with cli.make_context("ota", list(words)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        _usage(error, words)
    except SignalReceived as received:
        _end("", Interrupted(received), words)
    except OSError as error:  # verbs catch their own: this is help, or the version
        Stream(sys.stdout, "stdout", complain=Stream(sys.stderr, "stderr")).lose(error)
    sys.exit(0)


def _occupy_standard_streams() -> None:
    """Where one is closed, the next file opened would take its number and get what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _usage(error: click.ClickException, words: List[str]) -> NoReturn:
    """A usage error; the options may not have been parsed, so they are looked for here."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "ota"
    problem = UsageProblem(error.format_message(), hint=f"see `{path} --help`")
    _end(" ".join(path.split(" ")[1:]), problem, words)


def _end(name: str, error: OtaError, words: List[str]) -> NoReturn:
    """Shows why no verb was run, and exits."""
    ignore_interrupts()
    output = open_output(_wanted_output(words), 0, "auto")
    output.failure(document(name, error.exit_code, {}, error), error)
    sys.exit(error.exit_code)


def _wanted_output(words: List[str]) -> str:
    if "--json" in words:
        return "json"
    for index, word in enumerate(words):
        if word.startswith("--output="):
            return _known(word[len("--output=") :])
        if word == "--output" and index + 1 < len(words):
            return _known(words[index + 1])
    return _known(os.environ.get("OTA_OUTPUT") or "auto")


def _known(output: str) -> str:
    return output if output in ("rich", "plain", "json", "jsonl") else "auto"
