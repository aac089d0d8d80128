"""What Debian's kernel and initramfs packages run, so that a slot boots what they install.

`/etc/kernel/postinst.d` and `postrm.d` are run when a kernel comes or goes (Debian kernel
handbook, "Kernel hooks"), `/etc/initramfs/post-update.d` when an initramfs was made
(update-initramfs(8)); each is used where its parent directory is there.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

_DIRECTORIES = ("/etc/kernel/postinst.d", "/etc/kernel/postrm.d", "/etc/initramfs/post-update.d")

# A failure must not leave packages half configured: the old copies boot, and `ota status` warns.
_TEXT = """\
#!/bin/sh
# Written by ota: the boot loader boots copies of the kernel and its initrd.
if [ ! -e /boot/ota/setup.json ] || ! command -v ota >/dev/null; then
  exit 0
fi
if ! ota setup --refresh --quiet >/dev/null; then
  echo "ota: this kernel is not what boots; run 'ota setup --refresh' when that can work" >&2
fi
exit 0
"""


class Hook(NamedTuple):
    """An executable script at an absolute path."""

    path: str
    text: str


def hooks() -> Tuple[Hook, ...]:
    """The hooks of a system whose kernels come from packages."""
    return tuple(Hook(f"{directory}/zz-ota", _TEXT) for directory in _DIRECTORIES)
