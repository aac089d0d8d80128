from __future__ import annotations

import itertools
from typing import List

import pytest

from ota_cli.core.kernels import KernelNames, boot_names, kernels, newest_kernel, version_key

IN_ORDER = [
    "5.4.0-9-generic",
    "5.4.0-10-generic",
    "5.15.0-1-generic",
    "6.8.0-rc1",
    "6.8.0-rc2",
    "6.8.0-rc10",
    "6.8.0",
    "6.8.0-31-generic",
    "6.8.1",
    "6.10.3-amd64",
]


def test_versions_sort_by_number_and_candidates_before_releases() -> None:
    for older, newer in itertools.combinations(IN_ORDER, 2):
        assert version_key(older) < version_key(newer), (older, newer)


def test_any_two_versions_compare() -> None:
    strange = ["", "-", "abc", "6", "6.x", "6.8+", "6.8~rc1", "rc", "²", "6.1-тест", "1a2b", "a1b2"]
    sorted([*strange, *IN_ORDER], key=version_key)


def test_the_newest_kernel_comes_with_its_own_initrd() -> None:
    names = [
        "vmlinuz-6.8.0-9-generic", "initrd.img-6.8.0-9-generic", "vmlinuz-6.8.0-10-generic",
        "initrd.img-6.8.0-10-generic", "config-6.8.0-10-generic", "grub", "efi",
        "vmlinuz-6.8.0-11-generic.old", "vmlinuz-6.8.0-12-generic.dpkg-new",
    ]  # fmt: skip
    assert newest_kernel(names) == KernelNames(
        "vmlinuz-6.8.0-10-generic", "initrd.img-6.8.0-10-generic", "6.8.0-10-generic"
    )


@pytest.mark.parametrize(
    ("names", "initrd"),
    [
        (["vmlinuz-6.1", "initramfs-6.1.img"], "initramfs-6.1.img"),
        (["vmlinuz-6.1", "initrd-6.1"], "initrd-6.1"),
        (["vmlinuz-6.1", "initrd.img-6.0"], None),
    ],
)
def test_initrds_of_other_distributions_are_found(names: List[str], initrd: str) -> None:
    assert newest_kernel(names) == KernelNames("vmlinuz-6.1", initrd, "6.1")


def test_a_plain_kernel_counts_only_without_versioned_ones() -> None:
    assert newest_kernel(["vmlinuz", "initrd.img"]) == KernelNames("vmlinuz", "initrd.img", "")
    assert newest_kernel(["vmlinuz", "vmlinuz-5.4"]) == KernelNames("vmlinuz-5.4", None, "5.4")


def test_rescue_kernels_are_never_the_newest() -> None:
    assert newest_kernel(["vmlinuz-0-rescue-ab12", "vmlinuz-9-rescue-cd"]) is None


def test_without_a_kernel_there_is_none() -> None:
    assert newest_kernel([]) is None
    assert kernels(["initrd.img-6.1", "config-6.1"]) == []


def test_every_file_of_a_version_is_known() -> None:
    assert {"vmlinuz-6.1", "initrd.img-6.1", "config-6.1", "System.map-6.1"} <= boot_names("6.1")
