"""The site of nginx that ota-image(5) shows, run by nginx itself."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Dict, Iterator
from urllib.parse import urlsplit

import pytest

from ota_cli.docs.imageformat import NGINX
from tests.conftest import Images
from tests.support.bench import ota
from tests.support.nginx import Nginx, needs_nginx

pytestmark = needs_nginx

#: What an operator fills in.
_OURS = {
    "listen 443 ssl": "listen {address}:{port} ssl", "/etc/nginx/updates.pem": "{base}/cert.pem",
    "/etc/nginx/updates.key": "{base}/key.pem", "/srv/updates": "{root}",
}  # fmt: skip


@pytest.fixture
def nginx(images: Images) -> Iterator[Nginx]:
    site = "\n".join(NGINX).replace("{", "{{").replace("}", "}}")
    for shown, ours in _OURS.items():
        assert shown in site
        site = site.replace(shown, ours)
    with Nginx(images.directory, site=site) as running:
        yield running


def ask(nginx: Nginx, path: str, **headers: str) -> http.client.HTTPResponse:
    place = urlsplit(nginx.url)
    context = ssl.create_default_context(cafile=str(nginx.cacert))
    connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip", **headers})
    return connection.getresponse()


def test_metadata_is_cached_briefly_and_content_for_ever(nginx: Nginx, images: Images) -> None:
    packed = next((images.directory / "v2/rootfs.zst").iterdir()).name
    found: Dict[str, str] = {}
    for path in ("/v2/metadata.jwt", "/v2/regulars.txt", "/v2/rootfs/etc/hostname",
                 f"/v2/rootfs.zst/{packed}"):  # fmt: skip
        answer = ask(nginx, path)
        assert answer.status == 200, path
        assert answer.getheader("Content-Encoding") is None
        found[path.split("/")[2]] = answer.getheader("Cache-Control") or ""
    content = "public, max-age=31536000, immutable"
    briefly = "public, max-age=60"
    assert found == {
        "metadata.jwt": briefly, "regulars.txt": briefly, "rootfs": content, "rootfs.zst": content,
    }  # fmt: skip


def test_the_rest_of_a_file_can_be_asked_for(nginx: Nginx, images: Images) -> None:
    packed = next((images.directory / "v2/rootfs.zst").iterdir())
    answer = ask(nginx, f"/v2/rootfs.zst/{packed.name}", Range="bytes=10-")
    assert (answer.status, answer.read()) == (206, packed.read_bytes()[10:])


def test_a_device_updates_from_it(nginx: Nginx, device: Path) -> None:
    at = ("--version", f"{nginx.url}v2/", "--cacert", nginx.cacert, "--no-self-confirm")
    done = ota("update", "--root", device, *at)
    assert done.code == 0, done.err
