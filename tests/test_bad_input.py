"""What must go wrong in a documented way: exit code, hint, and nothing touched but the standby."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.image.keys import make_image_keys
from ota_cli.image.serve import DevServer
from ota_cli.probe import probe
from tests.conftest import Images, Server, write_keys
from tests.support.bench import environment, ota, ota_argv, touched
from tests.support.publisher import Attempt

LARGE = "usr/share/3"


def test_a_server_that_is_not_there(attempt: Attempt) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = ota("update", "--root", attempt.device, "--version", f"https://127.0.0.1:{port}/v2/")
    assert done.code == 69
    assert "hint: " in done.err
    assert touched(attempt.device) == attempt.before
    attempt.completes()


def test_an_image_that_is_not_there(attempt: Attempt) -> None:
    (attempt.publisher.directory / "metadata.jwt").rename(attempt.publisher.directory / "away")
    attempt.fails(12, "metadata.jwt", "404", "Nothing on this device was changed.")
    (attempt.publisher.directory / "away").rename(attempt.publisher.directory / "metadata.jwt")
    attempt.completes()


def test_a_server_certificate_nobody_vouches_for(attempt: Attempt) -> None:
    url = f"{attempt.publisher.server.url}v2/"
    done = ota("update", "--root", attempt.device, "--version", url)
    assert done.code == 69
    assert "certificate" in done.err
    assert "--cacert" in done.err
    assert touched(attempt.device) == attempt.before


def test_a_server_certificate_of_another_host(attempt: Attempt, tmp_path: Path) -> None:
    url = f"{attempt.publisher.server.url}v2/".replace("127.0.0.1", "127.0.0.2")
    with DevServer(attempt.publisher.directory.parent, "127.0.0.2") as other:
        port = other.url.rsplit(":", 1)[1]
        mixed = url.rsplit(":", 1)[0] + ":" + port + "v2/"
        cacert = attempt.publisher.server.cacert
        done = ota("check", "--root", attempt.device, "--version", mixed, "--cacert", cacert)
    assert done.code == 69
    assert "certificate" in done.err


def test_no_anchors_installed(attempt: Attempt, images: Images) -> None:
    anchor = attempt.device / "etc/ota/certs/anchor.pem"
    anchor.rename(attempt.device / "away.pem")
    attempt.before = touched(attempt.device)
    attempt.fails(10, "Nothing on this device was changed.")
    (attempt.device / "away.pem").rename(anchor)
    attempt.completes()


def test_a_signer_of_another_chain(attempt: Attempt, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_keys(other, make_image_keys())
    own = attempt.publisher.keys
    attempt.publisher.keys = other
    attempt.publisher.sign()
    attempt.fails(10)
    attempt.publisher.keys = own
    attempt.publisher.sign()
    attempt.completes()


def test_a_self_signed_signer(attempt: Attempt, tmp_path: Path) -> None:
    keys = tmp_path / "self"
    keys.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", str(keys / "sign.key"), "-out", str(keys / "sign.crt"),
         "-subj", "/CN=nobody", "-days", "2", "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, capture_output=True,
    )  # fmt: skip
    attempt.publisher.keys = keys
    attempt.publisher.sign()
    attempt.fails(10, "self-signed")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("metadata.jwt", (10, 12)), ("sign.pem", (12,)), ("dirs.txt", (12,)),
        ("symlinks.txt", (12,)), ("regulars.txt", (12,)), ("persistents.txt", (12,)),
        ("attributes.txt.zst", (12,)),
    ],
)  # fmt: skip
def test_one_changed_byte_in_the_metadata(
    attempt: Attempt, name: str, code: tuple[int, ...]
) -> None:
    path = attempt.publisher.directory / name
    data = path.read_bytes()
    for place in (0, len(data) // 2, len(data) - 2):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        done = ota("update", "--root", attempt.device, *attempt.publisher.at())
        assert done.code in code, done.err
        assert "hint: " in done.err
        assert touched(attempt.device) == attempt.before
    path.write_bytes(data)
    attempt.completes()


def test_a_truncated_blob(attempt: Attempt) -> None:
    blobs = sorted((attempt.publisher.directory / "rootfs.zst").iterdir())
    for blob in blobs:
        blob.write_bytes(blob.read_bytes()[:-5])
    attempt.fails(12, "the standby slot was written to")
    assert ota("status", "--root", attempt.device, "--json").result["next"] == "a"


def test_a_file_with_other_content(attempt: Attempt) -> None:
    kernel = attempt.publisher.directory / "rootfs/boot/vmlinuz-6.1.0-2"
    data = kernel.read_bytes()
    kernel.write_bytes(data[:-1] + b"!")
    attempt.fails(12, "vmlinuz-6.1.0-2", "sha256")
    kernel.write_bytes(data)
    attempt.completes()


@pytest.mark.parametrize(
    ("table", "old", "new", "said"),
    [
        ("regulars.txt", b"0644,", b"rw-r,", "regulars.txt line"),
        ("dirs.txt", b"'/opt'", b"'/opt", "dirs.txt line"),
        ("dirs.txt", b"'/opt'", b"'/opt/../opt'", "dirs.txt line"),
        ("dirs.txt", b"'/opt'", b"'opt'", "dirs.txt line"),
        ("dirs.txt", b"'/opt'", b"'/op//t'", "dirs.txt line"),
        ("dirs.txt", b"'/opt'", b"'/etc'", "twice"),
        ("dirs.txt", b"'/opt'", b"'/\xff'", "UTF-8"),
        ("regulars.txt", b"'/opt/after'", b"'/bin/after'", "below"),
        ("regulars.txt", b"'/opt/after'", b"'/srv/dangling/../../../evil'", "regulars.txt line"),
        ("regulars.txt", b"'/opt/after'", b"'/.ota/evil'", "regulars.txt line"),
        ("symlinks.txt", b"'/bin'", b"'/usr/bin/su/bin'", "below"),
    ],
)
def test_a_signed_table_that_makes_no_sense(
    attempt: Attempt, table: str, old: bytes, new: bytes, said: str
) -> None:
    attempt.publisher.edit(table, old, new)
    attempt.publisher.sign()
    attempt.fails(12, said, "Nothing on this device was changed.")


def test_an_image_for_another_kind_of_device(attempt: Attempt) -> None:
    info = attempt.device / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text() + "compatible: rover\n")
    attempt.fails(11, "rover")


def test_an_expired_image(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1760000000")  # it was made before that day
    attempt.publisher.edit("image.json", b'"expires": null', b'"expires": "2026-01-01T00:00:00Z"')
    attempt.publisher.sign()
    attempt.fails(10, "2026-01-01")


def test_a_confirmed_image_tells_a_slow_clock_what_has_expired(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign_after(days: int) -> str:
        when = datetime.now(timezone.utc) + timedelta(days=days)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(when.timestamp())))
        attempt.publisher.sign()
        return f"{when:%Y-%m-%d}"

    made = sign_after(10)
    attempt.completes()
    attempt.publisher.edit("image.json", b'"expires": null', b'"expires": "2000-01-01T00:00:00Z"')
    expires = f"{datetime.now(timezone.utc) + timedelta(days=5):%Y-%m-%d}"
    attempt.publisher.edit("image.json", b"2000-01-01", expires.encode())
    sign_after(2)
    check = ("check", "--root", attempt.device, *attempt.publisher.at())
    assert ota(*check).code == 20, "nothing is confirmed yet"

    next_boot(probe(attempt.device))
    assert ota("commit", "--root", attempt.device).code == 0
    done = ota(*check)
    assert done.code == 10
    assert f"the image expired on {expires}" in done.err
    assert f"a system that was confirmed here was made on {made}; set the clock, or" in done.err
    doctor = ota("doctor", "--root", attempt.device).out
    assert f"but a system that was confirmed here was made on {made}" in doctor

    assert ota("setup", "--root", attempt.device).code == 0
    assert ota(*check).code == 10, "only --repair says that the clock is right"
    repaired = ota("setup", "--repair", "--root", attempt.device)
    assert f"made on {made}" in repaired.err
    assert ota(*check, "--allow-downgrade").code in (0, 20)


def test_an_older_image(attempt: Attempt, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    attempt.publisher.sign()
    attempt.fails(11, "older", "--allow-downgrade")
    done = ota("update", "--root", attempt.device, *attempt.publisher.at(), "--allow-downgrade")
    assert done.code == 0, done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_slot_that_can_not_be_written(attempt: Attempt) -> None:
    (attempt.device / "slots/b").chmod(0o500)
    attempt.before = touched(attempt.device)
    slot = attempt.device / "slots"
    (slot / "b").rmdir()
    slot.chmod(0o500)
    try:
        attempt.fails(14)
    finally:
        slot.chmod(0o700)
    attempt.completes()


def test_a_slot_that_is_no_directory(attempt: Attempt) -> None:
    (attempt.device / "slots/b").rmdir()
    (attempt.device / "slots/b").write_text("a file")
    attempt.fails(14)
    (attempt.device / "slots/b").unlink()
    attempt.completes()


def test_two_at_once(attempt: Attempt) -> None:
    import fcntl

    with open(attempt.device / "run/ota.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        attempt.fails(75, "another ota", "Nothing on this device was changed.")
    attempt.completes()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_signal_in_the_middle_of_the_download(
    attempt: Attempt, number: signal.Signals, code: int
) -> None:
    argv = ["update", "--root", str(attempt.device), *attempt.publisher.at()]
    process = subprocess.Popen(
        [*ota_argv(), *argv, "--limit-rate", "40K", "--output", "plain"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "downloading" in line:
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    if number != signal.SIGKILL:
        assert "interrupted" in said
        assert "The running system and the boot order are untouched" in said
    assert touched(attempt.device) == attempt.before
    assert ota("status", "--root", attempt.device, "--json").result["next"] == "a"
    attempt.completes()


def test_a_broken_identity_is_never_another_one(attempt: Attempt) -> None:
    (attempt.device / "boot/ota/ecu_info.yml").write_text("ecu_id: [not, text]\n")
    done = ota("status", "--root", attempt.device, "--json")
    assert done.code == 78
    assert "ecu_info.yml:1" in done.document["error"]["message"]


def test_plain_http_needs_to_be_allowed(attempt: Attempt) -> None:
    done = ota("check", "--root", attempt.device, "--version", "http://127.0.0.1:1/v2/")
    assert done.code == 2
    assert "--insecure-http" in done.err
