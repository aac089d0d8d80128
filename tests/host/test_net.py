"""Fetching from real servers on loopback: what is checked, retried, refused."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Iterator, List

import pytest
import zstandard

from ota_cli.core.urls import base_url, compressed_location, plain_location
from ota_cli.entries import Digest
from ota_cli.errors import (
    AccessDenied,
    ConfigError,
    ImageDamaged,
    NoSpace,
    OtaError,
    SlotUnusable,
    Unreachable,
    UsageProblem,
)
from ota_cli.host import net_link
from ota_cli.host.net import Blob, Fetcher, NetSettings
from ota_cli.host.net_crew import CrewClock, Halt, crew_size, work_through
from ota_cli.host.net_rate import Bucket
from ota_cli.image.keys import make_image_keys
from tests.support.webserver import Answer, WebServer

BODY = b"content " * 1000


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as server:
        yield server


def settings(web: WebServer) -> NetSettings:
    """Patient: a busy machine may take seconds for an answer."""
    return NetSettings(cacert=web.cacert, first_backoff_s=0.01, no_progress_timeout_s=30)


def blob(data: bytes = BODY, location: str = "x", *, compressed: bool = False) -> Blob:
    return Blob(Digest(hashlib.sha256(data).digest()), len(data), location, compressed)


def fetch(web: WebServer, directory: Path, *blobs: Blob) -> List[Blob]:
    directory.mkdir(exist_ok=True)
    with Fetcher(web.url, settings(web)) as fetcher:
        return list(fetcher.blobs(blobs, directory, lambda count: None))


def fails(web: WebServer, kind: type, slug: str = "") -> OtaError:
    with Fetcher(web.url, settings(web)) as fetcher, pytest.raises(kind) as raised:
        fetcher.metadata("x", 100_000)
    error = raised.value
    assert isinstance(error, OtaError)
    assert error.hint
    assert not slug or error.slug == slug
    return error


def test_a_file_is_fetched_and_connections_are_used_again(web: WebServer, tmp_path: Path) -> None:
    blobs = []
    for number in range(50):
        data = b"%d" % number * 100
        web.script[f"/{number}"] = [Answer(data)]
        blobs.append(blob(data, str(number)))
    done = fetch(web, tmp_path / "out", *blobs)
    assert sorted(done) == sorted(blobs)
    for each in blobs:
        data = (tmp_path / "out" / each.digest.hex()).read_bytes()
        assert hashlib.sha256(data).digest() == each.digest
    assert len({seen.connection for seen in web.seen}) <= 32
    assert len(list((tmp_path / "out").iterdir())) == 50, "nothing else is left"


@pytest.mark.parametrize(
    ("status", "kind", "slug"),
    [
        (404, ImageDamaged, "missing"),
        (410, ImageDamaged, "missing"),
        (401, AccessDenied, ""),
        (403, AccessDenied, ""),
    ],
)
def test_some_answers_are_final(web: WebServer, status: int, kind: type, slug: str) -> None:
    web.script["/x"] = [Answer(status=status)]
    fails(web, kind, slug)
    assert len(web.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_some_answers_pass(web: WebServer, status: int) -> None:
    web.script["/x"] = [Answer(status=status), Answer(status=status), Answer(BODY)]
    with Fetcher(web.url, settings(web)) as fetcher:
        assert fetcher.metadata("x", 100_000) == BODY


def test_a_body_over_the_limit_is_refused(web: WebServer) -> None:
    web.script["/x"] = [Answer(b"x" * 200_000)]
    fails(web, ImageDamaged, "too-large")


def test_files_that_are_too_large_together_are_refused(web: WebServer) -> None:
    for name in "xyz":
        web.script[f"/{name}"] = [Answer(b"x" * 50_000)]
    own = NetSettings(cacert=web.cacert)
    with Fetcher(web.url, own) as fetcher:
        assert len(dict(fetcher.metadata_files("xyz", 50_000, 150_000))) == 3
    with Fetcher(web.url, own) as fetcher, pytest.raises(ImageDamaged, match="no memory for more"):
        dict(fetcher.metadata_files("xyz", 50_000, 149_999))


def test_an_answer_cut_off_is_tried_again_until_it_gets_no_further(
    web: WebServer, tmp_path: Path
) -> None:
    web.script["/x"] = [Answer(BODY, cut=100), Answer(BODY)]
    assert fetch(web, tmp_path / "one", blob()) == [blob()]
    web.script["/x"] = [Answer(BODY, cut=100)]
    with pytest.raises(Unreachable, match="too early"):
        fetch(web, tmp_path / "two", blob())
    assert list((tmp_path / "two").iterdir()) == []


def test_wrong_content_is_tried_a_bounded_number_of_times(web: WebServer, tmp_path: Path) -> None:
    web.script["/x"] = [Answer(BODY[:-1] + b"!")]
    with pytest.raises(ImageDamaged, match="sha256"):
        fetch(web, tmp_path / "out", blob())
    assert 2 <= len(web.seen) <= 4
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("body", [BODY + b"more", BODY[:-1], b""])
def test_a_size_other_than_the_signed_one_is_refused(
    web: WebServer, tmp_path: Path, body: bytes
) -> None:
    web.script["/x"] = [Answer(body)]
    with pytest.raises(ImageDamaged):
        fetch(web, tmp_path / "out", blob())


def test_compressed_content_is_decompressed(web: WebServer, tmp_path: Path) -> None:
    web.script["/x"] = [Answer(zstandard.ZstdCompressor().compress(BODY))]
    fetch(web, tmp_path / "out", blob(compressed=True))
    assert (tmp_path / "out" / blob().digest.hex()).read_bytes() == BODY


def test_a_bomb_ends_at_the_declared_size(web: WebServer, tmp_path: Path) -> None:
    web.script["/x"] = [Answer(zstandard.ZstdCompressor().compress(b"\0" * (256 << 20)))]
    with pytest.raises(ImageDamaged):
        fetch(web, tmp_path / "out", blob(compressed=True))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_body_that_does_not_end_with_its_content_is_refused(
    web: WebServer, tmp_path: Path
) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (2**20).to_bytes(4, "little") + b"\0" * 2**20
    web.script["/x"] = [Answer(zstandard.compress(BODY) + skippable * 4)]
    with pytest.raises(ImageDamaged, match="of content"):
        fetch(web, tmp_path / "d", blob(compressed=True))


@pytest.mark.parametrize("body", [b"no zstd at all", b""])
def test_what_does_not_decompress_is_refused(web: WebServer, tmp_path: Path, body: bytes) -> None:
    web.script["/x"] = [Answer(body)]
    with pytest.raises(ImageDamaged):
        fetch(web, tmp_path / "out", blob(compressed=True))


def test_content_encoding_is_refused(web: WebServer) -> None:
    web.script["/x"] = [Answer(BODY, headers={"Content-Encoding": "gzip"})]
    fails(web, ImageDamaged)


def test_redirects_stay_on_the_host(web: WebServer, tmp_path: Path) -> None:
    web.script["/x"] = [Answer(status=302, headers={"Location": "/y"})]
    web.script["/y"] = [Answer(BODY)]
    with Fetcher(web.url, settings(web)) as fetcher:
        assert fetcher.metadata("x", 100_000) == BODY
    with WebServer(tmp_path) as other:
        web.script["/x"] = [Answer(status=302, headers={"Location": f"{other.url}x"})]
        fails(web, ImageDamaged)
        assert other.seen == []
    web.script["/x"] = [Answer(status=302, headers={"Location": "/x"})]
    fails(web, ImageDamaged)


@pytest.mark.parametrize(
    "location",
    ["javascript:alert(1)", "https://xn--zzzzzz--.example/x", "https://h:99999/x"],
)
def test_a_redirect_to_what_is_no_url_is_refused(web: WebServer, location: str) -> None:
    web.script["/x"] = [Answer(status=302, headers={"Location": location})]
    fails(web, ImageDamaged, "redirects")


@pytest.mark.parametrize(
    "url", ["http://a..b:1", "http://straße.example:1", f"http://{'a' * 64}.example:1"]
)
def test_a_host_that_no_name_stands_for_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(UsageProblem):
        Fetcher(url, NetSettings(insecure_http=True))
    with pytest.raises(ConfigError):
        Fetcher("https://127.0.0.1:1/", NetSettings(proxy=url))


def test_cookies_are_sent_and_never_shown(web: WebServer) -> None:
    web.script["/x"] = [Answer(BODY)]
    own = replace(settings(web), cookies={"CloudFront-Key": "s3cret", "b": "c"})
    with Fetcher(web.url, own) as fetcher:
        fetcher.metadata("x", 100_000)
    assert web.seen[0].headers["cookie"] == "CloudFront-Key=s3cret; b=c"
    assert "s3cret" not in repr(own)


def test_the_environment_does_not_choose_a_proxy(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    web.script["/x"] = [Answer(BODY)]
    with Fetcher(web.url, settings(web)) as fetcher:
        assert fetcher.metadata("x", 100_000) == BODY


def test_through_a_proxy_requests_are_plain_and_absolute(tmp_path: Path) -> None:
    with WebServer(tmp_path, tls=False) as proxy:
        proxy.script["http://images.example:8443/v2/metadata.jwt"] = [Answer(BODY)]
        proxy.script["http://images.example:8443/v2/x"] = [
            Answer(b"wrong"), Answer(b"wrong"), Answer(BODY),
        ]  # fmt: skip
        own = NetSettings(proxy=proxy.url, first_backoff_s=0.01)
        with Fetcher("https://images.example:8443/v2", own) as fetcher:
            assert fetcher.metadata("metadata.jwt", 100_000) == BODY
            list(fetcher.blobs([blob()], tmp_path, lambda count: None))
    directives = [seen.headers.get("ota-file-cache-control", "") for seen in proxy.seen]
    digest = blob().digest.hex()
    assert directives[0] == "no_cache"
    assert directives[1] == f"file_sha256={digest}"
    assert "retry_caching" in directives[2]
    assert directives[3] == "no_cache"


def test_an_unknown_server_certificate_is_not_retried(web: WebServer, tmp_path: Path) -> None:
    with WebServer(tmp_path) as other:
        own = replace(settings(web), cacert=other.cacert)
        with Fetcher(web.url, own) as fetcher, pytest.raises(Unreachable) as raised:
            fetcher.metadata("x", 10)
    assert raised.value.slug == "server-certificate"
    assert "--cacert" in raised.value.hint


def test_mutual_tls(tmp_path: Path) -> None:
    chain = make_image_keys()
    for name, data in (("ca.pem", chain.anchor), ("crt", chain.signer.certificate)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "key").write_bytes(chain.signer.key)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", str(tmp_path / "client.key"), "-out", str(tmp_path / "client.crt"),
         "-subj", "/CN=device"],
        check=True, capture_output=True,
    )  # fmt: skip
    with WebServer(tmp_path, client_ca=tmp_path / "client.crt") as web:
        web.script["/x"] = [Answer(BODY)]
        own = settings(web)
        with Fetcher(web.url, own) as fetcher, pytest.raises(OtaError):
            fetcher.metadata("x", 100_000)
        own = replace(own, cert=tmp_path / "client.crt", key=tmp_path / "client.key")
        with Fetcher(web.url, own) as fetcher:
            assert fetcher.metadata("x", 100_000) == BODY


def test_files_that_are_no_certificates_are_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for own in (
        NetSettings(cacert=tmp_path / "no.pem"),
        NetSettings(cacert=tmp_path / "missing.pem"),
        NetSettings(cert=tmp_path / "no.pem", key=tmp_path / "no.pem"),
    ):
        with pytest.raises(ConfigError), Fetcher("https://127.0.0.1/", own):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_can_not_be_written(web: WebServer, tmp_path: Path) -> None:
    web.script["/x"] = [Answer(BODY)]
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(SlotUnusable):
        fetch(web, out, blob())


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://h/a", "https://h/a/"),
        ("https://h", "https://h/"),
        ("https://h:8443/a/?q=1#f", "https://h:8443/a/"),
    ],
)
def test_a_base_url_ends_with_a_slash_and_has_no_query(given: str, base: str) -> None:
    assert base_url(given) == base


@pytest.mark.parametrize(
    "given", ["ftp://h/", "https://u:p@h/", "https:///x", "h/x", "https://h:x/"]
)
def test_other_urls_are_usage_errors(given: str) -> None:
    with pytest.raises(UsageProblem):
        base_url(given)


def test_paths_are_percent_encoded_once() -> None:
    assert (
        plain_location("rootfs", "/a b/%41?#;&+'~/ü")
        == "rootfs/a%20b/%2541%3F%23%3B%26%2B%27~/%C3%BC"
    )
    digest = Digest(bytes(32))
    assert compressed_location("rootfs.zst", digest) == f"rootfs.zst/{'00' * 32}.zst"


def test_the_rate_is_exact_over_time() -> None:
    bucket, now, total = Bucket(100_000, 0.0), 0.0, 0
    while now < 20:
        total += 16_384
        now += 0.001 + bucket.take(16_384, now)
    assert total / now == pytest.approx(100_000, rel=0.05)


def test_a_crew_doubles_until_its_own_work_takes_most_of_a_processor() -> None:
    assert [crew_size(2, 32, busy=0.1), crew_size(16, 24, busy=0.1)] == [4, 24]
    assert crew_size(8, 32, busy=0.7) == 8


def test_threads_that_copy_meanwhile_leave_a_crew_its_many_connections() -> None:
    met, done = threading.Barrier(32), threading.Event()
    data = bytes(1024 * 1024)

    def copy() -> None:
        while not done.is_set():
            hashlib.sha256(data).digest()

    def wait_for_a_far_server(number: int) -> None:
        met.wait(timeout=30)  # nobody goes on until all are there

    copiers = [threading.Thread(target=copy) for _ in range(4)]
    for copier in copiers:
        copier.start()
    try:
        assert len(list(work_through(range(32), wait_for_a_far_server, 32, Halt()))) == 32
    finally:
        done.set()
        for copier in copiers:
            copier.join()


def test_a_crew_s_clock_counts_what_its_own_threads_take_and_nothing_else() -> None:
    clock = CrewClock()

    def work(*, joined: bool) -> None:
        if joined:
            clock.join()
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    work(joined=False)
    assert clock.seconds() == 0
    with ThreadPoolExecutor() as pool:  # its thread lives on while the clock is read
        pool.submit(work, joined=True).result()
        assert 0.2 <= clock.seconds() < 0.4


def test_names_of_metadata_are_quoted_in_the_request(web: WebServer) -> None:
    web.script["/a%20b%23%3F%3B%C3%A4"] = [Answer(BODY)]
    with Fetcher(web.url, settings(web)) as fetcher:
        assert fetcher.metadata("a b#?;ä", 100_000) == BODY


@pytest.mark.parametrize(
    ("location", "asked"),
    [("", "/"), ("?x=1", "/?x=1"), ("/a b|c", "/a%20b%7Cc"), ("/\u00e4", "/%C3%A4")],
)
def test_a_redirect_asks_for_what_a_browser_would(
    web: WebServer, location: str, asked: str
) -> None:
    there = f"{web.url.rstrip('/')}{location}"
    sent = there.encode().decode("latin-1")  # how the server library writes header bytes
    web.script["/x"] = [Answer(status=302, headers={"Location": sent})]
    web.script[asked] = [Answer(BODY)]
    with Fetcher(web.url, settings(web)) as fetcher:
        assert fetcher.metadata("x", 100_000) == BODY


def test_a_proxy_is_asked_for_whole_urls_whatever_is_in_them(tmp_path: Path) -> None:
    with WebServer(tmp_path, tls=False) as proxy:
        for base in ("http://images.example/a;b/", "http://[2001:db8::1]:8080/"):
            proxy.script[f"{base}x"] = [Answer(BODY)]
            own = NetSettings(proxy=proxy.url, first_backoff_s=0.01)
            with Fetcher(base, own) as fetcher:
                assert fetcher.metadata("x", 100_000) == BODY
    assert [seen.headers["host"] for seen in proxy.seen] == [
        "images.example", "[2001:db8::1]:8080",
    ]  # fmt: skip


def test_a_second_content_encoding_counts_as_well(web: WebServer) -> None:
    web.script["/x"] = [
        Answer(BODY, headers={"Content-Encoding": "identity", "content-encoding": "gzip"})
    ]
    fails(web, ImageDamaged, "content-encoding")


def test_what_the_caller_attends_to_ends_downloads_from_a_silent_server(tmp_path: Path) -> None:
    def attend() -> None:
        raise NoSpace("the disk is full", hint="empty it")

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with Fetcher(base, NetSettings(insecure_http=True)) as fetcher, pytest.raises(NoSpace):
            list(fetcher.blobs([blob()], tmp_path, lambda count: None, attend))


def test_interim_answers_do_not_keep_a_request_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_link, "_ANSWER_S", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        threading.Thread(target=_processing, args=(server,), daemon=True).start()
        base = f"http://127.0.0.1:{server.getsockname()[1]}/"
        own = NetSettings(insecure_http=True, first_backoff_s=0.01, no_progress_timeout_s=0.5)
        with Fetcher(base, own) as fetcher, pytest.raises(Unreachable):
            fetcher.metadata("x", 100_000)


def _processing(server: socket.socket) -> None:
    """Tells each client again and again that it is at work, until that goes away."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, suppress(OSError):
            while True:
                client.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
                threading.Event().wait(0.01)


def test_files_with_large_windows_are_not_left_waiting_on_open_connections(
    web: WebServer, tmp_path: Path
) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, strategy=1)
    wanted = []
    for number in range(12):
        data = os.urandom(100) + b"%d" % number * 9_000_000
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        web.script[f"/{number}"] = [Answer(packer.compress(data) + packer.flush())]
        wanted.append(blob(data, str(number), compressed=True))
    got = fetch(web, tmp_path / "out", *wanted)
    assert {one.location for one in got} == {one.location for one in wanted}
    asked = [seen.target for seen in web.seen]
    assert max(asked.count(target) for target in asked) == 2, "asked again with room for it"
