"""The verbs: where each is, and its one line of help. `ota --help` imports none of them."""

from __future__ import annotations

import importlib
from typing import Dict, List, NamedTuple, Optional

import click


class Verb(NamedTuple):
    """`place` is `module:function`, the module below `ota_cli.cli`."""

    place: str
    help: str


VERBS: Dict[str, Verb] = {
    "status": Verb("status:status", "What runs, what boots next, how the last update ended."),
    "check": Verb("check:check", "Is there an update, is it trusted, what would it cost?"),
    "update": Verb("update:update", "Bring an image into the inactive slot and boot it next."),
    "activate": Verb("trial:activate", "Boot what `update --stage-only` prepared."),
    "commit": Verb("trial:commit", "Confirm the running trial boot after its health checks."),
    "rollback": Verb("trial:rollback", "Take back what is armed, or return to the old slot."),
    "switch-slot": Verb("trial:switch_slot", "Boot the other known good slot next."),
    "wait": Verb("wait:wait", "For scripts: until the armed update is confirmed or fell back."),
    "setup": Verb("setup:setup", "Install or repair the boot integration of a device."),
    "doctor": Verb("doctor:doctor", "What is not well here, and what mends it?"),
    "history": Verb("history:history", "How past updates ended, one line each."),
    "verify": Verb("verify:verify", "Is a slot still what its signed image says?"),
    "proxy": Verb("proxy:proxy", "Let other ECUs download through this one."),
    "ssh-gate": Verb("ssh_gate:ssh_gate", "Answer the ECU above: a forced command for SSH keys."),
    "image": Verb("image:image", "Make, sign, examine, unpack and serve images."),
    "demo": Verb("demo:demo", "A complete update on a throw-away device."),
}

IMAGE_VERBS: Dict[str, Verb] = {
    "build": Verb("image_make:build", "Make an image of a root file system."),
    "sign": Verb("image_make:sign", "Sign an image."),
    "prepare": Verb("image_make:prepare", "Put units and anchors into a root file system."),
    "verify": Verb("image_use:verify", "Check an image's signature and every file."),
    "inspect": Verb("image_use:inspect", "Show what is in an image."),
    "unpack": Verb("image_use:unpack", "Fill an empty slot, directory or disk-image file."),
    "serve": Verb("image_use:serve", "Serve images over TLS, for development."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run or asked for their help."""

    def __init__(self, *args: object, verbs: Dict[str, Verb], **values: object) -> None:
        super().__init__(*args, **values)  # type: ignore[arg-type]
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> List[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        verb = self._verbs.get(cmd_name)
        if verb is None:
            return None
        module, _, function = verb.place.partition(":")
        found = getattr(importlib.import_module(f"ota_cli.cli.{module}"), function)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in self._verbs.items()])
