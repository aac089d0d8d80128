"""Of extlinux.conf one word changes; the expected files are written out in full."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.core.extlinux import Entry, default_entry, with_root
from ota_cli.errors import BootRefused

#: As NVIDIA's flashing tools write it.
STOCK = """\
TIMEOUT 30
DEFAULT primary

MENU TITLE L4T boot options

LABEL primary
      MENU LABEL primary kernel
      LINUX /boot/Image
      INITRD /boot/initrd
      APPEND ${cbootargs} quiet root=/dev/mmcblk0p1 rw rootwait rootfstype=ext4 \
console=ttyTCU0,115200n8 console=tty0 fbcon=map:0 net.ifnames=0

# When testing a custom kernel, it is recommended that you create a backup of
# the original kernel and add a new entry to this file so that the device can
# fallback to the original kernel. To do this:
#
# LABEL backup
#    MENU LABEL backup kernel
#    LINUX /boot/Image.backup
#    INITRD /boot/initrd
#    APPEND ${cbootargs}
"""


def test_only_the_value_of_root_changes() -> None:
    changed = with_root(STOCK, "PARTUUID=1234-02")
    assert changed == STOCK.replace("root=/dev/mmcblk0p1", "root=PARTUUID=1234-02")
    assert default_entry(changed) == Entry(
        "primary", "/boot/Image", "/boot/initrd", "", "PARTUUID=1234-02"
    )


@pytest.mark.parametrize("default", ["", "DEFAULT first\n"])
def test_without_default_the_first_entry_boots(default: str) -> None:
    text = f"{default}LABEL first\n APPEND root=x\nLABEL second\n APPEND root=y\n"
    assert with_root(text, "B") == text.replace("root=x", "root=B")


def test_the_entry_named_by_default_is_edited_and_no_other() -> None:
    text = (
        "LABEL first\n\tAPPEND root=/dev/a quiet\n"
        "LABEL second\n\tMENU LABEL first\n\tKERNEL /boot/Image\n\tFDT /boot/t.dtb\n"
        "\tAPPEND root=/dev/a\tquiet\n"
        "LABEL third\n\tAPPEND root=/dev/a\nDEFAULT second\n"
    )
    expected = text.replace("root=/dev/a\tquiet", "root=B\tquiet")
    assert with_root(text, "B") == expected
    assert default_entry(text) == Entry("second", "/boot/Image", "", "/boot/t.dtb", "/dev/a")


def test_comments_and_menus_are_no_entries() -> None:
    text = "# LABEL ghost\n#APPEND root=x\nMENU LABEL ghost\nlabel real\n append root=x # root=y\n"
    assert default_entry(text).label == "real"
    assert with_root(text, "B").startswith("# LABEL ghost\n#APPEND root=x\nMENU LABEL ghost\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\tAPPEND\troot=/dev/a\trw", "\tAPPEND\troot=B\trw"),
        ("  append   ro root=LABEL=x", "  append   ro root=B"),
        ("APPEND ${cbootargs} quiet", "APPEND ${cbootargs} quiet root=B"),
        ("APPEND ${cbootargs} quiet  \r", "APPEND ${cbootargs} quiet root=B  \r"),
        ("APPEND", "APPEND root=B"),
        ("APPEND ", "APPEND root=B"),
        ("APPEND rootwait rootfstype=ext4", "APPEND rootwait rootfstype=ext4 root=B"),
        ("APPEND nfsroot=1 root=a root=b", "APPEND nfsroot=1 root=B root=B"),
        ('APPEND x="a root=b" root=c', 'APPEND x="a root=b" root=B'),
        ('APPEND "root=a" quiet', "APPEND root=B quiet"),
        ("APPEND root=a\u00a0b quiet", "APPEND root=B quiet"),
    ],
)
def test_an_append_line_keeps_everything_but_its_root(line: str, expected: str) -> None:
    text = f"LABEL a\n LINUX /boot/Image\n{line}\n INITRD /boot/initrd\n"
    assert with_root(text, "B") == text.replace(line, expected)


def test_of_several_append_lines_the_last_counts() -> None:
    text = "LABEL a\n APPEND root=x\n APPEND root=y\n"
    assert with_root(text, "B") == text.replace("root=y", "root=B")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LABEL a\n\tLINUX /boot/Image\n\nLABEL b\n",
         "LABEL a\n\tLINUX /boot/Image\n\tAPPEND ${cbootargs} root=B\n\nLABEL b\n"),
        ("LABEL a\n  LINUX /boot/Image",
         "LABEL a\n  LINUX /boot/Image\n  APPEND ${cbootargs} root=B\n"),
        ("LABEL a\r\n  LINUX /boot/Image\r\n",
         "LABEL a\r\n  LINUX /boot/Image\r\n  APPEND ${cbootargs} root=B\r\n"),
        ("LABEL a", "LABEL a\n      APPEND ${cbootargs} root=B\n"),
    ],
)  # fmt: skip
def test_an_entry_without_append_gets_one_that_keeps_what_cboot_passes(
    text: str, expected: str
) -> None:
    assert with_root(text, "B") == expected
    assert with_root(expected, "B") == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no LABEL"),
        ("DEFAULT primary\n# LABEL primary\nMENU LABEL primary\n", "no LABEL"),
        ("DEFAULT primary\nLABEL secondary\n APPEND root=x\n", "no entry with the LABEL primary"),
        ("DEFAULT a\nLABEL a\nLABEL a\n", "2 entries with the LABEL a"),
        ("DEFAULT a\nDEFAULT b\nLABEL a\nLABEL b\n", "names a and b"),
    ],
)
def test_a_file_that_does_not_say_what_boots_is_refused(text: str, why: str) -> None:
    for read in (default_entry, lambda each: with_root(each, "B")):
        with pytest.raises(BootRefused) as caught:
            read(text)
        assert why in caught.value.message
        assert "extlinux.conf" in caught.value.hint


_LINES = st.sampled_from(
    ["LABEL a", "LABEL b", "\tAPPEND ${cbootargs} root=x quiet", "APPEND quiet", "  LINUX /boot/I",
     "MENU LABEL a", "DEFAULT a", "DEFAULT b", "# APPEND root=x", "", "TIMEOUT 30", "APPEND",
     "append root=x root=y\r"]
)  # fmt: skip


@given(st.lists(_LINES), st.booleans())
def test_one_line_at_most_differs_and_twice_is_once(lines: list[str], ends: bool) -> None:
    text = "\n".join(lines) + ("\n" if ends else "")
    try:
        changed = with_root(text, "PARTUUID=1")
    except BootRefused:
        return
    assert with_root(changed, "PARTUUID=1") == changed
    assert default_entry(changed)._replace(root=None) == default_entry(text)._replace(root=None)
    assert default_entry(changed).root == "PARTUUID=1"
    before, after = text.split("\n"), changed.split("\n")
    if len(before) == len(after):
        assert sum(one != other for one, other in zip(before, after)) <= 1
    else:
        added = next(place for place, line in enumerate(after) if line not in before)
        assert [line for line in after[:added] + after[added + 1 :] if line] == [
            line for line in before if line
        ]


def test_a_quote_without_its_end_would_swallow_the_new_word_and_is_refused() -> None:
    text = 'LABEL a\n  LINUX /Image\n  APPEND quiet="yes ro\n'
    with pytest.raises(BootRefused, match="quote"):
        with_root(text, "PARTUUID=x")
