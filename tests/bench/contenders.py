"""Who races: `ota` in its cases, the yardsticks of reading and copying, and other updaters."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Sequence

from tests.bench.measure import Cost, measured
from tests.bench.stage import Stage
from tests.support.bench import installed_environment
from tests.support.blocks import run

_SHA256 = "find . -xdev -type f -print0 | xargs -0 -P 2 -n 64 sha256sum >/dev/null"


@dataclass(frozen=True)
class Contender:
    """`prepare` brings the standby slot into the state that `run` starts from."""

    name: str
    prepare: Callable[[Stage], None]
    run: Callable[[Stage], Cost]


def contenders() -> List[Contender]:
    """All that are installed, in an order in which none disturbs the next."""
    found = [
        Contender("sha256 of the slot, 2 processes", Stage.make_old, _sha256),
        Contender("ota, in place", _nothing, _ota()),
        Contender("ota, nothing changed", _nothing, _ota()),
        Contender("cp -a onto an empty slot", Stage.make_empty, _copy),
        Contender("ota, onto an empty slot", Stage.make_empty, _ota()),
        Contender("ota, onto an empty slot, 40 ms away", Stage.make_empty, _ota(far=True)),
        Contender("download alone, curl, 32 connections", _nothing, _curl(far=False)),
        Contender("download alone, curl, 40 ms away", _nothing, _curl(far=True)),
        Contender("rsync from a local tree, in place", Stage.make_old, _rsync),
    ]
    if shutil.which("ostree"):
        found.append(Contender("ostree, pull and checkout", _ostree_client, _ostree))
    return found


def _nothing(stage: Stage) -> None:
    """As the one before left it."""


def _ota(*, far: bool = False) -> Callable[[Stage], Cost]:
    def race(stage: Stage) -> Cost:
        return _cost(stage, stage.update(far=far))

    return race


def _cost(
    stage: Stage,
    argv: Sequence[str],
    mount: Callable[[Stage], AbstractContextManager[object]] = lambda stage: nullcontext(),
) -> Cost:
    before = stage.server.sent_bytes()
    with mount(stage):
        cost = measured(argv, _environment(stage), stage.standby)
    return replace(cost, wire_bytes=stage.server.sent_bytes() - before)


def _environment(stage: Stage) -> dict[str, str]:
    places = {"SCRATCH": str(stage.scratch), "NEW": str(stage.images.trees.new)}
    return {**installed_environment(), **places}


def _sha256(stage: Stage) -> Cost:
    script = f'cd "$SCRATCH/standby" && {_SHA256}'
    return _cost(stage, ["bash", "-c", script], Stage.mounted_standby)


def _copy(stage: Stage) -> Cost:
    script = 'cp -a "$SCRATCH/running/." "$SCRATCH/standby/" && sync -f "$SCRATCH/standby"'
    with stage.mounted_running():
        return _cost(stage, ["bash", "-c", script], Stage.mounted_standby)


def _rsync(stage: Stage) -> Cost:
    script = (
        'rsync -aHAX --checksum --delete --exclude=/.ota "$NEW/" "$SCRATCH/standby/" '
        '&& sync -f "$SCRATCH/standby"'
    )
    return _cost(stage, ["bash", "-c", script], Stage.mounted_standby)


def _curl(far: bool) -> Callable[[Stage], Cost]:
    """Fetches what the last `ota` fetched, into nothing."""

    def race(stage: Stage) -> Cost:
        wanted = stage.scratch / "urls"
        paths = dict.fromkeys(p for p in stage.server.paths() if p.startswith("new/rootfs"))
        lines = (f'url = "{stage.url(far)}{p}"\noutput = /dev/null\n' for p in paths)
        wanted.write_text("".join(lines))
        argv = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", "32", "--cacert",
                str(stage.server.cacert), "--config", str(wanted)]  # fmt: skip
        return _cost(stage, argv)

    return race


def _ostree_client(stage: Stage) -> None:
    """A repository of both releases behind the server; a client that has the old one."""
    served = stage.images.served / "ostree"
    if not (served / "summary").exists():
        shutil.rmtree(served, ignore_errors=True)
        run("ostree", "init", f"--repo={served}", "--mode=archive")
        for name, tree in (("old", stage.images.trees.old), ("new", stage.images.trees.new)):
            run("ostree", "commit", f"--repo={served}", f"--branch={name}",
                _without_nodes(tree, stage.images.served.parent / "bench-plain"))  # fmt: skip
        run("ostree", "summary", f"--repo={served}", "-u")
    stage.make_empty()
    with stage.mounted_standby() as place:
        repository = f"--repo={place}/repo"
        run("ostree", "init", repository, "--mode=bare")
        run("ostree", "pull-local", repository, str(served), "old")
        trust = f"--set=tls-ca-path={stage.server.cacert}"
        url = f"{stage.server.url}ostree"
        run("ostree", "remote", "add", repository, "--no-gpg-verify", trust, "origin", url)


def _without_nodes(tree: Path, place: Path) -> Path:
    """`tree` in hard links without device nodes, which ostree does not take; beside it."""
    shutil.rmtree(place, ignore_errors=True)
    run("cp", "-al", tree, place)
    for kind in "bcp":
        run("find", place, "-type", kind, "-delete")
    return place


def _ostree(stage: Stage) -> Cost:
    script = (
        'repo="$SCRATCH/standby/repo" && ostree --repo="$repo" pull origin new '
        '&& ostree --repo="$repo" checkout -H new "$SCRATCH/standby/root" '
        '&& sync -f "$SCRATCH/standby"'
    )
    return _cost(stage, ["bash", "-c", script], Stage.mounted_standby)
