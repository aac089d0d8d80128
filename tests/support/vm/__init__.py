"""A real machine: QEMU, GRUB from its disk, Debian, and `ota` inside."""
