"""What a client asks of the proxy, and whether it may."""

from __future__ import annotations

import pytest

from ota_cli.proxy.wanted import Refused, understand

SERVERS = {"images.example": "https", "bench:8443": "https", "near": "http"}
DIGEST = "ab" * 32


def key_of(said: str, uri: str = "http://images.example/v2/data/x") -> object:
    return understand("GET", uri, {"ota-file-cache-control": said}, SERVERS).key


def test_servers_are_asked_over_tls_at_the_port_they_were_named_with() -> None:
    plain = understand("GET", "http://images.example/v2/a%20b?x=%31", {}, SERVERS).target
    assert (plain.scheme, plain.host, plain.port) == ("https", "images.example", 443)
    assert plain.path == "/v2/a%20b?x=%31"
    other = understand("GET", "http://bench:8443/v2/x", {}, SERVERS).target
    assert (other.scheme, other.port, other.authority) == ("https", 8443, "bench:8443")
    assert understand("GET", "http://near/v2/x", {}, SERVERS).target.scheme == "http"


def test_an_object_is_known_by_its_digest_whatever_its_place() -> None:
    said = f"file_sha256={DIGEST}"
    assert key_of(said) == DIGEST
    assert key_of(f" {said} , file_compression_alg=zst,unknown") == f"{DIGEST}.zst"
    assert key_of(said, "http://bench:8443/other") == DIGEST


def test_an_object_without_a_digest_is_known_by_its_url() -> None:
    here, there = key_of(""), key_of("", "http://images.example/v2/data/y")
    assert here == key_of("") != there
    assert str(here).startswith("url-")


@pytest.mark.parametrize(
    "said", ["no_cache", f"no_cache,file_sha256={DIGEST}", "file_sha256=../../etc/passwd",
             f"file_sha256={DIGEST},file_compression_alg=../x"],
)  # fmt: skip
def test_metadata_and_what_has_no_possible_name_is_not_cached(said: str) -> None:
    assert key_of(said) is None


@pytest.mark.parametrize(
    ("method", "uri", "status"),
    [
        ("POST", "http://images.example/x", 405),
        ("CONNECT", "images.example:443", 405),
        ("GET", "/v2/x", 400),
        ("GET", "https://images.example/x", 400),
        ("GET", "ftp://images.example/x", 400),
        ("GET", "http://user@images.example/x", 400),
        ("GET", "http://", 400),
        ("GET", "http://other.example/x", 403),
        ("GET", "http://images.example:22/x", 403),
        ("GET", "http://169.254.169.254/latest", 403),
    ],
)
def test_all_else_is_refused(method: str, uri: str, status: int) -> None:
    with pytest.raises(Refused) as caught:
        understand(method, uri, {}, SERVERS)
    assert caught.value.status == status


def test_the_rest_is_asked_for_only_where_it_is_clear_of_what() -> None:
    def rest(**headers: str) -> object:
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        wanted = understand("GET", "http://images.example/x", found, SERVERS)
        return wanted.offset, wanted.if_range

    assert rest(range="bytes=100-") == (100, "")
    assert rest(range="bytes=100-", if_range='"v1"') == (100, '"v1"')
    for odd in ("bytes=-5", "bytes=1-2", "bytes=1-,4-", "lines=1-"):
        assert rest(range=odd) == (0, "")
    assert rest(range="bytes=100-", if_range='W/"v1"') == (0, "")
    assert rest(range="bytes=100-", if_range="Tue, 01 Jan 2026 00:00:00 GMT") == (0, "")
