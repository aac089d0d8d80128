"""`ota update --dry-run`: what it lists is what the update then does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from tests.conftest import Images, Server
from tests.support.bench import Ran, ota, unpack_first
from tests.support.schemas import checker


def dry_run(device: Path, server: Server, *words: str, version: str = "v2") -> Ran:
    at = ("--version", f"{server.url}{version}/", "--cacert", server.cacert)
    return ota("update", "--dry-run", "--root", device, *at, *words)


def changes(device: Path, server: Server, version: str = "v2") -> Dict[str, Any]:
    done = dry_run(device, server, "--json", version=version)
    assert done.code == 0, done.out
    checker("check")(done.result)
    found: Dict[str, Any] = done.result["changes"]
    return found


@pytest.fixture
def filled(device: Path, server: Server) -> Path:
    """The device, whose standby slot holds v1 as well."""
    unpack_first(device, device / "slots/b", server)
    return device


def files(tree: Path) -> Dict[str, bytes]:
    """The content of each file by its first name."""
    found: Dict[str, bytes] = {}
    inodes: Set[int] = set()
    for path in sorted(tree.rglob("*")):
        is_file = path.is_file() and not path.is_symlink() and ".ota" not in path.parts
        if is_file and path.stat().st_ino not in inodes:
            inodes.add(path.stat().st_ino)
            found[f"/{path.relative_to(tree)}"] = path.read_bytes()
    return found


def others(tree: Path) -> Set[str]:
    found = (path for path in tree.rglob("*") if path.is_symlink() or path.is_dir())
    return {f"/{path.relative_to(tree)}" for path in found} - {"/.ota"}


def test_each_file_is_counted_by_what_becomes_of_it(
    filled: Path, server: Server, images: Images
) -> None:
    old, new = files(filled / "slots/b"), files(images.trees / "v2")
    gone, taken = old.keys() - new.keys(), others(filled / "slots/b")
    same = [path for path, data in new.items() if old.get(path) == data]
    for path in same:
        shutil.copystat(f"{images.trees}/v2{path}", f"{filled}/slots/b{path}")
    os.chmod(filled / "slots/b/usr/share/1", 0o600)
    told = changes(filled, server)["files"]
    assert (told["kept"], told["metadata"]) == (len(same) - 1, 1)
    assert told["changed"] == sum(
        old.get(path, data) != data or path in taken for path, data in new.items()
    )
    assert told["new"] + told["moved"] == len(new.keys() - old.keys() - taken)
    assert told["moved"] >= 1, "/opt/before is /opt/after now"
    assert told["removed"] + told["moved"] == len(gone - others(images.trees / "v2"))


def test_all_is_new_in_an_empty_slot_and_kept_in_a_full_one(
    device: Path, server: Server, images: Images
) -> None:
    count = len(files(images.trees / "v2"))
    told = changes(device, server)
    assert told["files"] == {**dict.fromkeys(told["files"], 0), "new": count}
    assert told["others"]["new"] == len(others(images.trees / "v2"))
    shutil.rmtree(device / "slots/b")
    (device / "slots/b").mkdir()
    done = ota(
        "image", "unpack", f"{server.url}v2/", device / "slots/b", "--cacert", server.cacert,
        "--anchors", device / "etc/ota/certs",
    )  # fmt: skip
    assert done.code == 0, done.err
    told = changes(device, server)
    assert told["files"] == {**dict.fromkeys(told["files"], 0), "kept": count}
    assert told["downloads"] == []
    assert told["others"]["new"] == told["others"]["changed"] == told["others"]["removed"] == 0


def test_downloads_are_named_with_the_bytes_on_the_wire_the_largest_first(
    device: Path, server: Server
) -> None:
    done = dry_run(device, server, "--json").result
    told = done["changes"]["downloads"]
    sizes = [each["bytes"] for each in told]
    assert sizes == sorted(sizes, reverse=True)
    assert told[0]["path"] == "/boot/vmlinuz-6.1.0-2"
    assert sum(sizes) == done["bytes"]["download"]


def test_the_kernel_is_named_before_and_after(
    device: Path, first_grub_device: Path, server: Server
) -> None:
    for each in (device, first_grub_device):
        told = changes(each, server)["kernel"]
        assert told == {"old": "6.1.0-1", "new": "6.1.0-2", "kernel": True, "initrd": True}


def test_what_is_carried_over_is_what_the_running_slot_has(device: Path, server: Server) -> None:
    assert changes(device, server)["persisted"] == ["/etc/hostname"]
    (device / "slots/a/etc/site").mkdir()
    assert changes(device, server)["persisted"] == ["/etc/hostname", "/etc/site"]


def test_people_read_the_same(device: Path, server: Server) -> None:
    lines: List[str] = []
    for how in ("plain", "rich"):
        done = dry_run(device, server, "--output", how)
        assert done.code == 0
        lines = done.out.splitlines()
        heads = [line.split()[0] for line in lines if not line.startswith(" ")]
        assert heads == [
            "update", "download", "space", "files", "changes", "kernel", "persist", "largest",
        ]  # fmt: skip
    assert "kernel    6.1.0-1 -> 6.1.0-2 (another kernel, another initrd)" in lines
    assert any(line.endswith("/boot/vmlinuz-6.1.0-2") for line in lines)


def test_an_image_that_runs_changes_nothing(device: Path, server: Server) -> None:
    done = dry_run(device, server, "--json", version="v1")
    assert (done.code, done.result["changes"]) == (0, None)
    assert dry_run(device, server, version="v1").out == "v1 is what runs: nothing to update.\n"


def test_an_ecu_below_that_does_not_answer_fails_it_as_it_would_the_update(
    device: Path, server: Server
) -> None:
    info = device / "boot/ota/ecu_info.yml"
    nobody = "{ecu_id: arm, ip_addr: 127.0.0.1, ssh_port: 1}"
    info.write_text(f"{info.read_text()}secondaries: [{nobody}]\n")
    (device / "boot/ota/proxy_info.yml").write_text("enable_local_ota_proxy: false\n")
    done = dry_run(device, server, "--json")
    assert done.code == 16
    assert "ECU arm" in done.document["error"]["message"]
    only = dry_run(device, server, "--json", "--ecu", "bench")
    assert (only.code, only.result["ecu_ids"], only.result["ecus"]) == (0, ["bench"], [])
