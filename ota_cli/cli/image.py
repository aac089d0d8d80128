"""`ota image`: the group of the publisher's verbs."""

from __future__ import annotations

import click

from .lazy import IMAGE_VERBS, LazyGroup
from .options import CONTEXT, Globals, global_options


@click.command(
    "image", cls=LazyGroup, verbs=IMAGE_VERBS, context_settings=CONTEXT, no_args_is_help=False
)  # fmt: skip
@global_options
@click.pass_context
def image(context: click.Context, given: Globals) -> None:
    """Make, sign, examine, unpack and serve images."""
    context.obj = given
