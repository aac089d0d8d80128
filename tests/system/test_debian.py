"""A real Debian updates to its next release: loop-mounted ext4 slots, nginx, TLS, GRUB's files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from ota_cli.boot.simulate import next_boot
from ota_cli.image.keys import make_image_keys
from ota_cli.probe import probe
from tests.conftest import write_keys
from tests.support.bench import Ran, make_device, ota
from tests.support.blocks import disk_image, needs_root, run
from tests.support.compare import differences
from tests.support.debian import Debian, make_debian
from tests.support.nginx import Nginx, needs_nginx

pytestmark = [needs_root, needs_nginx, pytest.mark.xdist_group("debian")]


class Bench(NamedTuple):
    """Debian images behind nginx, and the trees they were made of."""

    trees: Debian
    server: Nginx
    keys: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    base = tmp_path_factory.mktemp("debian")
    trees = make_debian(base)
    keys = base / "keys"
    keys.mkdir()
    write_keys(keys, make_image_keys())
    for name, tree in (("old", trees.old), ("new", trees.new)):
        for words in (
            ("build", tree, base / "served" / name, "--version", name),
            ("sign", base / "served" / name, "--key", keys / "sign.key", "--cert",
             keys / "sign.crt"),
        ):  # fmt: skip
            done = ota("image", *words)
            assert done.code == 0, done.err
    with Nginx(base / "served") as server:
        yield Bench(trees, server, keys)


@pytest.fixture
def device(tmp_path: Path, bench: Bench) -> Path:
    """A GRUB device with two 1 GiB disk-image slots, running the old Debian."""
    slots = "slots:\n  a: {file: /a.img}\n  b: {file: /b.img}\n"
    root = make_device(tmp_path / "device", [bench.keys / "anchor.pem"], loader="grub", slots=slots)
    for name in ("a", "b"):
        disk_image(root / f"{name}.img", "1G")
    done = unpack(bench, root / "a.img", "old")
    assert done.code == 0, done.err
    done = ota("setup", "--root", root)
    assert done.code == 0, done.err
    return root


def unpack(bench: Bench, target: Path, version: str) -> Ran:
    return ota(
        "image", "unpack", f"{bench.server.url}{version}", target,
        "--cacert", bench.server.cacert, "--anchors", bench.keys,
    )  # fmt: skip


def update(bench: Bench, root: Path, version: str) -> Ran:
    return ota(
        "update", "--root", root, "--version", f"{bench.server.url}{version}",
        "--cacert", bench.server.cacert, "--no-self-confirm", "--allow-downgrade", "--json",
    )  # fmt: skip


def test_a_point_release_onto_an_empty_slot_and_back_in_place(
    bench: Bench, device: Path, tmp_path: Path
) -> None:
    old_kernels = kernels(bench.trees.new) - newest(bench.trees.new)

    done = update(bench, device, "new")

    assert done.code == 0, done.out
    files = done.result["files"]
    assert files["downloaded"] < files["copied"], "most of it was on the device"
    left = [f"/boot/{name}" for name in old_kernels]
    assert differences(bench.trees.new, device / "b.img", tmp_path / "look", *left) == ""
    assert bench.server.requests() > 0
    listed = run("grub-editenv", device / "boot/ota/bootenv", "list")
    assert "ota_trial=b" in listed
    assert next_boot(probe(device)).slot == "b"
    assert ota("commit", "--root", device).code == 0

    back = update(bench, device, "old")
    assert back.code == 0, back.out
    assert back.result["up_to_date"] is False
    files = back.result["files"]
    assert files["kept"] == files["total"], "slot a still held the old image"
    assert back.result["bytes"]["downloaded"] == 0
    assert next_boot(probe(device)).slot == "a"
    assert ota("commit", "--root", device).code == 0

    again = update(bench, device, "new")
    assert again.code == 0, again.out
    assert again.result["files"]["kept"] == again.result["files"]["total"]


def test_an_old_release_becomes_the_new_one_in_place(
    bench: Bench, device: Path, tmp_path: Path
) -> None:
    assert unpack(bench, device / "b.img", "old").code == 0

    done = update(bench, device, "new")

    assert done.code == 0, done.out
    files = done.result["files"]
    assert files["kept"] > files["downloaded"] > 0
    left = [f"/boot/{name}" for name in kernels(bench.trees.new) - newest(bench.trees.new)]
    assert differences(bench.trees.new, device / "b.img", tmp_path / "look", *left) == ""
    assert subprocess.run(["e2fsck", "-fn", str(device / "b.img")], check=False).returncode == 0


def kernels(tree: Path) -> set[str]:
    return {path.name for path in (tree / "boot").iterdir() if path.is_file()}


def newest(tree: Path) -> set[str]:
    """Files of the kernel `dpkg` orders last."""
    versions = [name[len("vmlinuz-") :] for name in kernels(tree) if name.startswith("vmlinuz-")]
    best = versions[0]
    for version in versions[1:]:
        newer = subprocess.run(["dpkg", "--compare-versions", version, "gt", best], check=False)
        best = version if newer.returncode == 0 else best
    return {name for name in kernels(tree) if name.endswith(best)}
