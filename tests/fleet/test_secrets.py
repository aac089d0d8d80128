"""Cookies of a vehicle: the proxies tell them to the server, and nobody learns them otherwise."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.conftest import Images
from tests.fleet.conftest import vehicle_with
from tests.support.network import needs_namespaces
from tests.support.nginx import needs_nginx
from tests.support.processes import shown_by_processes
from tests.support.sshd import needs_sshd

pytestmark = [needs_namespaces, needs_nginx, needs_sshd]

SECRET = "s3cr3t-of-this-vehicle"


def test_a_cookie_is_nowhere_to_be_found_after_a_whole_update(
    tmp_path: Path, first_directory_device: Path, images: Images
) -> None:
    """Also when the proxy is killed in the middle, and gets the cookies anew."""
    base, cookies, log = tmp_path / "vehicle", tmp_path / "cookies", tmp_path / "vehicle/log"
    base.mkdir()
    cookies.write_text(json.dumps({"session": SECRET}))
    with vehicle_with(
        base, first_directory_device, images, {"main": ("p1",)}, cookie=f"session={SECRET}"
    ) as vehicle:
        main = vehicle.fleet["main"]
        assert main.ota("update", "--version", "v2").code == 19, "the server wants the cookie"
        main.limit_rate("100K")
        words = ("--version", "v2", "-v", "--cookie-file", cookies, "--log-file", log)
        with shown_by_processes() as shown, main.running("update", *words) as update:
            update.until("p1", event="phase", phase="download")
            [proxy] = main.proxies()
            os.kill(proxy, signal.SIGKILL)
            update.until("", event="warning")
            assert update.document()["exit_code"] == 0, update.said
        vehicle.bring_on_trial()
        assert main.ota("commit").code == 0
        assert "committed" in (main.root / "boot/ota/history.jsonl").read_text()
    assert "ends with exit code 0" in log.read_text()
    for program in ("proxy", "ssh-gate", "update"):
        assert any(f"\0{program}\0" in each for each in shown), f"{program} was seen"
    assert not [each for each in shown if SECRET in each]
    assert SECRET.encode() not in b"".join(update.said)
    files = [path for path in base.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
