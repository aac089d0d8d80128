from __future__ import annotations

from typing import Optional

import pytest

from ota_cli.core.fstab import merge

RUNNING = (
    "# device\n"
    "PARTUUID=aa /         ext4 defaults,noatime 0 1 # trailing\n"
    "UUID=boot\t/boot\text4\tdefaults\t0\t2\n"
    "UUID=efi /boot/efi vfat umask=0077 0 1\n"
    "/dev/sdz9 /extra ext4 defaults 0 0\n"
)
IMAGE = (
    "# image\n"
    "\n"
    "LABEL=root  / ext4 ro 0 0\n"
    "tmpfs /tmp tmpfs\n"
    "proc  /proc proc defaults 0\n"
    "  # indented comment\n"
    "UUID=x /boot ext2 ro 0 0\n"
    "/dev/sr0\t/media\tiso9660 noauto # trailing comment"
)


def test_device_lines_come_from_the_running_slot_and_all_others_stay() -> None:
    assert merge(IMAGE, RUNNING, "PARTUUID=bb") == (
        "# image\n"
        "\n"
        "PARTUUID=bb /         ext4 defaults,noatime 0 1 # trailing\n"
        "tmpfs /tmp tmpfs\n"
        "proc  /proc proc defaults 0\n"
        "  # indented comment\n"
        "UUID=boot\t/boot\text4\tdefaults\t0\t2\n"
        "/dev/sr0\t/media\tiso9660 noauto # trailing comment\n"
        "UUID=efi /boot/efi vfat umask=0077 0 1\n"
    )


def test_directory_slots_keep_the_running_root_line() -> None:
    assert "\nPARTUUID=aa /         ext4" in merge(IMAGE, RUNNING, None)


def test_extra_lines_of_the_running_slot_do_not_leak() -> None:
    assert "/extra" not in merge(IMAGE, RUNNING, None)


@pytest.mark.parametrize(
    "text",
    ["", "# only comments\n", "a /x\n", "a /x ext4", "a\t/x\text4\tdefaults\n", "one\n\n\n", "\n"],
)
def test_an_image_without_device_lines_stays_byte_for_byte(text: str) -> None:
    assert merge(text, "", None) == text
    assert merge(text, None, "PARTUUID=bb") == text


def test_merging_again_changes_nothing() -> None:
    once = merge(IMAGE, RUNNING, "PARTUUID=bb")
    assert merge(once, RUNNING, "PARTUUID=bb") == once


def test_an_image_without_fstab_gets_the_device_lines() -> None:
    assert merge(None, "UUID=r / ext4\nswap none swap\n", "PARTUUID=b") == "PARTUUID=b / ext4\n"


@pytest.mark.parametrize("running", [None, ""])
def test_nothing_anywhere_stays_nothing(running: Optional[str]) -> None:
    assert merge(None, running, "PARTUUID=b") == ""


def test_a_boot_line_of_another_device_is_dropped_when_this_one_has_none() -> None:
    image = "UUID=x / ext4\nUUID=y /boot ext4\nt /tmp tmpfs"
    assert merge(image, "UUID=r / ext4\n", None) == "UUID=r / ext4\nt /tmp tmpfs"


def test_a_running_slot_without_fstab_leaves_the_lines_of_the_image() -> None:
    image = "UUID=x / ext4 ro\nUUID=y /boot ext4\n"
    assert merge(image, None, "PARTUUID=b") == "PARTUUID=b / ext4 ro\nUUID=y /boot ext4\n"


def test_several_lines_for_one_mount_point_stay_together() -> None:
    running = "a / ext4\nb / ext4 remount\n"
    assert merge("x / ext4\ny /boot/ ext4\nz / xfs\n", running, None) == running


def test_line_separators_of_unicode_do_not_separate() -> None:
    image = "t /x tmpfs defaults # a\u2028u / ext4\n"
    assert merge(image, "r / ext4\n", None) == image + "r / ext4\n"


def test_a_comment_about_the_root_is_no_root_line() -> None:
    assert merge("#UUID=1 / ext4\n", "", None) == "#UUID=1 / ext4\n"
