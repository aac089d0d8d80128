"""Images built here: readable by an independent reader, reproducible, and the field's tables."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from ota_cli.core.attributes import parse_attributes
from ota_cli.errors import ConfigError, ImageDamaged
from ota_cli.events import Event, Note, Progress, silent
from ota_cli.image.build import BuildOptions, build
from tests.conftest import Images
from tests.support import independent_reader
from tests.support.bench import Ran, ota
from tests.support.systems import make_system
from tests.support.trees import snapshot

PLAIN = BuildOptions("v")


def built(tree: Path, output: Path, options: BuildOptions = PLAIN) -> Dict[str, str]:
    """Builds an image; sha256 of every file in it."""
    build(tree, output, options, silent)
    files = [path for path in sorted(output.rglob("*")) if path.is_file()]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_an_independent_reader_accepts_it(images: Images, tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        independent_reader.verify(images.directory / version, [images.anchor])
        independent_reader.materialise(images.directory / version, tmp_path / version)
        assert snapshot(tmp_path / version) == snapshot(images.trees / version)


def test_an_independent_reader_notices_a_changed_table(images: Images, tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["cp", "-a", str(images.directory / "v1"), str(image)], check=True)
    (image / "dirs.txt").write_bytes((image / "dirs.txt").read_bytes() + b"0755,0,0,'/more'\n")
    with pytest.raises(independent_reader.Refused):
        independent_reader.verify(image, [images.anchor])


Row = Tuple[str, ...]


def tables(image: Path) -> Dict[str, List[Row]]:
    """All tables, sorted; inode numbers replaced by the names they group."""
    found = {key: independent_reader.table(image, key) for key in ("directory", "symboliclink")}
    rows = independent_reader.table(image, "regular")
    groups: Dict[str, List[str]] = {}
    for row in rows:
        if row[7]:
            groups.setdefault(row[7], []).append(row[5])
    found["regular"] = [(*row[:7], ",".join(groups.get(row[7], ())), row[8]) for row in rows]
    return found


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_fields_images_rebuilt_have_the_same_tables(
    legacy: Path, tmp_path: Path, version: str, images: Images
) -> None:
    owners = os.geteuid() == 0
    if not owners:
        pytest.skip("the field's image holds files that only root can read")
    independent_reader.materialise(legacy / version, tmp_path / "tree", owners=owners)
    assert ota("image", "build", tmp_path / "tree", tmp_path / "image", "--version", "x").code == 0
    signed = ota(
        "image", "sign", tmp_path / "image", "--key", images.keys / "sign.key",
        "--cert", images.keys / "sign.crt",
    )  # fmt: skip
    assert signed.code == 0, signed.err
    ours, theirs = tables(tmp_path / "image"), tables(legacy / version)
    if not owners:
        ours, theirs = _without_owners(ours), _without_owners(theirs)
    assert ours == theirs
    total = (tmp_path / "image/total_regular_size.txt").read_bytes()
    assert total == (legacy / version / "total_regular_size.txt").read_bytes()


def _without_owners(found: Dict[str, List[Row]]) -> Dict[str, List[Row]]:
    return {key: sorted((r[0], *r[3:]) for r in rows) for key, rows in found.items()}


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    make_system(tmp_path / "one", 1)
    subprocess.run(["cp", "-a", str(tmp_path / "one"), str(tmp_path / "two")], check=True)
    before = os.umask(0o077)
    try:
        first = built(tmp_path / "one", tmp_path / "image-1")
    finally:
        os.umask(before)
    assert built(tmp_path / "two", tmp_path / "image-2") == first
    assert built(tmp_path / "two", tmp_path / "image-1") == first, "over an earlier image"


def test_a_date_that_no_table_can_tell_becomes_the_last_that_it_can(tmp_path: Path) -> None:
    make_system(tmp_path / "tree", 1)
    os.utime(tmp_path / "tree/etc/hostname", (2**34, 2**34 - 1))
    built(tmp_path / "tree", tmp_path / "image")
    attributes = parse_attributes((tmp_path / "image/attributes.txt.zst").read_bytes())
    assert attributes.mtimes_ns["/etc/hostname"] == 2**63 - 1


def test_only_the_newest_kernel_is_taken(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "boot").mkdir(parents=True)
    for version in ("6.1.0-9", "6.1.0-10", "6.1.0-10-rc1"):
        for name in ("vmlinuz", "initrd.img", "config", "System.map"):
            (tree / f"boot/{name}-{version}").write_text(version)
    names = built(tree, tmp_path / "image")
    assert [n for n in names if "vmlinuz" in n] == ["rootfs/boot/vmlinuz-6.1.0-10"]
    assert "rootfs/boot/config-6.1.0-9" not in names
    every = built(tree, tmp_path / "all", BuildOptions("v", all_kernels=True))
    assert len([n for n in every if "vmlinuz" in n]) == 3


def test_ignored_paths_are_left_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("var/cache/x", "var/log/keep", "var/log/drop.gz", "home/x", ".ota/old"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    ignore = "/var/cache/\n*.gz\n# a comment\n/home/*\n"
    names = built(tree, tmp_path / "image", BuildOptions("v", ignore=ignore))
    assert [n for n in names if n.startswith("rootfs/")] == ["rootfs/var/log/keep"]


def test_blobs_only_where_they_pay(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "text").write_bytes(b"text " * 10_000)
    (tree / "small").write_bytes(b"text " * 100)
    (tree / "noise").write_bytes(os.urandom(50_000))
    build(tree, tmp_path / "image", BuildOptions("v"), silent)
    blobs = list((tmp_path / "image/rootfs.zst").iterdir())
    digest = hashlib.sha256(b"text " * 10_000).hexdigest()
    assert [blob.name for blob in blobs] == [f"{digest}.zst"]
    attributes = parse_attributes((tmp_path / "image/attributes.txt.zst").read_bytes())
    assert attributes.blob_sizes == {bytes.fromhex(digest): blobs[0].stat().st_size}


def test_names_that_can_not_be_expressed_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate((b"line\nbreak", b"not-utf8-\xff")):
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_text("x")
        with pytest.raises(ImageDamaged):
            build(tree, tmp_path / "image", BuildOptions("v"), silent)
    assert not (tmp_path / "image/image.json").exists()


def test_an_attribute_or_target_that_can_not_be_expressed_is_refused_with_its_path(
    tmp_path: Path,
) -> None:
    for number, name in enumerate((b"user.line\nbreak", b"user.not-utf8-\xff")):
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        (tree / "file").write_text("x")
        try:
            os.setxattr(os.fsencode(tree / "file"), name, b"")
        except OSError:
            pytest.skip("no extended attributes here")
        with pytest.raises(ImageDamaged, match="/file"):
            build(tree, tmp_path / "image", PLAIN, silent)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/link").symlink_to("a\nb")
    with pytest.raises(ImageDamaged, match="/link"):
        build(tmp_path / "links", tmp_path / "image", PLAIN, silent)


def test_depth_has_no_limit_of_its_own(tmp_path: Path) -> None:
    deep = tmp_path / "tree" / "/".join("d" * 200)
    deep.mkdir(parents=True)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        build(tmp_path / "tree", tmp_path / "image", PLAIN, silent)
    finally:
        sys.setrecursionlimit(before)
    assert len((tmp_path / "image/dirs.txt").read_text().split("\n")) == 201


def test_two_builds_do_not_write_one_image(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    second: List[Ran] = []

    def build_again(event: Event) -> None:
        if isinstance(event, Progress) and not second:
            second.append(ota("image", "build", tree, tmp_path / "image", "--version", "w"))

    build(tree, tmp_path / "image", PLAIN, build_again)
    assert second[0].code == 75, second[0].err
    assert json.loads((tmp_path / "image/image.json").read_text())["version"] == "v"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--version", ""),
        ("--version", "a\nb"),
        ("--version", "n" * 300),
        ("--compatible", ""),
        ("--expires", "soon"),
        ("--expires", "0001-01-01T00:00+23:00"),
        ("--expires", "9999-12-31T23:00-23:00"),
    ],
)
def test_what_no_device_could_read_is_a_usage_error(
    option: str, value: str, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    done = ota("image", "build", tmp_path / "tree", tmp_path / "x", "--version", "v", option, value)
    assert done.code == 2, done.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("path", ["/", "etc", "/etc/", "/etc/../etc", "/.ota", "/a\0b"])
def test_a_persistent_path_that_devices_refuse_is_refused_by_line(
    path: str, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "list").write_text(f"# kept\n/etc/hostname\r\n{path}\n")
    done = ota(
        "image", "build", tmp_path / "tree", tmp_path / "x", "--version", "v",
        "--persist", tmp_path / "list",
    )  # fmt: skip
    assert done.code == 78
    assert "list:3" in done.err


def test_an_ignore_pattern_that_does_not_work_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "ignore").write_text("[z-a]\n")
    done = ota(
        "image", "build", tmp_path / "tree", tmp_path / "x", "--version", "v",
        "--ignore", tmp_path / "ignore",
    )  # fmt: skip
    assert done.code == 78


def test_sockets_are_left_out_with_a_note(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    here = os.getcwd()
    os.chdir(tree)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
    finally:
        os.chdir(here)
    events: List[Event] = []
    build(tree, tmp_path / "image", BuildOptions("v"), events.append)
    assert any(isinstance(e, Note) and "/socket" in e.text for e in events)
    attributes = parse_attributes((tmp_path / "image/attributes.txt.zst").read_bytes())
    assert [(node.path, node.kind) for node in attributes.nodes] == [("/fifo", "p")]


def test_the_output_is_never_inside_the_tree_nor_over_something_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("precious")
    for output in (tree, tree / "image", tmp_path / "taken"):
        with pytest.raises(ConfigError):
            build(tree, output, BuildOptions("v"), silent)
    assert (tmp_path / "taken/file").read_text() == "precious"


@pytest.mark.parametrize("tree", ["rootfs", "tree"])
def test_a_rootfs_that_no_build_made_is_never_removed(tmp_path: Path, tree: str) -> None:
    make_system(tmp_path / tree, 1)
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    (tmp_path / "rootfs/file").write_text("precious")
    with pytest.raises(ConfigError):
        build(tmp_path / tree, tmp_path, PLAIN, silent)
    assert (tmp_path / "rootfs/file").read_text() == "precious"


def test_a_container_beside_its_configuration_is_no_image(tmp_path: Path) -> None:
    make_system(tmp_path / "tree", 1)
    (tmp_path / "container/rootfs").mkdir(parents=True)
    (tmp_path / "container/rootfs/file").write_text("precious")
    (tmp_path / "container/config").write_text("")
    done = ota("image", "build", tmp_path / "tree", tmp_path / "container", "--version", "x")
    assert done.code == 78
    assert (tmp_path / "container/rootfs/file").read_text() == "precious"


def test_an_image_and_an_interrupted_one_are_built_anew(tmp_path: Path) -> None:
    make_system(tmp_path / "tree", 1)
    first = built(tmp_path / "tree", tmp_path / "image")
    (tmp_path / "image/image.json").unlink()
    (tmp_path / "image/rootfs/old").write_text("of the build that was interrupted")
    assert built(tmp_path / "tree", tmp_path / "image") == first


def test_the_output_is_a_directory(tmp_path: Path) -> None:
    make_system(tmp_path / "tree", 1)
    done = ota("image", "build", tmp_path / "tree", "/dev/null", "--version", "x")
    assert done.code == 78
    assert "/dev/null is not a directory" in done.err


def test_a_tree_that_lies_where_the_image_would_go_is_not_removed(tmp_path: Path) -> None:
    tree = tmp_path / "project/rootfs"
    tree.mkdir(parents=True)
    (tree / "file").write_text("precious")
    (tmp_path / "other").mkdir()
    for source in (tree, tmp_path / "other"):
        done = ota("image", "build", source, tmp_path / "project", "--version", "v")
        assert done.code == 78
        assert (tree / "file").read_text() == "precious"


def test_a_file_that_changes_while_the_image_is_built_is_told(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "log").write_text("one")

    def write_on(event: Event) -> None:
        if isinstance(event, Progress):
            (tree / "log").write_text("two")

    with pytest.raises(ConfigError, match="log changed"):
        build(tree, tmp_path / "image", PLAIN, write_on)
    assert not (tmp_path / "image/image.json").exists()


def test_a_web_server_can_read_an_image_whatever_the_umask(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/text").write_bytes(b"text " * 10_000)
    before = os.umask(0o077)
    try:
        built(tree, tmp_path / "image")
    finally:
        os.umask(before)
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "image").rglob("*") if p.is_file()}
    assert modes == {0o644}
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "image").rglob("*") if p.is_dir()}
    assert modes == {0o755}


def test_places_that_can_not_be_used_are_told(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for odd in (tmp_path / "file", tmp_path / "loop", tmp_path / ("n" * 300)):
        assert ota("image", "build", tree, odd, "--version", "v").code == 78
        assert ota("image", "build", odd, tmp_path / "new", "--version", "v").code == 78


def test_an_unfinished_image_is_not_signed(tmp_path: Path, images: Images) -> None:
    (tmp_path / "rootfs").mkdir()
    done = ota(
        "image", "sign", tmp_path, "--key", images.keys / "sign.key",
        "--cert", images.keys / "sign.crt",
    )  # fmt: skip
    assert done.code == 12
    assert "image build" in done.err


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, images: Images) -> None:
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout",
         "-out", str(tmp_path / "other.key")],
        check=True, capture_output=True,
    )  # fmt: skip
    done = ota(
        "image", "sign", images.directory / "v1", "--key", tmp_path / "other.key",
        "--cert", images.keys / "sign.crt",
    )  # fmt: skip
    assert done.code == 78
    assert "is not the key of" in done.err


def test_verify_finds_a_changed_file_and_inspect_tells_what_is_inside(
    images: Images, tmp_path: Path
) -> None:
    anchors = ("--anchors", images.keys)
    shown = ota("image", "inspect", images.directory / "v2", *anchors, "--json")
    assert shown.code == 0, shown.err
    assert shown.result["version"] == "v2"
    assert shown.result["kernel"] == "vmlinuz-6.1.0-2"
    assert ota("image", "verify", images.directory / "v2", *anchors).code == 0
    image = tmp_path / "image"
    subprocess.run(["cp", "-a", str(images.directory / "v2"), str(image)], check=True)
    (image / "rootfs/usr/bin/su").write_bytes(b"\x7fELF SU")
    done = ota("image", "verify", image, *anchors, "--json")
    assert done.code == 12
    assert "usr/bin/su" in json.dumps(done.document)


def test_prepare_makes_a_tree_able_to_confirm_itself(tmp_path: Path, images: Images) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    done = ota("image", "prepare", tree, "--anchor", images.anchor, "--json")
    assert done.code == 0, done.out
    wants = tree / "etc/systemd/system/multi-user.target.wants/ota-commit.service"
    assert wants.resolve() == (tree / "etc/systemd/system/ota-commit.service").resolve()
    assert (tree / "etc/ota/certs/anchor.pem").read_bytes() == images.anchor.read_bytes()
    before = snapshot(tree, mtimes=True)
    again = ota("image", "prepare", tree, "--anchor", images.anchor, "--json")
    assert again.result["written"] == []
    assert snapshot(tree, mtimes=True) == before
