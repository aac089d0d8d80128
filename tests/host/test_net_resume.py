"""A broken download goes on where it was, in the same run and in the next one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random
from typing import Callable, Iterator, List

import pytest
import zstandard

from ota_cli.entries import Digest
from ota_cli.errors import ImageDamaged, Unreachable
from ota_cli.host.net import Blob, Fetcher, NetSettings
from ota_cli.host.net_staging import WORTH_KEEPING_BYTES
from tests.support.blocks import mounted, needs_root
from tests.support.webserver import Answer, WebServer

#: Lines that compress to a third or so: a body of 240 KB.
CONTENT = b"".join(
    b"%016x\n" % random.getrandbits(64) for random in [Random(1)] for _ in range(30_000)
)
BODIES = {True: zstandard.compress(CONTENT), False: CONTENT}
CUT = 100_000

kinds = pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "plain"])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as server:
        yield server


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def blob(compressed: bool, content: bytes = CONTENT) -> Blob:
    return Blob(Digest(hashlib.sha256(content).digest()), len(content), "x", compressed)


def fetch(web: WebServer, out: Path, *blobs: Blob, proxy: bool = False) -> List[int]:
    """Fetches all of `blobs`; sizes of what came from the wire."""
    came: List[int] = []
    own = NetSettings(
        cacert=None if proxy else web.cacert, first_backoff_s=0.01, no_progress_timeout_s=20,
        proxy=web.url if proxy else None,
    )  # fmt: skip
    base = "https://images.example/" if proxy else web.url
    with Fetcher(base, own) as fetcher:
        list(fetcher.blobs(blobs, out, came.append))
    return came


def break_off(web: WebServer, out: Path, wanted: Blob) -> None:
    """A run that received the first part of `wanted` and then ended."""
    web.script["/x"] = [
        Answer(BODIES[wanted.compressed], cut=CUT), Answer(status=404),
    ]  # fmt: skip
    with pytest.raises(ImageDamaged):
        fetch(web, out, wanted)
    web.seen.clear()


def kept(out: Path, wanted: Blob) -> Path:
    """Where a broken run leaves the body of `wanted`."""
    return out / f"{wanted.digest.hex()}{'.body' if wanted.compressed else ''}.part"


def ranges(web: WebServer) -> List[str]:
    return [seen.headers.get("range", "") for seen in web.seen]


def is_there(out: Path, wanted: Blob) -> bool:
    """Whether `wanted` is all there is."""
    only = [out / wanted.digest.hex()]
    return list(out.iterdir()) == only and only[0].read_bytes() == CONTENT


@kinds
def test_a_broken_connection_costs_no_byte_twice(
    web: WebServer, out: Path, compressed: bool
) -> None:
    body = BODIES[compressed]
    web.script["/x"] = [Answer(body, cut=CUT), Answer(body, ranges=True)]
    assert sum(fetch(web, out, blob(compressed))) == len(body)
    assert ranges(web) == ["", f"bytes={CUT}-"]
    assert is_there(out, blob(compressed))


def test_little_is_not_worth_another_kind_of_request(web: WebServer, out: Path) -> None:
    little = WORTH_KEEPING_BYTES - 1
    web.script["/x"] = [Answer(CONTENT, cut=little), Answer(CONTENT, ranges=True)]
    fetch(web, out, blob(False))
    assert ranges(web) == ["", ""]


def test_answers_that_may_pass_lose_nothing(web: WebServer, out: Path) -> None:
    web.script["/x"] = [
        Answer(CONTENT, cut=CUT), *[Answer(status=503)] * 6, Answer(CONTENT, ranges=True),
    ]  # fmt: skip
    assert sum(fetch(web, out, blob(False))) == len(CONTENT)


@kinds
def test_a_server_without_ranges_sends_it_anew(web: WebServer, out: Path, compressed: bool) -> None:
    web.script["/x"] = [Answer(BODIES[compressed], cut=CUT), Answer(BODIES[compressed])]
    fetch(web, out, blob(compressed))
    assert len(web.seen) == 2
    assert is_there(out, blob(compressed))


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(CONTENT[CUT:], 206),
        Answer(CONTENT[CUT:], 206, {"Content-Range": "bytes 0-9/10"}),
        Answer(CONTENT[CUT:], 206, {"Content-Range": f"bytes {CUT - 1}-{len(CONTENT) - 2}/*"}),
        Answer(CONTENT[CUT:], 206, {"Content-Range": f"bytes {CUT}-{len(CONTENT) - 1}/{2**40}"}),
        Answer(CONTENT[CUT:], 206, {"Content-Range": f"bytes {CUT}-{len(CONTENT)}/*"}),
        Answer(CONTENT[CUT:], 206, {"Content-Range": f"bytes {CUT}-{CUT}/{len(CONTENT)}"}),
        Answer(status=416),
    ],
    ids=["none", "other", "early", "huge", "longer", "less", "416"],
)
def test_an_answer_with_another_range_is_not_used_and_ranges_are_left_alone(
    web: WebServer, out: Path, wrong: Answer
) -> None:
    web.script["/x"] = [
        Answer(CONTENT, cut=CUT), wrong, Answer(CONTENT, cut=CUT), Answer(CONTENT),
    ]  # fmt: skip
    fetch(web, out, blob(False))
    assert ranges(web) == ["", f"bytes={CUT}-", "", ""]
    assert is_there(out, blob(False))


@kinds
def test_a_file_that_changed_between_two_parts_is_fetched_whole(
    web: WebServer, out: Path, compressed: bool
) -> None:
    other = bytes(len(BODIES[compressed]))
    web.script["/x"] = [Answer(other, cut=CUT), Answer(BODIES[compressed], ranges=True)]
    if compressed:
        other = zstandard.compress(CONTENT[::-1])
        web.script["/x"][0] = Answer(other, cut=CUT)
    fetch(web, out, blob(compressed))
    assert ranges(web) == ["", f"bytes={CUT}-", ""]
    assert is_there(out, blob(compressed))


def test_content_that_stays_wrong_is_wrong_in_the_end(web: WebServer, out: Path) -> None:
    other = CONTENT[:-1] + b"!"
    web.script["/x"] = [Answer(other, cut=CUT), Answer(other, ranges=True)]
    with pytest.raises(ImageDamaged, match="sha256"):
        fetch(web, out, blob(False))
    assert 3 <= len(web.seen) <= 6
    assert list(out.iterdir()) == []


def test_the_rest_is_asked_for_only_of_the_same_version(web: WebServer, out: Path) -> None:
    old, new = {"ETag": '"old"'}, {"ETag": '"new"'}
    web.script["/x"] = [
        Answer(CONTENT[::-1], headers=old, cut=CUT), Answer(CONTENT, headers=new, ranges=True),
    ]  # fmt: skip
    fetch(web, out, blob(False))
    assert [seen.headers.get("if-range") for seen in web.seen] == [None, '"old"']
    assert is_there(out, blob(False))


def test_a_weak_version_is_no_version(web: WebServer, out: Path) -> None:
    weak = {"ETag": 'W/"old"'}
    web.script["/x"] = [
        Answer(CONTENT, headers=weak, cut=CUT), Answer(CONTENT, headers=weak, ranges=True),
    ]  # fmt: skip
    assert sum(fetch(web, out, blob(False))) == len(CONTENT)
    assert [seen.headers.get("if-range") for seen in web.seen] == [None, None]


def test_a_body_that_always_ends_at_the_same_byte_ends_the_tries(web: WebServer, out: Path) -> None:
    class Short(Answer):
        def to(self, asked: object) -> Answer:
            return Answer(CONTENT[CUT:], 206, headers, cut=0) if web.seen[1:] else self

    headers = {"Content-Range": f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    web.script["/x"] = [Short(CONTENT, cut=CUT)]
    with pytest.raises(Unreachable, match="too early"):
        fetch(web, out, blob(False))
    assert kept(out, blob(False)).stat().st_size == CUT, "the next run may be luckier"


def test_through_a_proxy_the_rest_is_asked_for_as_well(tmp_path: Path, out: Path) -> None:
    with WebServer(tmp_path, tls=False) as proxy:
        proxy.script["http://images.example/x"] = [
            Answer(CONTENT, cut=CUT), Answer(CONTENT, ranges=True),
        ]  # fmt: skip
        came = fetch(proxy, out, blob(False), proxy=True)
    assert sum(came) == len(CONTENT)
    asked = {seen.headers["ota-file-cache-control"] for seen in proxy.seen}
    assert asked == {f"file_sha256={blob(False).digest.hex()}"}
    assert ranges(proxy) == ["", f"bytes={CUT}-"]


@kinds
def test_the_next_run_goes_on_where_the_last_one_ended(
    web: WebServer, out: Path, compressed: bool
) -> None:
    break_off(web, out, blob(compressed))
    assert list(out.iterdir()) == [kept(out, blob(compressed))]
    body = BODIES[compressed]
    web.script["/x"] = [Answer(body, ranges=True)]
    assert sum(fetch(web, out, blob(compressed))) == len(body) - CUT
    assert is_there(out, blob(compressed))


@kinds
def test_a_whole_body_that_was_left_is_not_asked_for(
    web: WebServer, out: Path, compressed: bool
) -> None:
    kept(out, blob(compressed)).write_bytes(BODIES[compressed])
    assert fetch(web, out, blob(compressed)) == []
    assert web.seen == []
    assert is_there(out, blob(compressed))


@kinds
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: bytes(len(body)),
        lambda body: body[:70_000] + bytes(len(body) - 70_000),
        lambda body: body + body,
        lambda body: os.urandom(300_000),
    ],
    ids=["zeros", "torn", "too long", "garbage"],
)
def test_what_was_left_wrong_is_dropped_and_the_file_fetched_whole(
    web: WebServer, out: Path, compressed: bool, damage: Callable[[bytes], bytes]
) -> None:
    break_off(web, out, blob(compressed))
    place = kept(out, blob(compressed))
    place.write_bytes(damage(place.read_bytes()))
    web.script["/x"] = [Answer(BODIES[compressed], ranges=True)]
    fetch(web, out, blob(compressed))
    assert ranges(web)[-1] == ""
    assert is_there(out, blob(compressed))


def _symlink(place: Path, precious: Path) -> None:
    place.symlink_to(precious)


def _hard_link(place: Path, precious: Path) -> None:
    os.link(precious, place)


def _fifo(place: Path, precious: Path) -> None:
    os.mkfifo(place)


@kinds
@pytest.mark.parametrize("plant", [_symlink, _hard_link, _fifo])
def test_what_somebody_planted_is_neither_used_nor_written(
    web: WebServer, tmp_path: Path, out: Path, compressed: bool, plant: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(BODIES[compressed][:CUT])
    plant(kept(out, blob(compressed)), precious)
    plant(out / f"{blob(compressed).digest.hex()}.part", precious) if compressed else None
    web.script["/x"] = [Answer(BODIES[compressed], ranges=True)]
    fetch(web, out, blob(compressed))
    assert ranges(web) == [""]
    assert is_there(out, blob(compressed))
    assert precious.read_bytes() == BODIES[compressed][:CUT]


@kinds
def test_what_is_no_longer_wanted_goes(web: WebServer, out: Path, compressed: bool) -> None:
    break_off(web, out, blob(compressed))
    (out / "something.part").write_bytes(b"of somebody else")
    (out / ("ab" * 32)).write_bytes(b"verified by somebody")
    web.script["/x"] = [Answer(b"other")]
    fetch(web, out, blob(False, b"other"))
    names = {path.name for path in out.iterdir()}
    assert names == {"something.part", "ab" * 32, hashlib.sha256(b"other").hexdigest()}


def test_a_body_in_need_of_a_large_window_is_gone_on_with(web: WebServer, out: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, strategy=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = os.urandom(200_000) + bytes(9_000_000)
    body = packer.compress(content) + packer.flush()
    wanted = blob(True, content)
    kept(out, wanted).write_bytes(body[:CUT])
    web.script["/x"] = [Answer(body, ranges=True)]
    assert sum(fetch(web, out, wanted)) == len(body) - CUT
    assert (out / wanted.digest.hex()).read_bytes() == content


@needs_root
def test_no_body_is_kept_where_others_may_need_the_room(web: WebServer, out: Path) -> None:
    wanted = blob(True)
    with mounted("small", out, "size=2M", kind="tmpfs"):
        break_off(web, out, wanted)
        assert kept(out, wanted).exists()
        (out / "others").write_bytes(bytes(1_400_000))
        web.script["/x"] = [Answer(BODIES[True], ranges=True)]
        assert sum(fetch(web, out, wanted)) == len(BODIES[True])
        assert (out / wanted.digest.hex()).read_bytes() == CONTENT
        assert not kept(out, wanted).exists()
