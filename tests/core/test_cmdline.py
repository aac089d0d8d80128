from __future__ import annotations

import pytest

from ota_cli.core.cmdline import OtaArguments, build, grub_words, parse, split
from ota_cli.errors import BootRefused

FALL_BACK = "panic=10 oops=panic systemd.crash_reboot=1 rd.shell=0 rd.emergency=reboot"


def test_reads_slot_transaction_and_trial() -> None:
    line = "BOOT_IMAGE=/k root=PARTUUID=1 ota.slot=b ota.txn=t-1 quiet ota.trial=1\n"
    assert parse(line) == OtaArguments("b", "t-1", True)


def test_the_last_of_equal_arguments_wins() -> None:
    assert parse("ota.txn=old ota.slot=a ota.slot=b ota.txn=new").txn == "new"


@pytest.mark.parametrize(
    "line", ["", "quiet", "ota.slot=c", "ota.slot", "xota.slot=a", "ota.trial=0"]
)
def test_a_line_that_names_no_slot_says_nothing(line: str) -> None:
    assert parse(line) == OtaArguments()


def test_quoted_arguments_are_one_argument() -> None:
    line = 'a="b c" "d=e f" x="ota.slot=a"'
    assert split(line) == ['a="b c"', '"d=e f"', 'x="ota.slot=a"']
    assert parse(line).slot is None


def test_the_new_line_keeps_foreign_arguments_and_replaces_ours() -> None:
    running = (
        'BOOT_IMAGE=(hd0,gpt1)/k root=/dev/sda2 ro console=ttyS0,115200 dyndbg="file a.c +p" '
        f"ota.slot=a ota.txn=old {FALL_BACK} ota.trial=1 ota.txn=older"
    )
    assert build(running, None, "b", "t2", "PARTUUID=77") == (
        'console=ttyS0,115200 dyndbg="file a.c +p" '
        f"root=PARTUUID=77 ota.slot=b ota.txn=t2 {FALL_BACK}"
    )


def test_building_twice_changes_nothing_more() -> None:
    once = build("quiet rw", None, "b", "t", "PARTUUID=7")
    assert build(once, None, "b", "t", "PARTUUID=7") == once


def test_arguments_of_the_image_replace_those_of_the_running_system() -> None:
    image = "# for the bench\nisolcpus=1,2\n  root=/dev/wrong rw\n"
    assert build("quiet", image, "a", "t", None) == f"isolcpus=1,2 ota.slot=a ota.txn=t {FALL_BACK}"


def test_a_deadline_other_than_the_default_is_named_once() -> None:
    once = build("quiet ota.deadline=1", None, "a", "t", None, 90)
    assert once == f"quiet ota.slot=a ota.txn=t ota.deadline=90 {FALL_BACK}"
    assert build(once, None, "a", "t", None) == f"quiet ota.slot=a ota.txn=t {FALL_BACK}"


def test_what_goes_to_init_stays_behind_the_dashes() -> None:
    assert build("quiet -- single", None, "a", "t", None).endswith("rd.emergency=reboot -- single")


def test_options_with_equals_signs_in_their_values_survive() -> None:
    line = build("nfsroot=1.2.3.4:/x,vers=3 GRUB=a=b=c", None, "a", "t", None)
    assert line.startswith("nfsroot=1.2.3.4:/x,vers=3 GRUB=a=b=c ")


def test_grub_gets_single_words_without_quotes() -> None:
    assert grub_words('quiet dyndbg="file a.c +p" $x=`y`') == [
        "quiet",
        "dyndbg=file a.c +p",
        "$x=`y`",
    ]


@pytest.mark.parametrize("line", [r"a=\x41", "a='b'", "a=b\x01"])
def test_refuses_arguments_that_grub_would_change(line: str) -> None:
    with pytest.raises(BootRefused) as caught:
        grub_words(line)
    assert "/etc/ota/cmdline" in caught.value.hint
