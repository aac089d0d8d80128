"""Bad input of all kinds: exit 15, or 14 for a slot, and what boots is what booted before."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Callable, Dict

import pytest

from tests.jetson.conftest import Bench, Publisher
from tests.support.bench import ota
from tests.support.boot import files_below
from tests.support.jetson import Jetson

EVERY = (
    "get-number-slots get-current-slot dump-slots-info is-slot-bootable is-unified-enabled "
    "set-active-boot-slot set-slot-as-unbootable mark-boot-successful"
)
CHANGING = "set-active-boot-slot set-slot-as-unbootable"


def deciding(jetson: Jetson) -> Dict[str, bytes]:
    """What decides the boot, and what runs."""
    found = files_below(jetson.slot("a"))
    loader = jetson.loader.state
    found.update({name: value.encode() for name, value in loader.items() if name != "tries"})
    settings = jetson.root / "boot/ota/cboot"
    return {**found, "settings": settings.read_bytes() if settings.exists() else b""}


def nonsense(command: str, text: str, status: int = 0) -> Callable[[Jetson], None]:
    return lambda jetson: jetson.fault(command, "print", text=text, status=status)


def missing(jetson: Jetson) -> None:
    (jetson.programs / "nvbootctrl").unlink()


def not_executable(jetson: Jetson) -> None:
    (jetson.programs / "nvbootctrl").chmod(0o644)


def too_new(jetson: Jetson) -> None:
    release = jetson.root / "etc/nv_tegra_release"
    release.write_text("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")


def mounted_from_another(jetson: Jetson) -> None:
    jetson.loader.set(booted=1)


def nothing_boots(jetson: Jetson) -> None:
    jetson.loader.set(bootable0=0, bootable1=0)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (missing, "nvbootctrl is not installed"),
        (not_executable, "nvbootctrl is not installed"),
        (too_new, "BSP R35.4.1 boots by UEFI"),
        (nonsense(EVERY, "", 1), "failed with status 1"),
        (nonsense("get-number-slots", "3"), "'3'"),
        (nonsense("get-current-slot", "\x00\xff 7"), "get-current-slot"),
        (nonsense("get-current-slot", "", 0), "''"),
        (nonsense("dump-slots-info", "x" * 100_000), "xxx..."),
        (nonsense("is-slot-bootable", "usage", 64), "failed with status 64: usage"),
        (nonsense("is-slot-bootable", "", 139), "failed with status 139"),
        (mounted_from_another, "slot a is mounted on /, but nvbootctrl says that slot b"),
        (nothing_boots, "no slot is bootable"),
    ],
)
def test_a_loader_that_can_not_be_relied_on_is_not_told_anything(
    emmc: Jetson, bench: Bench, spoil: Callable[[Jetson], None], told: str
) -> None:
    spoil(emmc)
    before = deciding(emmc)
    ran = bench.update(emmc)
    assert ran.code == 15, ran.out
    assert told in ran.document["error"]["message"]
    assert ran.document["error"]["footprint"] == "nothing"
    assert ran.document["error"]["hint"]
    assert deciding(emmc) == before
    assert files_below(emmc.slot("b")) == {}
    status = ota("status", "--root", emmc.root, "--json")
    assert (status.code, status.result["verdict"]["code"]) == (0, "disagree")


def test_a_loader_that_hangs_is_given_up(emmc: Jetson, bench: Bench) -> None:
    emmc.fault("get-current-slot", "hang")
    ran = bench.update(emmc)
    assert ran.code == 15
    assert "took longer than 10 s" in ran.document["error"]["message"]


def test_a_device_that_knows_one_root_file_system_only_is_told_how_to_get_two(
    emmc: Jetson, bench: Bench
) -> None:
    release = emmc.root / "etc/nv_tegra_release"
    release.write_text(release.read_text().replace("REVISION: 5.1", "REVISION: 7.3"))
    emmc.loader.set(unified="neither")
    ran = bench.update(emmc)
    assert ran.code == 15
    assert "ROOTFS_AB=1" in ran.document["error"]["hint"]


@pytest.mark.parametrize(
    ("command", "footprint"),
    [("set-slot-as-unbootable", "standby"), ("set-active-boot-slot", "boot")],
)
def test_an_update_that_nvbootctrl_refuses_switches_nothing(
    emmc: Jetson, bench: Bench, command: str, footprint: str
) -> None:
    emmc.fault(command, "print", text="SMD write failed", status=70)
    ran = bench.update(emmc)
    assert ran.code == 15
    assert "SMD write failed" in ran.document["error"]["message"]
    assert ran.document["error"]["footprint"] == footprint
    emmc.mend()
    status = ota("status", "--root", emmc.root, "--json").result
    assert (status["running"], status["next"]) == ("a", "a")
    assert emmc.copied(emmc.root.with_name("other")).boot().slot == "a"
    assert bench.update(emmc).code == 0
    assert emmc.boot().slot == "b"


def test_a_slot_that_stays_unbootable_is_not_called_armed(emmc: Jetson, bench: Bench) -> None:
    emmc.loader.set(unbootable_stays=1)
    ran = bench.update(emmc)
    assert ran.code == 15
    assert "would not boot it" in ran.document["error"]["message"]
    status = ota("status", "--root", emmc.root, "--json").result
    assert (status["next"], status["slots"]["b"]["state"]) == ("a", "staged")
    assert emmc.boot().slot == "a"


@pytest.mark.parametrize("command", ["set-active-boot-slot", "mark-boot-successful"])
def test_a_commit_that_nvbootctrl_refuses_confirms_nothing(
    emmc: Jetson, bench: Bench, command: str
) -> None:
    assert bench.update(emmc).code == 0
    emmc.boot()
    emmc.fault(command, "print", text="no", status=1)
    for time in range(2):
        ran = ota("commit", "--root", emmc.root)
        assert ran.code == 15, ran.err
        assert (emmc.slot("b") / ".ota/trial").exists()
        status = ota("status", "--root", emmc.root, "--json").result
        assert (status["next"], status["verdict"]["code"]) == ("a", "trial")
        assert emmc.copied(emmc.root.with_name(f"next-{time}")).boot().slot == "a"
    emmc.mend()
    assert ota("commit", "--root", emmc.root).code == 0
    assert emmc.boot().slot == "b"


def empty(mark: Path) -> None:
    mark.write_text("")


def overlong(mark: Path) -> None:
    mark.write_text("ota.trial=1 " * 100)


def cut_short(mark: Path) -> None:
    mark.write_bytes(mark.read_bytes()[:30])


def garbage(mark: Path) -> None:
    mark.write_bytes(bytes(range(256)))


def directory(mark: Path) -> None:
    mark.unlink()
    mark.mkdir()


def dangling(mark: Path) -> None:
    mark.unlink()
    mark.symlink_to("nowhere")


DAMAGES = [empty, overlong, cut_short, garbage, directory, dangling]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_trial_whose_mark_is_damaged_is_still_one(
    emmc: Jetson, bench: Bench, damage: Callable[[Path], None]
) -> None:
    assert bench.update(emmc).code == 0
    emmc.boot(once_fails=True)
    damage(emmc.slot("b") / ".ota/trial")
    settings = (emmc.root / "boot/ota/cboot").read_bytes()
    check = emmc.root / "etc/ota/health.d/check"
    check.parent.mkdir()
    check.write_text("#!/bin/sh\nexit 1\n")
    check.chmod(0o755)
    status = ota("status", "--root", emmc.root, "--json").result
    assert status["verdict"]["code"] == "trial"
    assert ota("commit", "--root", emmc.root).code == 18
    assert (emmc.root / "boot/ota/cboot").read_bytes() == settings
    assert emmc.boot().slot == "a"
    assert ota("status", "--root", emmc.root, "--json").result["verdict"]["code"] == "fell_back"


@pytest.mark.parametrize("jetson", ["xavier-emmc", "agx-unified"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_units_find_the_way_back_without_the_words_of_the_mark(
    jetson: Jetson, bench: Bench, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    assert bench.update(jetson).code == 0
    jetson.boot(once_fails=True)
    damage(jetson.slot("b") / ".ota/trial")
    other = jetson.copied(tmp_path / "other")
    assert jetson.once("b") == 0
    assert jetson.boot().slot == "a"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemctl", "sleep"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/{name}\n")
        (programs / name).chmod(0o755)
    other.deadline_passes("b", programs)
    assert (tmp_path / "systemctl").exists()
    assert other.boot().slot == "a"


def test_a_commit_whose_mark_can_not_be_removed_confirms_nothing(
    emmc: Jetson, bench: Bench
) -> None:
    assert bench.update(emmc).code == 0
    emmc.boot()
    mark = emmc.slot("b") / ".ota/trial"
    directory(mark)  # what unlink(2) refuses
    ran = ota("commit", "--root", emmc.root)
    assert ran.code == 15, ran.err
    assert emmc.boot().slot == "a"


def test_below_a_root_without_a_device_tree_the_loader_of_this_machine_is_left_alone(
    emmc: Jetson, bench: Bench
) -> None:
    shutil.rmtree(emmc.root / "proc/device-tree")
    info = emmc.root / "boot/ota/ecu_info.yml"
    info.write_text(info.read_text() + "bootloader: cboot\n")
    calls = (emmc.programs / "calls").read_bytes()
    ran = bench.update(emmc)
    assert ran.code == 15
    assert "device tree" in ran.document["error"]["message"]
    assert (emmc.programs / "calls").read_bytes() == calls


def test_a_repair_while_nvbootctrl_fails_forgets_no_slot(emmc: Jetson, bench: Bench) -> None:
    assert bench.update(emmc).code == 0
    emmc.boot()
    assert ota("commit", "--root", emmc.root).code == 0
    emmc.fault("dump-slots-info", "print", text="no", status=1)
    assert ota("setup", "--repair", "--root", emmc.root).code == 15
    emmc.mend()
    assert ota("setup", "--repair", "--root", emmc.root).code == 0
    assert ota("rollback", "--root", emmc.root).code == 0
    assert emmc.boot().slot == "a"


# --- the copy of /boot on eMMC -------------------------------------------------------------------


@pytest.fixture
def nvme(first_jetsons: Dict[str, Jetson], bench: Bench, tmp_path: Path,
         monkeypatch: pytest.MonkeyPatch) -> Jetson:  # fmt: skip
    """v2 runs in b and is confirmed; v1 is good in a."""
    jetson = first_jetsons["xavier-nvme"].copied(tmp_path / "device").use(monkeypatch)
    assert bench.update(jetson).code == 0
    jetson.boot()
    assert ota("commit", "--root", jetson.root).code == 0
    return jetson


def gone(image: Path) -> None:
    image.unlink()


def rotten(image: Path) -> None:
    image.write_bytes(b"x" + image.read_bytes()[1:])


@pytest.mark.parametrize("spoil", [gone, rotten])
def test_no_update_takes_the_other_slot_while_cboot_would_not_boot_the_running_one(
    nvme: Jetson, bench: Bench, spoil: Callable[[Path], None]
) -> None:
    spoil(nvme.booted_from("b") / "boot/Image")
    before, standby = nvme.loader.state, files_below(nvme.slot("a"))
    ran = bench.update(nvme, "v1")
    assert ran.code == 14, ran.out
    assert "boot files of slot b are not what was installed" in ran.document["error"]["message"]
    assert (nvme.loader.state, files_below(nvme.slot("a"))) == (before, standby)
    assert ota("setup", "--repair", "--root", nvme.root).code == 0
    place, source = nvme.booted_from("b") / "boot", nvme.slot("b") / "boot"
    assert files_below(place) == files_below(source)
    assert bench.update(nvme, "v1").code == 0
    assert nvme.boot().slot == "a"


@pytest.mark.parametrize("spoil", [gone, rotten])
def test_a_slot_that_cboot_would_not_boot_is_not_gone_back_to_until_it_is_repaired(
    nvme: Jetson, bench: Bench, spoil: Callable[[Path], None]
) -> None:
    spoil(nvme.booted_from("a") / "boot/Image")
    for verb in ("rollback", "switch-slot"):
        ran = ota(verb, "--root", nvme.root)
        assert ran.code == 14, ran.err
        assert "boot files of slot a are not what was installed" in ran.err
    _, *published = bench.words(nvme, "v1")
    assert ota("verify", "--repair", *published, "--root", nvme.root).code == 0
    assert ota("rollback", "--root", nvme.root).code == 0
    assert nvme.boot().slot == "a"


def test_what_boots_is_adopted_as_it_is(first_jetsons: Dict[str, Jetson], tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    jetson = first_jetsons["xavier-nvme"].copied(tmp_path / "device").use(monkeypatch)
    kernel = jetson.booted_from("a") / "boot/Image"
    kernel.write_text("as it was flashed")
    (jetson.root / "boot/ota/slot-a/ready").unlink()
    assert ota("setup", "--root", jetson.root).code == 0
    assert kernel.read_text() == "as it was flashed"
    rotten(kernel)
    assert ota("setup", "--root", jetson.root).code == 0
    assert kernel.read_bytes() == (jetson.slot("a") / "boot/Image").read_bytes()


# --- extlinux.conf ------------------------------------------------------------------------------


def publish_spoilt(publisher: Publisher, tree: Path, spoil: Callable[[Path], None]) -> None:
    """v2 of the Xavier with eMMC, made at `tree` and spoilt there, as `spoilt`."""
    shutil.copytree(publisher.trees / "xavier-emmc/v2", tree, symlinks=True)
    spoil(tree)
    publisher.publish("xavier-emmc-spoilt", tree, "spoilt")


def without_conf(tree: Path) -> None:
    (tree / "boot/extlinux/extlinux.conf").unlink()


def without_its_label(tree: Path) -> None:
    conf = tree / "boot/extlinux/extlinux.conf"
    conf.write_text(conf.read_text().replace("DEFAULT primary", "DEFAULT secondary"))


def with_a_label_twice(tree: Path) -> None:
    conf = tree / "boot/extlinux/extlinux.conf"
    entry = re.search(r"(?s)LABEL primary.*?\n\n", conf.read_text())
    assert entry is not None
    conf.write_text(conf.read_text() + entry.group())


def without_its_kernel(tree: Path) -> None:
    (tree / "boot/Image").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_conf, "holds no /boot/extlinux/extlinux.conf"),
        (without_its_label, "no entry with the LABEL secondary"),
        (with_a_label_twice, "2 entries"),
        (without_its_kernel, "names /boot/Image, which is not there"),
    ],
)
def test_an_image_that_cboot_could_not_boot_is_not_armed(
    emmc: Jetson, bench: Bench, jetson_publisher: Publisher, tmp_path: Path,
    spoil: Callable[[Path], None], told: str,
) -> None:  # fmt: skip
    publish_spoilt(jetson_publisher, tmp_path / "tree", spoil)
    ran = bench.update(emmc, "spoilt")
    assert ran.code == 15, ran.out
    assert told in ran.document["error"]["message"]
    assert ran.document["error"]["footprint"] == "standby"
    assert not any("set-active-boot-slot 1" in call for call in emmc.changes())
    assert emmc.boot().slot == "a"
    assert bench.update(emmc).code == 0
    assert emmc.boot().slot == "b"


def test_setup_refuses_a_running_system_that_cboot_would_not_find_again(emmc: Jetson) -> None:
    (emmc.slot("a") / "boot/extlinux/extlinux.conf").write_text("DEFAULT x\nLABEL y\n")
    for path in (emmc.root / "boot/ota").glob("*"):
        if path.name != "ecu_info.yml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ran = ota("setup", "--root", emmc.root)
    assert ran.code == 15
    assert "no entry with the LABEL x" in ran.err


def without_the_shared_partition(tree: Path) -> None:
    (tree / "etc/fstab").write_text("LABEL=x / ext4 defaults\n")


def without_the_way_back(tree: Path) -> None:
    (tree / "etc/systemd/system/ota-once.service").unlink()


def with_a_verifier_of_its_own(tree: Path) -> None:
    shutil.rmtree(tree / "etc/systemd/system/nv_update_verifier.service.d")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_the_shared_partition, "mounts /boot/ota"),
        (without_the_way_back, "ota-once.service"),
        (with_a_verifier_of_its_own, "NVIDIA's unit calls each boot successful"),
    ],
)
def test_an_image_that_could_not_end_its_trial_is_refused(
    emmc: Jetson, bench: Bench, jetson_publisher: Publisher, tmp_path: Path,
    spoil: Callable[[Path], None], told: str,
) -> None:  # fmt: skip
    publish_spoilt(jetson_publisher, tmp_path / "tree", spoil)
    if spoil is without_the_shared_partition:  # that line comes from the running system
        spoil(emmc.slot("a"))
    ran = bench.update(emmc, "spoilt")
    assert ran.code == 11, ran.out
    assert told in ran.document["error"]["message"]
    assert emmc.boot().slot == "a"
