"""Kernels in a `/boot` directory: which is the newest, and which files belong to it.

Field images hold several kernels side by side; text order and "the last one" pick the wrong
one (`6.8.0-9` and `6.8.0-10`, `6.8.0-rc1` and `6.8.0`).
"""

from __future__ import annotations

import re
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

_TOKENS = re.compile(r"[0-9]+|[A-Za-z]+|~")
_PRE_RELEASES = frozenset({"~", "dev", "alpha", "beta", "pre", "rc"})
_NO_KERNELS = re.compile(r"\.(old|bak|orig|dpkg-\w+|ucf-\w+|ota-new|hmac|sig|signed)$")

_VERSIONED = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}.img", "initrd-{}")
_PLAIN = ("initrd.img", "initramfs.img", "initrd")

_Key = Tuple[Tuple[int, int, str], ...]


class KernelNames(NamedTuple):
    """Names in `/boot` of one system: `version` is empty for a plain `vmlinuz`."""

    kernel: str
    initrd: Optional[str]
    version: str


def version_key(version: str) -> _Key:
    """Sorts kernel versions: numbers by value, `rc` and the like before the release.

    Any two strings compare; separators only separate.
    """
    return (*(_token_key(token) for token in _TOKENS.findall(version)), (1, 0, ""))


def kernels(names: Iterable[str]) -> List[KernelNames]:
    """All kernels among the `names` of regular files (no symlinks) of a `/boot`, newest first."""
    present = frozenset(names)
    versions = [
        name[len("vmlinuz-") :]
        for name in present
        if name.startswith("vmlinuz-") and _is_kernel(name)
    ]
    versions.sort(key=lambda version: (version_key(version), version), reverse=True)
    found = [_with_initrd(f"vmlinuz-{v}", v, _versioned(v), present) for v in versions]
    if "vmlinuz" in present:
        found.append(_with_initrd("vmlinuz", "", _PLAIN, present))
    return found


def newest_kernel(names: Iterable[str]) -> Optional[KernelNames]:
    """The newest kernel among `names`; a plain `vmlinuz` only where no name has a version."""
    found = kernels(names)
    return found[0] if found else None


def boot_names(version: str) -> FrozenSet[str]:
    """Every name a `/boot` may hold for the kernel `version`."""
    others = (f"vmlinuz-{version}", f"config-{version}", f"System.map-{version}")
    return frozenset((*others, *_versioned(version)))


def _token_key(token: str) -> Tuple[int, int, str]:
    """Rank: pre-release, end of the version (see `version_key`), word, number."""
    if token.isdigit():
        return (3, int(token), "")
    return (0 if token.lower() in _PRE_RELEASES else 2, 0, token)


def _is_kernel(name: str) -> bool:
    return not _NO_KERNELS.search(name) and "-rescue-" not in name


def _versioned(version: str) -> Tuple[str, ...]:
    return tuple(pattern.format(version) for pattern in _VERSIONED)


def _with_initrd(
    kernel: str, version: str, candidates: Iterable[str], present: FrozenSet[str]
) -> KernelNames:
    initrd = next((name for name in candidates if name in present), None)
    return KernelNames(kernel, initrd, version)
