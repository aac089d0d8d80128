"""Nobody gets more than they need: modes, secrets, what other programs see, what root is for."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Set

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.host.run import run
from ota_cli.probe import probe
from tests.conftest import Server, copy_tree
from tests.support.bench import BASE, environment, ota, ota_argv
from tests.support.blocks import needs_root

SECRET = "s3cr3t-of-this-device"


def written_by_ota(device: Path) -> Iterator[Path]:
    """Files and directories that are ota's own."""
    for top in ("boot/ota", "boot/grub/custom.cfg", "run", "slots/a/.ota", "slots/b/.ota"):
        place = device / top
        yield from (place, *place.rglob("*"))


def forbid_nothing() -> None:
    os.umask(0)


def test_others_can_change_nothing_whatever_the_umask(grub_device: Path, server: Server) -> None:
    ours = {path for path in written_by_ota(grub_device) if path.is_dir()}
    at = ("--version", f"{server.url}v2/", "--cacert", str(server.cacert), "--no-self-confirm")
    for words in (("update", *at), ("commit",), ("rollback",)):
        verb, *rest = words
        argv = [*ota_argv(), verb, "--root", str(grub_device), *rest]
        done = subprocess.run(argv, env=environment(), check=False, preexec_fn=forbid_nothing)
        assert done.returncode == 0
        if verb == "update":
            next_boot(probe(grub_device))
    for path in written_by_ota(grub_device):
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        assert path.is_symlink() or path in ours or not mode & 0o022, f"{path}: {mode:o}"


def test_a_cookie_is_told_to_the_server_and_to_nobody_else(
    device: Path, server: Server, tmp_path: Path
) -> None:
    settings = device / "etc/ota/ota.yml"
    settings.write_text(f"{settings.read_text()}limit_rate: 150K\n")
    cookies = tmp_path / "cookies"
    log = tmp_path / "log"
    cookies.write_text(json.dumps({"session": SECRET}))
    at = ("--version", f"{server.url}v2/", "--cacert", str(server.cacert))
    running = subprocess.Popen(
        [*ota_argv(), "update", "-v", "--root", str(device), *at, "--cookie-file", str(cookies)],
        env=environment(), stdout=log.open("wb"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    seen: Set[str] = set()
    while running.poll() is None:
        seen.update(shown_by_processes(running.pid))
        time.sleep(0.02)
    output = log.read_text()
    assert running.returncode == 0, output
    assert seen
    assert SECRET not in output
    assert not [each for each in seen if SECRET in each]
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in device.rglob("*") if path.is_file() and not path.is_symlink()
    )


def shown_by_processes(pid: int) -> List[str]:
    """Command lines and environments of a process and its children."""
    found: List[str] = []
    for each in [str(pid), *children(pid)]:
        for name in ("cmdline", "environ"):
            try:
                found.append(Path(f"/proc/{each}/{name}").read_bytes().decode("utf-8", "replace"))
            except OSError:
                continue  # it has ended
    return found


def children(pid: int) -> List[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def test_the_password_of_a_url_is_not_shown(device: Path) -> None:
    url = f"https://user:{SECRET}@127.0.0.1:1/v2/"
    done = ota("check", "--root", device, "--version", url, "-v")
    assert done.code not in (0, 1)
    assert SECRET not in done.out + done.err


def test_programs_get_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "SSH_AUTH_SOCK", "OTA_COOKIE", "PYTHONPATH", "BASH_ENV"):
        monkeypatch.setenv(name, SECRET)
    shown = run(["env"]).stdout.decode().splitlines()
    assert {line.partition("=")[0] for line in shown} == {"PATH", "LC_ALL", "HOME"}


@pytest.fixture
def readable_device(device: Path) -> Iterator[Path]:
    """A device that everybody may read, at a place that everybody may enter."""
    base = Path("/var/tmp") / f"ota-readable-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        yield copy_tree(device, base / "device")
    finally:
        shutil.rmtree(base)


@needs_root
def test_status_and_check_need_no_root(readable_device: Path, server: Server) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    works = [*as_nobody, sys.executable, "-c", "import ota_cli.cli.main"]
    able = subprocess.run(works, env=environment(), cwd="/", check=False, capture_output=True)
    if able.returncode:
        pytest.skip(f"nobody can not run the program in {BASE}")
    cacert = readable_device.parent / "server.pem"
    cacert.write_bytes(server.cacert.read_bytes())
    at = ["--root", str(readable_device)]
    version = ["--version", f"{server.url}v2/", "--cacert", str(cacert)]
    for words, code in (
        (["status", *at], 0),
        (["check", *at, *version], 20),
        (["update", *at, *version], 77),
    ):
        argv = [*as_nobody, *ota_argv(), *words]
        done = subprocess.run(argv, env=environment(), cwd="/", check=False, capture_output=True)
        assert done.returncode == code, done.stderr.decode()


def test_only_its_owner_can_hold_the_lock_of_a_device(grub_device: Path) -> None:
    """flock(2) asks for no more than reading: whoever may could keep every commit away."""
    lock = grub_device / "run/ota.lock"
    for _ in ("made anew", "left by an older ota"):
        assert ota("setup", "--root", grub_device).code == 0
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        lock.chmod(0o644)
