"""Options that change what is sent, what is built, and where it is served."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.conftest import Images
from tests.support.bench import environment, make_device, ota, ota_argv
from tests.support.independent_reader import table
from tests.support.systems import make_system
from tests.support.webserver import Answer, WebServer


def test_cookies_come_from_a_file_or_stdin_and_stay_out_of_messages(
    tmp_path: Path, images: Images
) -> None:
    device = make_device(tmp_path / "device", [images.anchor])
    assert ota("setup", "--root", device).code == 0
    (tmp_path / "cookies").write_text('{"Policy": "from-file"}')
    with WebServer(tmp_path) as web:
        web.script["/v2/metadata.jwt"] = [Answer(status=403)]
        at = ("check", "--root", device, "--version", f"{web.url}v2", "--cacert", web.cacert)
        runs = [
            ota(*at, "--cookie-file", tmp_path / "cookies"),
            ota(*at, "--cookie-file", "-", stdin=b'{"Policy": "from-stdin"}'),
            ota(*at, "--cookie", "Policy=from-option"),
        ]
    assert [run.code for run in runs] == [19, 19, 19]
    sent = [seen.headers["cookie"] for seen in web.seen]
    assert sent == ["Policy=from-file", "Policy=from-stdin", "Policy=from-option"]
    assert not any("from-" in run.err for run in runs)


@pytest.mark.parametrize("size", [40_000, 200_000])
def test_more_cookies_than_a_server_takes_are_a_configuration_error(
    device: Path, tmp_path: Path, size: int
) -> None:
    (tmp_path / "cookies").write_text(json.dumps({"a": "secret" * (size // 6)}))
    at = ("--version", "https://127.0.0.1/", "--cookie-file", tmp_path / "cookies")
    done = ota("check", "--root", device, *at)
    assert done.code == 78
    assert "secret" not in done.err


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "secret"])
def test_a_cookie_file_of_another_form_is_a_configuration_error(
    device: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "cookies").write_text(text)
    at = ("--version", "https://127.0.0.1/", "--cookie-file", tmp_path / "cookies")
    done = ota("check", "--root", device, *at)
    assert done.code == 78
    assert "secret" not in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--cert", "x"),
        ("--limit-rate", "fast"),
        ("--cookie", "novalue"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(device: Path, words: tuple[str, str]) -> None:
    done = ota("check", "--root", device, "--version", "https://127.0.0.1/", *words)
    assert done.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--version", "https://127.0.0.1/", "--cacert", ""),
        ("check", "--version", "https://127.0.0.1/", "--proxy="),
        ("check", "--version", ""),
        ("status", "--root", ""),
        ("--root", "", "status"),
        ("image", "prepare", ""),
        ("image", "build", "tree", "", "--version", "x"),
        ("image", "build", "tree", "image", "--version="),
    ],
)
def test_an_empty_value_is_an_unset_variable_and_never_a_default(words: tuple[str, ...]) -> None:
    done = ota(*words, "--json")
    assert done.code == 2
    assert "empty" in done.document["error"]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("demo",),
        ("image", "build", "tree", "image", "--version", "x"),
        ("image", "sign", "image", "--key", "key", "--cert", "cert"),
        ("image", "prepare", "tree"),
        ("image", "serve", "images"),
    ],
)
def test_verbs_without_a_device_refuse_a_root(words: tuple[str, ...], tmp_path: Path) -> None:
    for given in (("--root", tmp_path, *words), (*words, "--root", tmp_path)):
        done = ota(*given)
        assert done.code == 2
        assert "--root" in done.err
    assert "--root" not in ota(*words, "--help").out


def test_a_directory_without_a_signed_image_is_named(tmp_path: Path, images: Images) -> None:
    make_system(tmp_path / "tree", 1)
    (tmp_path / "empty").mkdir()
    assert ota("image", "build", tmp_path / "tree", tmp_path / "new", "--version", "x").code == 0
    for name, why in (("empty", "holds no image"), ("new", "not signed")):
        done = ota("image", "verify", tmp_path / name, "--anchors", images.keys, "--json")
        assert done.code == 12
        assert str(tmp_path / name) in done.document["error"]["message"]
        assert why in done.document["error"]["message"]


def test_a_place_without_anchors_is_named(tmp_path: Path, images: Images) -> None:
    done = ota("image", "verify", images.directory / "v1", "--anchors", tmp_path / "missing")
    assert done.code == 78
    assert f"{tmp_path}/missing" in done.err


@pytest.mark.parametrize("words", [("--cacert", "x"), ("--cookie", "a=b"), ("--insecure-http",)])
def test_options_of_fetching_are_refused_with_a_directory(
    words: tuple[str, ...], images: Images
) -> None:
    at = (images.directory / "v1", "--anchors", images.keys)
    done = ota("image", "verify", *at, *words)
    assert done.code == 2
    assert "is a directory" in done.err


def test_build_takes_persistent_and_ignored_paths_from_files(
    tmp_path: Path, images: Images
) -> None:
    make_system(tmp_path / "tree", 1)
    (tmp_path / "persist").write_text("# kept\n/etc/hostname\n\n/home\n")
    (tmp_path / "ignore").write_text("/opt/\n")
    done = ota(
        "image", "build", tmp_path / "tree", tmp_path / "image", "--version", "x",
        "--compatible", "rover", "--expires", "2030-01-01",
        "--persist", tmp_path / "persist", "--ignore", tmp_path / "ignore",
    )  # fmt: skip
    assert done.code == 0, done.err
    signed = ota(
        "image", "sign", tmp_path / "image", "--key", images.keys / "sign.key",
        "--cert", images.keys / "sign.crt",
    )  # fmt: skip
    assert signed.code == 0, signed.err
    assert table(tmp_path / "image", "persistent") == [("/etc/hostname",), ("/home",)]
    assert not [row for row in table(tmp_path / "image", "directory") if row[3] == "/opt"]
    shown = ota("image", "inspect", tmp_path / "image", "--anchors", images.keys, "--json")
    assert shown.result["compatible"] == "rover"
    assert shown.result["expires"].startswith("2030-01-01")


def test_serve_says_where_and_that_it_is_not_for_production(images: Images, tmp_path: Path) -> None:
    argv = [*ota_argv(), "image", "serve", str(images.directory), "--port", "0"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3)]
        url, cacert = said[0].split()[-1], said[1].split()[-1]
        assert "not for production" in said[2]
        anchors = ("--anchors", images.keys)
        done = ota("image", "inspect", f"{url}v1", "--cacert", cacert, *anchors, "--json")
        assert json.loads(done.out)["result"]["version"] == "v1"
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "Stopped.\n"


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (("check", "--cacert"), "check"),
        (("status", "--no-ecus=1"), "status"),
        (("image", "verify", "/srv", "--anchors"), "image verify"),
        (("history", "--nope"), "history"),
        (("--root",), ""),
    ],
)
def test_a_wrong_option_is_told_of_the_verb_it_was_given_to(
    words: Tuple[str, ...], verb: str
) -> None:
    said = ota("--json", *words).document
    assert (said["command"], said["exit_code"]) == (verb, 2)
    assert said["error"]["hint"] == f"see `{f'ota {verb}'.strip()} --help`"
