"""What an update tells of its progress, to programs, to a pipe and to a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ota_cli.image.serve import DevServer
from tests.conftest import Images, Server, copy_tree
from tests.support.bench import environment, ota, ota_argv


def words(device: Path, server: Server, *more: str) -> List[str]:
    at = ["--root", str(device), "--version", f"{server.url}v2/", "--cacert", str(server.cacert)]
    return [*at, "--no-self-confirm", *more]


def events(device: Path, server: Server, verb: str = "update") -> List[Dict[str, Any]]:
    at = words(device, server)
    done = ota(verb, *(at if verb == "update" else at[:-1]), "--output", "jsonl")
    return [json.loads(line) for line in done.out.splitlines()][:-1]


def percents(told: List[Dict[str, Any]]) -> List[int]:
    return [each["percent"] for each in told if "percent" in each]


@pytest.mark.parametrize("verb", ["check", "update"])
def test_percents_only_rise_and_end_at_100(device: Path, server: Server, verb: str) -> None:
    found = percents(events(device, server, verb))
    assert found == sorted(found)
    assert found.count(100) == 1
    assert found[-1] == 100


def test_percents_of_other_verbs_end_at_100_as_well(device: Path, server: Server) -> None:
    assert ota("update", *words(device, server, "--stage-only")).code == 0
    missing = device / "slots/b/srv/odd/it's, 100%? #;&=+~/ü\u2028"
    missing.unlink()
    at = words(device, server)[2:-1]
    for verb in (["verify"], ["verify", "--repair", *at], ["verify"]):
        done = ota(*verb, "--root", device, "--output", "jsonl")
        told = [json.loads(line) for line in done.out.splitlines()][:-1]
        assert told[-1] == {"event": "done", "percent": 100}, verb
        assert percents(told) == sorted(percents(told)), verb
        assert "--repair" not in verb or len(set(percents(told))) > 2


def test_percents_only_rise_where_everything_is_kept(device: Path, server: Server) -> None:
    events(device, server)
    told = events(device, server)
    found = percents(told)
    assert found == sorted(found)
    assert found[-1] == 100
    plan = [each["work"] for each in told if each["event"] == "ahead"][-1]
    assert plan["download"] == 0


def test_the_bytes_of_each_phase_are_those_that_were_announced(
    device: Path, server: Server
) -> None:
    told = events(device, server)
    plan = [each["work"] for each in told if each["event"] == "ahead"][-1]
    last = {each["phase"]: each for each in told if each["event"] == "progress"}
    for phase in ("fill", "download", "verify"):
        assert plan[phase] > 0
        assert last[phase]["done_bytes"] == last[phase]["total_bytes"] == plan[phase]


def test_a_pipe_gets_a_line_for_each_phase(device: Path, server: Server) -> None:
    lines = ota("update", *words(device, server)).err.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("...")] == [
        "fetching", "comparing", "filling", "downloading", "carrying", "writing", "arming",
    ]  # fmt: skip


def test_ctrl_c_leaves_a_sane_terminal_and_says_what_is_kept(device: Path, server: Server) -> None:
    child, terminal = pty.fork()
    if child == 0:
        env = {**environment(), "TERM": "xterm", "COLUMNS": "60"}
        argv = [*ota_argv(), "update", *words(device, server, "--limit-rate", "20k")]
        os.execvpe(argv[0], argv, env)  # noqa: S606 (the program itself)
    said = b""
    while not re.search(rb"download +\d+ %.* [1-9][\d.]* k?B/s", said):
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    said += rest_of(terminal)
    _, status = os.waitpid(child, 0)
    assert (os.WIFEXITED(status), os.WEXITSTATUS(status)) == (True, 128 + signal.SIGINT)
    shown = said.decode()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"
    end = shown[shown.index("ota: error:") :].splitlines()
    assert re.sub("\x1b[^m]*m", "", end[0]) == "ota: error: interrupted"
    assert end[1].startswith("hint: run the same command again")
    assert re.fullmatch(r"It was at \d+ %; kept for the next run: .* copied.*\.", end[3])
    assert "Traceback" not in shown


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_a_bar_is_drawn_with_what_the_locale_has(
    device: Path, server: Server, locale: str
) -> None:
    child, terminal = pty.fork()
    if child == 0:
        env = {**environment(), "TERM": "xterm", "COLUMNS": "80", "LC_ALL": locale}
        argv = [*ota_argv(), "update", *words(device, server, "--limit-rate", "100k")]
        os.execvpe(argv[0], argv, env)  # noqa: S606 (the program itself)
    shown = rest_of(terminal).decode()
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0, shown
    plain = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", shown)
    assert shown.isascii() == (locale != "C.UTF-8")
    assert re.search("#+-+" if shown.isascii() else "\u2501+\u2500+", plain)


def test_damaged_content_that_was_thrown_away_is_not_said_to_be_kept(
    device: Path, images: Images, tmp_path: Path
) -> None:
    served = copy_tree(images.directory, tmp_path / "served")
    for kernel in served.glob("v2/*/boot/vmlinuz-*"):
        kernel.write_bytes(b"?" * kernel.stat().st_size)
    with DevServer(served) as running:
        done = ota("update", *words(device, Server(running.url, running.cacert)))
    assert done.code == 12, done.err
    assert list((device / "slots/b/.ota/staging").iterdir()) == []
    kept = r"It was at \d+ %; kept for the next run: [\d.]+ kB copied\."
    assert re.fullmatch(kept, done.err.splitlines()[-1])


def rest_of(terminal: int) -> bytes:
    """What is printed until nobody is left who could."""
    said = b""
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            return said
