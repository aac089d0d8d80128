"""What Debian's kernel and initramfs packages run, so that a slot boots what they install and a
trial that comes as far as its initramfs never ends in a shell.

`/etc/kernel/postinst.d` and `postrm.d` are run when a kernel comes or goes (Debian kernel
handbook, "Kernel hooks"), `/etc/initramfs/post-update.d` when an initramfs was made
(update-initramfs(8)), `init-bottom` inside the initramfs before init is started
(initramfs-tools(7)); each is used where its parent directory is there.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

_DIRECTORIES = ("/etc/kernel/postinst.d", "/etc/kernel/postrm.d", "/etc/initramfs/post-update.d")

# A failure must not leave packages half configured: the old copies boot, and `ota status` warns.
_KERNEL_HOOK = """\
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

#: Goes into an initramfs when that is made, so `update-initramfs -u` has to follow it.
INITRAMFS_SCRIPT = "/etc/initramfs-tools/scripts/init-bottom/ota"

# Where init is missing, Debian's initramfs starts /bin/sh in its place and waits for a person.
# Its `panic` reboots instead, for the kernel line of a trial says `panic=`.
_INITRAMFS_SCRIPT = """\
#!/bin/sh
# Written by ota: a system on trial that has no init gives up.
if [ "$1" = prereqs ]; then
  exit 0
fi
read -r line </proc/cmdline
case " $line " in
  *" ota.trial=1 "*) ;;
  *) exit 0 ;;
esac
if ! run-init -n "$rootmnt" "${init:-/sbin/init}"; then
  . /scripts/functions
  panic "ota: the new system has no ${init:-/sbin/init}"
fi
exit 0
"""


class Hook(NamedTuple):
    """An executable script at an absolute path."""

    path: str
    text: str


def hooks() -> Tuple[Hook, ...]:
    """The hooks of a system whose kernels come from packages."""
    kernel_hooks = (Hook(f"{directory}/zz-ota", _KERNEL_HOOK) for directory in _DIRECTORIES)
    return (*kernel_hooks, Hook(INITRAMFS_SCRIPT, _INITRAMFS_SCRIPT))
