"""Who races: `ota` in its cases, the yardsticks of reading and copying, and other updaters."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

from tests.bench.measure import Cost, Run, measured
from tests.bench.phases import download_seconds, phase_seconds
from tests.bench.stage import Stage
from tests.support.bench import installed_environment
from tests.support.blocks import run

_SHA256_FILES = "find . -xdev -type f -print0 | xargs -0 -P 2 -n 64 sha256sum >/dev/null"

SHA256 = "sha256 of the slot, 2 processes"
IN_PLACE = "ota, in place"
UNCHANGED = "ota, nothing changed"
TRUSTING = "ota, nothing changed, verify_local: stat"
COPY = "cp -a onto an empty slot"
EMPTY = "ota, onto an empty slot"
EMPTY_FAR = "ota, onto an empty slot, 40 ms away"
DOWNLOAD = "download alone, curl, 32 connections"
DOWNLOAD_FAR = "download alone, curl, 40 ms away"
RSYNC = "rsync from a local tree, in place"
CASYNC = "casync extract over the old tree, running slot as seed"
OSTREE = "ostree, pull and checkout"


@dataclass(frozen=True)
class Contender:
    """`prepare` brings the standby slot into the state that `run` starts from."""

    name: str
    prepare: Callable[[Stage], None]
    run: Callable[[Stage], Cost]


def growing(stage: Stage) -> List[Contender]:
    """Those whose cost is followed over the number of files."""
    return [
        Contender(SHA256, Stage.make_old, _sha256),
        Contender(IN_PLACE, _nothing, _ota()),
        Contender(UNCHANGED, _nothing, _ota()),
        *([Contender(TRUSTING, _nothing, _ota_trusting)] if stage.can_trust_stat() else []),
        Contender(EMPTY, Stage.make_empty, _ota()),
    ]


def contenders(stage: Stage) -> List[Contender]:
    """All that are installed, in an order in which none disturbs the next."""
    found = [
        *growing(stage),
        Contender(EMPTY_FAR, Stage.make_empty, _ota(far=True)),
        Contender(DOWNLOAD, _nothing, _curl(far=False)),
        Contender(DOWNLOAD_FAR, _nothing, _curl(far=True)),
        Contender(COPY, Stage.make_empty, _copy),
        Contender(RSYNC, Stage.make_old, _rsync),
    ]
    if shutil.which("casync"):
        found.append(Contender(CASYNC, _casync_chunks, _casync))
    if shutil.which("ostree"):
        found.append(Contender(OSTREE, _ostree_client, _ostree))
    return found


def _nothing(stage: Stage) -> None:
    """As the one before left it."""


def _ota(*, far: bool = False) -> Callable[[Stage], Cost]:
    def race(stage: Stage) -> Cost:
        done, cost = _measured(stage, stage.update(far=far))
        last = download_seconds(done, stage.server.last_answer())
        return replace(cost, phases=phase_seconds(done), download_s=last)

    return race


def _ota_trusting(stage: Stage) -> Cost:
    with stage.trusting_stat():
        return _ota()(stage)


def _shell(
    stage: Stage,
    script: str,
    mount: Callable[[Stage], AbstractContextManager[object]] = Stage.mounted_standby,
) -> Cost:
    return _measured(stage, ["bash", "-c", script], mount)[1]


def _measured(
    stage: Stage,
    argv: Sequence[str],
    mount: Callable[[Stage], AbstractContextManager[object]] = lambda stage: nullcontext(),
) -> Tuple[Run, Cost]:
    sent, requests = stage.server.sent_bytes(), stage.server.requests()
    with mount(stage):
        done = measured(argv, _environment(stage), stage.standby)
    wire = stage.server.sent_bytes() - sent
    asked = stage.server.requests() - requests
    return done, replace(done.cost, wire_bytes=wire, requests=asked)


def _environment(stage: Stage) -> dict[str, str]:
    places = {
        "SCRATCH": str(stage.scratch), "NEW": str(stage.images.trees.new),
        "URL": stage.server.url, "CACERT": str(stage.server.cacert),
    }  # fmt: skip
    return {**installed_environment(), **places}


def _sha256(stage: Stage) -> Cost:
    return _shell(stage, f'cd "$SCRATCH/standby" && {_SHA256_FILES}')


def _copy(stage: Stage) -> Cost:
    script = 'cp -a "$SCRATCH/running/." "$SCRATCH/standby/" && sync -f "$SCRATCH/standby"'
    with stage.mounted_running():
        return _shell(stage, script)


def _rsync(stage: Stage) -> Cost:
    script = (
        'rsync -aHAX --checksum --delete --exclude=/.ota "$NEW/" "$SCRATCH/standby/" '
        '&& sync -f "$SCRATCH/standby"'
    )
    return _shell(stage, script)


def _curl(far: bool) -> Callable[[Stage], Cost]:
    """Fetches what the last `ota` fetched, into nothing."""

    def race(stage: Stage) -> Cost:
        wanted = stage.scratch / "urls"
        paths = dict.fromkeys(p for p in stage.server.paths() if p.startswith("new/rootfs"))
        lines = (f'url = "{stage.url(far)}{p}"\noutput = /dev/null\n' for p in paths)
        wanted.write_text("".join(lines))
        argv = ["curl", "--silent", "--fail", "--parallel", "--parallel-max", "32", "--cacert",
                str(stage.server.cacert), "--config", str(wanted)]  # fmt: skip
        return _measured(stage, argv)[1]

    return race


def _casync_chunks(stage: Stage) -> None:
    """An index and the chunks of the new release behind the server; the old one in the slot."""
    served = stage.images.served / "casync"
    if not (served / "new.caidx").exists():
        shutil.rmtree(served, ignore_errors=True)
        served.mkdir()
        run("casync", "make", "--compression=zstd", f"--store={served / 'default.castr'}",
            served / "new.caidx.part", "--what=archive-index", stage.images.trees.new)  # fmt: skip
        (served / "new.caidx.part").rename(served / "new.caidx")
    stage.make_old()


def _casync(stage: Stage) -> Cost:
    """Brings the slot up to date over TLS. The tree that it replaces can not be its seed: casync
    2 then ends with ESTALE.

    It trusts the machine's own authorities only: ours takes their place for this command.
    """
    script = (
        'mount --bind "$CACERT" /etc/ssl/certs/ca-certificates.crt '
        '&& casync extract --delete=yes --seed-output=no --seed="$SCRATCH/running" '
        '"${URL}casync/new.caidx" "$SCRATCH/standby" && sync -f "$SCRATCH/standby"'
    )
    argv = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    with stage.mounted_running():
        return _measured(stage, argv, Stage.mounted_standby)[1]


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
    return _shell(stage, script)
