"""Nobody gets more than they need: modes, secrets, what other programs see, what root is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.host.mounts import read_only_view
from ota_cli.host.run import run
from ota_cli.probe import probe
from tests.conftest import Images, Server, copy_tree
from tests.support.bench import (
    BASE,
    environment,
    make_device,
    ota,
    ota_argv,
    started_ota,
    unpack_first,
)
from tests.support.blocks import needs_root
from tests.support.processes import shown_by_processes
from tests.support.proxy import RunningProxy

SECRET = "s3cr3t-of-this-device"
#: On a command line, where another test must not find it.
PASSWORD = "passw0rd-of-this-device"


#: What is its owner's alone: the work of a fill, a proxy's objects, a log; and nobody reads a lock.
PRIVATE = (".ota/", "/var/cache/ota/", "/ota.log", "/run/ota.lock")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """What is started in the block inherits it."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(top: Path) -> Dict[str, int]:
    """By path below `top`, a directory's with a slash at its end; symlinks have none. What is in a
    slot is an image's, but for `.ota`."""
    found = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        status = os.lstat(path)
        if not path.is_symlink() and not re.match(r"slots/[ab]/(?!\.ota)", name):
            ending = "/" if path.is_dir() else ""
            found[f"/{name}{ending}"] = stat.S_IMODE(status.st_mode)
    return found


@contextmanager
def whatever_the_umask(top: Path, mask: int) -> Iterator[None]:
    """In what the block makes below `top` others can change nothing, and see what they need."""
    before = modes(top)
    with umask(mask):
        yield
    made = {path: mode for path, mode in modes(top).items() if before.get(path) != mode}
    assert made
    for path, mode in made.items():
        needed = 0 if any(each in path for each in PRIVATE) else 0o055 if path[-1] == "/" else 0o044
        assert not mode & 0o022, f"{path} can be changed: {mode:o}"
        assert mode & needed == needed, f"{path} can not be seen: {mode:o}"


any_umask = pytest.mark.parametrize("mask", [0, 0o077], ids=["umask-0", "umask-077"])


@any_umask
def test_others_can_change_nothing_whatever_the_umask(
    grub_device: Path, server: Server, mask: int
) -> None:
    shutil.rmtree(grub_device / "run")
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    root = ("--root", grub_device, "--log-file", grub_device / "ota.log")
    with whatever_the_umask(grub_device, mask):
        assert ota("update", *root, *at).code == 0
        next_boot(probe(grub_device))
        assert ota("commit", *root).code == 0
        assert ota("rollback", *root).code == 0


@any_umask
def test_a_device_is_set_up_for_all_to_read_whatever_the_umask(
    tmp_path: Path, images: Images, server: Server, mask: int
) -> None:
    device = make_device(tmp_path / "device", [images.anchor], loader="grub")
    unpack_first(device, device / "slots/a", server)
    for name in ("run", "boot/ota/slot-a", "boot/ota/slot-b"):
        shutil.rmtree(device / name, ignore_errors=True)
    with whatever_the_umask(device, mask):
        assert ota("setup", "--root", device).code == 0
    assert (device / "run").is_dir()


@any_umask
def test_a_cache_is_made_for_the_proxy_only_whatever_the_umask(
    device: Path, server: Server, mask: int
) -> None:
    table = "v2/regulars.txt"
    with whatever_the_umask(device, mask), RunningProxy(
        device, server.url, "--cacert", server.cacert
    ) as proxy:
        assert proxy.get(f"{server.url}{table}").status == 200
        proxy.end()
    assert stat.S_IMODE(os.stat(device / "var/cache/ota").st_mode) == 0o700


@any_umask
def test_an_image_is_prepared_for_all_to_read_whatever_the_umask(
    tmp_path: Path, images: Images, mask: int
) -> None:
    (tmp_path / "etc/kernel").mkdir(parents=True)
    with whatever_the_umask(tmp_path, mask):
        assert ota("image", "prepare", tmp_path, "--anchor", images.anchor).code == 0
    for name in ("ota/certs", "ota/health.d", "systemd/system/sysinit.target.wants"):
        assert (tmp_path / "etc" / name).is_dir()


@needs_root
@any_umask
def test_nobody_can_move_what_a_slot_is_mounted_on_whatever_the_umask(
    tmp_path: Path, mask: int
) -> None:
    (tmp_path / "seen").mkdir()
    with whatever_the_umask(tmp_path, mask), read_only_view(
        tmp_path / "seen", tmp_path / "run/ota/view"
    ):
        pass
    assert (tmp_path / "run/ota/view").is_dir()


@any_umask
def test_a_missing_slot_directory_is_made_whatever_the_umask(
    device: Path, server: Server, mask: int
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text().replace("/slots/b", "/more/slots/b"))
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert, "--no-self-confirm")
    with umask(mask):
        assert ota("update", "--root", device, *at).code == 0
    for path in ("more", "more/slots", "more/slots/b"):
        assert stat.S_IMODE(os.stat(device / path).st_mode) == 0o755


def test_a_cookie_is_told_to_the_server_and_to_nobody_else(
    device: Path, server: Server, tmp_path: Path
) -> None:
    settings = device / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}limit_rate: 150K\n")
    cookies = tmp_path / "cookies"
    cookies.write_text(json.dumps({"session": SECRET}))
    at = ("--version", f"{server.url}v2/", "--cacert", server.cacert)
    with shown_by_processes() as shown:
        done = started_ota("update", "-v", "--root", device, *at, "--cookie-file", cookies)
    assert done.code == 0, done.err
    assert SECRET not in done.out + done.err
    assert any(str(device) in each for each in shown), "it was seen"
    assert not [each for each in shown if SECRET in each]
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in device.rglob("*") if path.is_file() and not path.is_symlink()
    )


def test_the_password_of_a_url_is_not_shown(device: Path) -> None:
    url = f"https://user:{PASSWORD}@127.0.0.1:1/v2/"
    done = ota("check", "--root", device, "--version", url, "-v")
    assert done.code not in (0, 1)
    assert PASSWORD not in done.out + done.err


def test_programs_get_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "SSH_AUTH_SOCK", "OTA_COOKIE", "PYTHONPATH", "BASH_ENV"):
        monkeypatch.setenv(name, SECRET)
    shown = run(["env"]).stdout.decode().splitlines()
    assert {line.partition("=")[0] for line in shown} == {"PATH", "LC_ALL", "HOME"}


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory that everybody may enter."""
    base = Path("/var/tmp") / f"ota-readable-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def ota_of_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs `ota` as a user who has nothing; skips where that one can not run the program."""
    works = [*AS_NOBODY, sys.executable, "-c", "import ota_cli.cli.main"]
    able = subprocess.run(works, env=environment(), cwd="/", check=False, capture_output=True)
    if able.returncode:
        pytest.skip(f"nobody can not run the program in {BASE}")
    argv = [*AS_NOBODY, *ota_argv(), *words]
    return subprocess.run(
        argv, env=environment(), cwd="/", check=False, capture_output=True, text=True
    )


@needs_root
@pytest.mark.parametrize("kind", ["device", "grub_device"])
def test_status_and_check_need_no_root(
    request: pytest.FixtureRequest, kind: str, readable: Path, server: Server
) -> None:
    device = copy_tree(request.getfixturevalue(kind), readable / "device")
    if kind == "grub_device":
        (device / "boot/grub/grub.cfg").chmod(0o600)  # as grub-mkconfig makes it
    cacert = readable / "server.pem"
    cacert.write_bytes(server.cacert.read_bytes())
    at = ["--root", str(device)]
    version = ["--version", f"{server.url}v2/", "--cacert", str(cacert)]
    told = ota_of_nobody("status", *at, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["result"]["next"] == "a"
    for verb, code in (("check", 20), ("update", 77)):
        done = ota_of_nobody(verb, *at, *version)
        assert done.returncode == code, done.stderr


def test_only_its_owner_can_hold_the_lock_of_a_device(grub_device: Path) -> None:
    """flock(2) asks for no more than reading: whoever may could keep every commit away."""
    lock = grub_device / "run/ota.lock"
    for _ in ("made anew", "left by an older ota"):
        assert ota("setup", "--root", grub_device).code == 0
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        lock.chmod(0o644)
