"""What is printed for programs is what the schemas that come with `ota` say, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import fastjsonschema
import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.cli.lazy import IMAGE_VERBS, VERBS
from ota_cli.events import (
    Ahead,
    Alive,
    Changed,
    Done,
    Event,
    Hello,
    Note,
    OfEcu,
    Phase,
    PhaseStarted,
    Progress,
    Ready,
    Warned,
)
from ota_cli.probe import probe
from ota_cli.render.json import event_object
from tests.conftest import Images, Server
from tests.support.bench import Ran, environment, ota, ota_argv
from tests.support.schemas import SAME, SCHEMAS, checker, require_as_told
from tests.support.systems import make_system


def test_every_verb_has_a_schema() -> None:
    verbs = {*VERBS, *(f"image-{verb}" for verb in IMAGE_VERBS)} - {"image"}
    used = {SAME.get(verb, verb) for verb in verbs}
    assert used - {None} == {path.stem for path in SCHEMAS.glob("*.json")} - {"document", "event"}


def test_the_documents_of_an_update_and_what_follows_it(device: Path, server: Server) -> None:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)

    def run(verb: str, *words: object, code: int = 0) -> None:
        done = ota(verb, "--root", device, *words, "--json")
        assert done.code == code, done.out
        require_as_told(verb, done)

    run("status")
    run("setup")
    run("check", *at, code=20)
    run("update", *at, "--stage-only", "--no-self-confirm")
    run("status")
    run("activate")
    run("rollback")
    run("update", *at, "--no-self-confirm")
    next_boot(probe(device))
    run("status")
    run("commit")
    run("wait", "--timeout", "1")
    run("verify", "--repair")
    (device / "slots/a/usr/more").mkdir()
    run("verify", code=12)
    run("verify", "--repair")
    run("switch-slot", "--trust-record")
    run("status")
    run("history")
    run("verify", "b")
    require_as_told("doctor", ota("doctor", "--root", device, "--json"))


def test_the_documents_of_images(tmp_path: Path, images: Images) -> None:
    tree, image, keys = tmp_path / "tree", tmp_path / "image", images.keys
    make_system(tree, 1)
    anchors = ("--anchors", keys)

    def run(verb: str, *words: object) -> None:
        require_as_told(f"image-{verb}", ota("image", verb, *words, "--json"))

    run("prepare", tree, "--anchor", images.anchor)
    run("build", tree, image, "--version", "x")
    run("sign", image, "--key", keys / "sign.key", "--cert", keys / "sign.crt")
    run("verify", image, *anchors)
    run("inspect", image, *anchors)
    run("unpack", image, tmp_path / "slot", *anchors)


def test_the_document_of_a_server_that_was_ended(images: Images) -> None:
    words = ("image", "serve", str(images.directory), "--port", "0", "--json", "-v")
    process = subprocess.Popen(
        [*ota_argv(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    assert process.stderr is not None
    assert "not for production" in [process.stderr.readline() for _ in range(3)][-1]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    require_as_told("image-serve", Ran(process.returncode, out, ""))


def test_the_document_of_the_demo() -> None:
    require_as_told("demo", ota("demo", "--json"))


def test_a_failure_is_as_told(device: Path) -> None:
    done = ota("activate", "--root", device, "--json")
    assert done.code
    checker("document")(done.document)
    assert done.result == {}


def events() -> Iterator[Event]:
    yield from (PhaseStarted(phase, "so") for phase in Phase)
    yield from (Progress(Phase.FILL, 1, 2), Note("so"), Warned("so"), Alive(), Done())
    yield Changed("armed", "b", "v2", "t1", "so", is_bad=False)
    yield Ahead(((Phase.FILL, 1), (Phase.OTHER, 0)))
    yield from (Hello(1, "0.1", "main"), Ready(("main",), ()), OfEcu("p1", Note("so")))


@pytest.mark.parametrize("event", list(events()), ids=str)
def test_events_are_as_told(event: Event) -> None:
    checker("event")(json.loads(json.dumps(event_object(event))))


def test_an_update_of_events_a_line_is_as_told(device: Path, server: Server) -> None:
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    done = ota("update", "--root", device, *at, "--output", "jsonl")
    *happened, last = map(json.loads, done.out.splitlines())
    assert {each["event"] for each in happened} >= {"phase", "progress"}
    for each in happened:
        checker("event")(each)
    checker("document")(last)
    checker("update")(last["result"])


def test_a_document_with_a_key_nobody_described_is_found_out() -> None:
    with pytest.raises(fastjsonschema.JsonSchemaValueException, match="must not contain"):
        checker("setup")(
            {"loader": "grub", "boot_partition": "directory", "running": "a", "default": "a",
             "changes": [], "new": 1}
        )  # fmt: skip
