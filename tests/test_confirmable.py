"""A system that could not confirm its own trial boot is refused before anything is armed."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import pytest

from ota_cli.events import silent
from ota_cli.image.build import BuildOptions, build
from ota_cli.image.serve import DevServer
from ota_cli.image.sign import sign
from tests.conftest import Images
from tests.support.bench import Ran, ota

BOOT_LINE = "LABEL=slot-a / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n"


class Publisher(NamedTuple):
    """A tree to change and build into an image, and a device to bring that to."""

    tree: Path
    device: Path
    server: DevServer
    served: Path
    keys: Path

    def update(self) -> Ran:
        image = self.served / "next"
        build(self.tree, image, BuildOptions(version="next"), silent)
        sign(image, self.keys / "sign.key", self.keys / "sign.crt", datetime.now(timezone.utc))
        at = ("--version", f"{self.server.url}next/", "--cacert", self.server.cacert)
        return ota("update", "--root", self.device, *at)


@pytest.fixture
def publisher(tmp_path: Path, images: Images, grub_device: Path) -> Iterator[Publisher]:
    tree, served = tmp_path / "tree", tmp_path / "served"
    shutil.copytree(images.trees / "v2", tree, symlinks=True)
    (grub_device / "slots/a/etc/fstab").write_text(BOOT_LINE)
    certs = grub_device / "slots/a/etc/ota/certs"  # /etc/ota is carried over from there
    certs.mkdir(parents=True)
    shutil.copy(images.anchor, certs)
    served.mkdir()
    with DevServer(served) as server:
        yield Publisher(tree, grub_device, server, served, images.keys)


def no_ota(publisher: Publisher) -> None:
    (publisher.tree / "usr/bin/ota").unlink()


def no_interpreter_for_ota(publisher: Publisher) -> None:
    (publisher.tree / "usr/bin/ota").write_bytes(b"#!/usr/bin/python9\n")


def no_init(publisher: Publisher) -> None:
    (publisher.tree / "sbin/init").unlink()


def no_commit_unit(publisher: Publisher) -> None:
    wants = publisher.tree / "etc/systemd/system/multi-user.target.wants"
    (wants / "ota-commit.service").unlink()


def masked_deadline_unit(publisher: Publisher) -> None:
    unit = publisher.tree / "etc/systemd/system/ota-deadline.service"
    unit.unlink()
    unit.symlink_to("/dev/null")


def no_boot_line(publisher: Publisher) -> None:
    fstab = publisher.device / "slots/a/etc/fstab"
    fstab.write_text(fstab.read_text().replace("LABEL=boot", "#LABEL=boot"))


def no_anchors(publisher: Publisher) -> None:
    shutil.rmtree(publisher.device / "slots/a/etc/ota")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_ota, "it holds no `ota` that can run"),
        (no_interpreter_for_ota, "it holds no `ota` that can run"),
        (no_init, "it holds no init"),
        (no_commit_unit, "ota-commit.service is not enabled"),
        (masked_deadline_unit, "ota-deadline.service is not enabled"),
        (no_boot_line, "no line of its /etc/fstab mounts /boot"),
        (no_anchors, "its /etc/ota/certs do not accept this image"),
    ],
)
def test_what_a_trial_needs_is_missed_before_it_is_armed(
    publisher: Publisher, spoil: Callable[[Publisher], None], said: str
) -> None:
    spoil(publisher)
    done = publisher.update()
    assert done.code == 11, done.err
    assert f"could not confirm itself: {said}\n" in done.err, "this, and nothing else, is missing"
    found = ota("status", "--root", publisher.device, "--json").result
    assert found["next"] == "a"
    assert found["verdict"]["code"] != "armed"


def test_a_system_with_all_a_trial_needs_is_armed(publisher: Publisher) -> None:
    done = publisher.update()
    assert done.code == 0, done.err
    assert ota("status", "--root", publisher.device, "--json").result["next"] == "b"
