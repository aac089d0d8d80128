"""The real proxy between real clients and a real nginx."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Iterator, List

import pytest

from ota_cli.events import silent
from ota_cli.fleet.ownproxy import OwnProxy
from ota_cli.host.net import NetSettings
from ota_cli.host.net_headers import MAX_COOKIES_BYTES
from ota_cli.probe import probe
from ota_cli.proxy.cache import open_cache
from tests.conftest import Images, copy_tree
from tests.support.bench import Ran, make_device, ota
from tests.support.nginx import Nginx, needs_nginx
from tests.support.proxy import Got, RunningProxy
from tests.support.webserver import Answer, WebServer

DIGEST = "ab" * 32
NAMED = {"Ota-File-Cache-Control": f"file_sha256={DIGEST}"}
#: More than sockets and threads keep for themselves.
LARGE = b"0123456789abcdef" * (1 << 20)


@pytest.fixture(scope="module")
def nginx(images: Images) -> Iterator[Nginx]:
    with Nginx(images.directory) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A device that other ECUs download through."""
    return make_device(tmp_path / "gateway", [])


@pytest.fixture
def proxy(gateway: Path, web: WebServer) -> Iterator[RunningProxy]:
    with RunningProxy(gateway, web.url, "--cacert", web.cacert) as running:
        yield running


def cached(gateway: Path) -> List[str]:
    return sorted(path.name for path in (gateway / "var/cache/ota").iterdir())


def update(device: Path, url: str, proxy: RunningProxy) -> Ran:
    return ota("update", "--root", device, "--version", f"{url}v2/", "--proxy", proxy.url, "--json")


# --- whole updates -------------------------------------------------------------------------------


@needs_nginx
def test_two_devices_update_and_each_object_is_asked_for_once(
    images: Images, nginx: Nginx, device: Path, gateway: Path, tmp_path: Path
) -> None:
    other = copy_tree(device, tmp_path / "other")
    before = len(nginx.paths())
    ended: List[Ran] = []
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        threads = [
            threading.Thread(target=lambda at=at: ended.append(update(at, nginx.url, proxy)))
            for at in (device, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = proxy.end()
    assert [done.code for done in ended] == [0, 0], ended
    asked = Counter(path for path in nginx.paths()[before:] if not is_metadata(path))
    assert asked and set(asked.values()) == {1}
    downloaded = sum(done.result["bytes"]["downloaded"] for done in ended)
    assert report["hits"] >= len(asked)
    assert report["bytes"]["saved"] == pytest.approx(downloaded / 2, rel=0.01)
    assert not any(name.startswith("url-") for name in cached(gateway))


def is_metadata(path: str) -> bool:
    return path.rpartition("/")[2].endswith((".jwt", ".txt", ".crt", ".pem", ".txt.zst"))


@needs_nginx
def test_a_cache_serves_the_next_run_after_the_proxy_was_killed(
    nginx: Nginx, device: Path, gateway: Path, tmp_path: Path
) -> None:
    other = copy_tree(device, tmp_path / "other")
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        assert update(device, nginx.url, proxy).code == 0
        proxy.kill()
    before = len(nginx.paths())
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        assert update(other, nginx.url, proxy).code == 0
    assert all(is_metadata(path) for path in nginx.paths()[before:])


@needs_nginx
def test_wrong_objects_in_the_cache_cost_a_second_request_only(
    nginx: Nginx, device: Path, gateway: Path, tmp_path: Path
) -> None:
    other = copy_tree(device, tmp_path / "other")
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        assert update(device, nginx.url, proxy).code == 0
    names = cached(gateway)
    with open_cache(gateway / "var/cache/ota") as cache:
        for name in names:
            draft = cache.begin(name)
            assert draft is not None
            draft.add(b"not what it should be")
            draft.finish("")
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        done = update(other, nginx.url, proxy)
    assert done.code == 0, done.err
    assert cached(gateway) == names


@needs_nginx
def test_without_a_cache_all_is_passed_on(nginx: Nginx, device: Path, gateway: Path) -> None:
    (gateway / "boot/ota/proxy_info.yml").write_text(
        "gateway: true\nenable_local_ota_proxy_cache: false\n"
    )
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as proxy:
        assert update(device, nginx.url, proxy).code == 0
    assert not (gateway / "var/cache/ota").exists()


@needs_nginx
def test_a_proxy_asks_the_one_above_it(
    images: Images, nginx: Nginx, device: Path, gateway: Path, tmp_path: Path
) -> None:
    lower = make_device(tmp_path / "lower", [])
    with RunningProxy(gateway, nginx.url, "--cacert", nginx.cacert) as upper:
        (lower / "boot/ota/proxy_info.yml").write_text(f"upper_ota_proxy: {upper.url}\n")
        with RunningProxy(lower, nginx.url) as proxy:
            assert update(device, nginx.url, proxy).code == 0
    assert cached(gateway) == cached(lower) != []


# --- single objects ------------------------------------------------------------------------------


def test_an_answer_says_where_it_comes_from(web: WebServer, proxy: RunningProxy) -> None:
    web.script["/x"] = [Answer(b"content", headers={"ETag": '"v1"'})]
    first, second = (proxy.get(f"{web.url}x", NAMED) for _ in range(2))
    assert (first.status, first.body, first.headers["x-cache"]) == (200, b"content", "miss")
    assert (second.status, second.body, second.headers["x-cache"]) == (200, b"content", "hit")
    assert second.headers["etag"] == '"v1"'
    assert (
        proxy.get(f"{web.url}x", {"Ota-File-Cache-Control": "no_cache"}).headers["x-cache"]
        == "none"
    )
    assert len(web.seen) == 2


def test_all_who_ask_at_once_share_one_request(web: WebServer, proxy: RunningProxy) -> None:
    web.script["/x"] = [Answer(LARGE)]
    got: List[Got] = []
    threads = [
        threading.Thread(target=lambda: got.append(proxy.get(f"{web.url}x", NAMED)))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.body == LARGE for each in got] == [True] * 12
    assert len(web.seen) == 1
    assert Counter(each.headers["x-cache"] for each in got) == {"miss": 1, "hit": 11}


def test_a_body_that_breaks_off_is_an_error_and_is_not_kept(
    web: WebServer, proxy: RunningProxy, gateway: Path
) -> None:
    web.script["/x"] = [Answer(LARGE, cut=len(LARGE) // 2), Answer(LARGE)]
    broken = proxy.get(f"{web.url}x", NAMED)
    assert broken.cut
    assert LARGE.startswith(broken.body)
    assert cached(gateway) == []
    assert proxy.get(f"{web.url}x", NAMED).body == LARGE


def test_the_rest_of_an_object_is_served_from_the_cache(
    web: WebServer, proxy: RunningProxy
) -> None:
    web.script["/x"] = [Answer(LARGE, headers={"ETag": '"v1"'})]
    proxy.get(f"{web.url}x", NAMED)
    start = len(LARGE) - 1000
    rest = proxy.get(f"{web.url}x", {**NAMED, "Range": f"bytes={start}-", "If-Range": '"v1"'})
    assert (rest.status, rest.body) == (206, LARGE[start:])
    assert rest.headers["content-range"] == f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
    other = proxy.get(f"{web.url}x", {**NAMED, "Range": f"bytes={start}-", "If-Range": '"v2"'})
    assert (other.status, other.body) == (200, LARGE)
    assert proxy.get(f"{web.url}x", {**NAMED, "Range": f"bytes={len(LARGE)}-"}).status == 416
    assert len(web.seen) == 1


def test_the_rest_of_what_is_not_cached_is_asked_of_the_server(
    web: WebServer, proxy: RunningProxy
) -> None:
    web.script["/x"] = [Answer(b"content", ranges=True)]
    asked = {"Ota-File-Cache-Control": "no_cache", "Range": "bytes=3-"}
    got = proxy.get(f"{web.url}x", asked)
    assert (got.status, got.body, got.headers["content-range"]) == (206, b"tent", "bytes 3-6/7")


def test_an_odd_header_of_the_server_is_left_out(web: WebServer, proxy: RunningProxy) -> None:
    web.script["/x"] = [Answer(b"content", headers={"ETag": '"\xe9\xff"'})]
    got = proxy.get(f"{web.url}x", {"Ota-File-Cache-Control": "no_cache"})
    assert (got.status, got.body) == (200, b"content")
    assert "etag" not in got.headers


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_refusals_of_the_server_are_passed_on_and_not_kept(
    status: int, web: WebServer, proxy: RunningProxy, gateway: Path
) -> None:
    web.script["/x"] = [Answer(status=status, headers={"Retry-After": "7"})]
    got = proxy.get(f"{web.url}x", NAMED)
    assert (got.status, got.headers["retry-after"]) == (status, "7")
    assert cached(gateway) == []


def test_a_server_that_is_gone_is_a_bad_gateway(gateway: Path, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        url, cacert = web.url, web.cacert
    with RunningProxy(gateway, url, "--cacert", cacert) as proxy:
        got = proxy.get(f"{url}x", NAMED)
    assert got.status == 502
    assert b"can not be reached" in got.body


def test_redirects_are_followed_on_the_host_only(web: WebServer, proxy: RunningProxy) -> None:
    web.script["/x"] = [Answer(status=302, headers={"Location": "/y"})]
    web.script["/y"] = [Answer(b"content")]
    web.script["/z"] = [Answer(status=302, headers={"Location": "https://other.example/"})]
    assert proxy.get(f"{web.url}x", NAMED).body == b"content"
    away = proxy.get(f"{web.url}z")
    assert (away.status, b"redirected" in away.body) == (502, True)


def test_cookies_are_added_on_the_way_and_never_come_back(gateway: Path, web: WebServer) -> None:
    web.script["/x"] = [Answer(b"content", headers={"Set-Cookie": "a=b"})]
    with RunningProxy(gateway, web.url, "--cacert", web.cacert, "--cookie", "s=cret") as proxy:
        got = proxy.get(f"{web.url}x", NAMED)
    assert web.seen[0].headers["cookie"] == "s=cret"
    assert "set-cookie" not in got.headers


# --- who may ask, and for what -------------------------------------------------------------------


def test_only_the_servers_of_the_update_are_asked(web: WebServer, proxy: RunningProxy) -> None:
    assert proxy.get("http://127.0.0.1:1/x", NAMED).status == 403
    assert proxy.get("/x").status == 400
    assert proxy.get(f"{web.url}x", method="POST").status == 405
    assert web.seen == []


def test_only_known_ecus_are_served(gateway: Path, web: WebServer, proxy: RunningProxy) -> None:
    web.script["/x"] = [Answer(b"content")]
    assert proxy.get(f"{web.url}x", source="127.0.0.9").status == 403
    info = gateway / "boot/ota/ecu_info.yml"
    info.write_text(f"{info.read_text()}ip_addr: 127.0.0.1\nsecondaries:\n"
                    "  - {ecu_id: sub, ip_addr: 127.0.0.9}\n")  # fmt: skip
    with RunningProxy(gateway, web.url, "--cacert", web.cacert) as knowing:
        assert knowing.get(f"{web.url}x", source="127.0.0.9").body == b"content"
        assert knowing.get(f"{web.url}x", source="127.0.0.8").status == 403


def test_secondaries_could_not_reach_a_proxy_on_localhost(gateway: Path) -> None:
    info = gateway / "boot/ota/ecu_info.yml"
    info.write_text(f"{info.read_text()}secondaries: [{{ecu_id: sub, ip_addr: 10.0.0.2}}]\n")
    done = ota("proxy", "--root", gateway, "--upstream", "https://images.example", "--json")
    assert (done.code, done.document["error"]["slug"]) == (78, "proxy-on-localhost")


def test_an_address_that_is_taken_is_told(
    gateway: Path, web: WebServer, proxy: RunningProxy
) -> None:
    done = ota("proxy", "--root", gateway, "--upstream", web.url, "--port", proxy.port)
    assert done.code == 78
    assert "another proxy may run already" in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no server is known"),
        (("--upstream", "http://images.example"), "plain http"),
        (("--upstream", "images.example"), "not a usable URL"),
    ],
)
def test_a_server_must_be_named(words: List[str], told: str, gateway: Path) -> None:
    done = ota("proxy", "--root", gateway, *words)
    assert done.code == 2
    assert told in done.err


def test_one_that_is_no_gateway_asks_the_next_proxy_and_no_server_in_plain_http(
    gateway: Path,
) -> None:
    (gateway / "boot/ota/proxy_info.yml").write_text("enable_local_ota_proxy: true\n")
    url = "https://images.example"
    done = ota("proxy", "--root", gateway, "--upstream", url, "--cookie", "s=cret", "--json")
    error = done.document["error"]
    assert (done.code, error["slug"]) == (78, "no-gateway")
    assert "images.example" in error["message"]
    assert "gateway: true" in error["hint"]
    for words in (("--insecure-http",), ("--proxy", "http://10.0.0.1:8082")):
        with RunningProxy(gateway, url, *words):
            pass  # it listens


def test_it_ends_with_a_report_also_in_the_middle_of_a_transfer(
    web: WebServer, proxy: RunningProxy
) -> None:
    web.script["/x"] = [Answer(b"content")]
    proxy.get(f"{web.url}x", NAMED)
    proxy.get(f"{web.url}x", NAMED)
    report = proxy.end()
    assert report == {
        "requests": 2, "hits": 1, "bytes": {"sent": 14, "fetched": 7, "saved": 7},
    }  # fmt: skip


def test_no_room_in_the_cache_is_no_reason_to_fail(
    web: WebServer, gateway: Path, tmp_path: Path
) -> None:
    (gateway / "var").mkdir()
    (gateway / "var/cache").write_text("in the way")
    web.script["/x"] = [Answer(b"content")]
    with RunningProxy(gateway, web.url, "--cacert", web.cacert) as proxy:
        got = proxy.get(f"{web.url}x", NAMED)
        assert (got.body, got.headers["x-cache"]) == (b"content", "none")


def test_two_proxies_do_not_share_a_cache(
    web: WebServer, gateway: Path, proxy: RunningProxy
) -> None:
    web.script["/x"] = [Answer(b"content")]
    with RunningProxy(gateway, web.url, "--cacert", web.cacert) as second:
        assert second.get(f"{web.url}x", NAMED).headers["x-cache"] == "none"
    assert proxy.get(f"{web.url}x", NAMED).headers["x-cache"] == "miss"
    assert proxy.get(f"{web.url}x", NAMED).headers["x-cache"] == "hit"
    assert len(web.seen) == 2


def test_the_proxy_of_an_update_gets_all_cookies_that_can_be_sent(
    gateway: Path, web: WebServer
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"local_ota_proxy_listen_addr: 127.0.0.1\nlocal_ota_proxy_listen_port: {port}\n"
    (gateway / "boot/ota/proxy_info.yml").write_text(f"gateway: true\n{listen}")
    cookies = {"s": '"' * (MAX_COOKIES_BYTES - len("s="))}
    net = NetSettings(cacert=Path(web.cacert), cookies=cookies)
    with OwnProxy(probe(gateway), [web.url], net, silent) as proxy:
        assert proxy.url == f"http://127.0.0.1:{port}"
