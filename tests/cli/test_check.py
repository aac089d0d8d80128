"""`ota check` for cron and CI: exact bytes, an exit code that says it all, and silence."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import List

import pytest

from tests.conftest import Images, Server
from tests.support.bench import Ran, ota
from tests.support.nginx import Nginx, needs_nginx
from tests.support.schemas import require_as_told

#: Exit code by what the server has.
ANSWERS = [("v1", 0), ("v2", 20)]
#: How programs ask for the document.
AS_JSON = [("--json",), ("--output", "json")]


def at(device: Path, server: Server, version: str) -> List[str]:
    there = ["--version", f"{server.url}{version}/", "--cacert", str(server.cacert)]
    return ["--root", str(device), *there]


def check(device: Path, server: Server, version: str, *words: str) -> Ran:
    return ota("check", *at(device, server, version), *words)


def test_the_bytes_are_those_that_the_server_sends(device: Path, server: Server) -> None:
    told = check(device, server, "v2", "--json").result["bytes"]
    done = ota("update", *at(device, server, "v2"), "--no-self-confirm", "--json")
    assert told["exact"]
    assert done.result["bytes"]["downloaded"] == told["download"] > 0


@pytest.mark.parametrize(("version", "code"), ANSWERS)
@pytest.mark.parametrize("how", ["plain", "rich"])
def test_quiet_is_the_exit_code_alone(
    device: Path, server: Server, version: str, code: int, how: str
) -> None:
    done = check(device, server, version, "-q", "--output", how)
    assert (done.code, done.out, done.err) == (code, "", "")


@pytest.mark.parametrize(("version", "code"), ANSWERS)
@pytest.mark.parametrize(
    "words", [p for how in AS_JSON for p in itertools.permutations([how, ("-q",)])]
)
def test_quiet_and_json_is_the_document_and_nothing_else(
    device: Path, server: Server, version: str, code: int, words: List[List[str]]
) -> None:
    done = check(device, server, version, *itertools.chain(*words))
    assert (done.code, done.err) == (code, "")
    assert done.result["available"] == (code == 20)
    require_as_told("check", done)


def test_quiet_failures_are_told_on_stderr(device: Path, server: Server) -> None:
    done = check(device, server, "no-such-version", "-q")
    assert (done.code, done.out) == (12, "")
    assert done.err.startswith("ota: error: ")
    assert "hint: " in done.err


def test_quiet_is_no_silence_about_an_ecu_that_does_not_answer(
    device: Path, server: Server
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    nobody = "{ecu_id: arm, ip_addr: 127.0.0.1, ssh_port: 1}"
    info.write_text(f"{info.read_text()}secondaries: [{nobody}]\n")
    (device / "boot/ota/proxy_info.yml").write_text("enable_local_ota_proxy: false\n")

    unknown = check(device, server, "v1", "-q")
    assert (unknown.code, unknown.out) == (16, "")
    assert "not all ECUs could be checked: ECU arm" in unknown.err

    available = check(device, server, "v2", "-q")
    assert (available.code, available.out) == (20, "")
    assert available.err.startswith("warning: not all ECUs could be checked: ECU arm")

    document = check(device, server, "v1", "-q", "--json")
    assert document.document["error"]["slug"]
    assert document.err == ""


@needs_nginx
def test_what_runs_is_told_by_its_claims_alone(device: Path, images: Images) -> None:
    with Nginx(images.directory) as nginx:
        assert check(device, Server(nginx.url, nginx.cacert), "v1").code == 0
        assert nginx.paths() == ["v1/metadata.jwt", "v1/sign.pem"]


@needs_nginx
def test_no_tables_are_fetched_of_what_does_not_fit(device: Path, images: Images) -> None:
    info = device / "boot/ota/ecu_info.yml"
    info.write_text(f"{info.read_text()}compatible: another kind\n")
    with Nginx(images.directory) as nginx:
        assert check(device, Server(nginx.url, nginx.cacert), "v2").code == 11
        assert nginx.paths() == ["v2/metadata.jwt", "v2/sign.pem"]
