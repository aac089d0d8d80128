from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest

from ota_cli.core.grubcfg import (
    RULE,
    arguments_file,
    part,
    read_arguments_file,
    rule_of,
    sources_custom,
    with_part,
)
from ota_cli.errors import BootRefused
from tests.support.boot import GRUB_CFG

needs_script_check = pytest.mark.skipif(
    not shutil.which("grub-script-check"),
    reason="grub-script-check (package grub-common) is not installed",
)

WORDS = ["quiet", "a=b c", "$root", "`x`", '"', ";", "{", "#", "*", "é", "it's", "a&&b"]


def check_script(text: str, path: Path) -> None:
    path.write_text(text)
    subprocess.run(["grub-script-check", path], check=True)


@needs_script_check
def test_grub_accepts_the_script(tmp_path: Path) -> None:
    check_script(with_part('menuentry "x" { true }\n'), tmp_path / "custom.cfg")


@needs_script_check
@pytest.mark.parametrize("words", [[], ["quiet"], WORDS])
def test_grub_accepts_an_arguments_file(tmp_path: Path, words: List[str]) -> None:
    check_script(arguments_file(words, True), tmp_path / "arguments.cfg")


def test_only_literal_entries_become_the_default() -> None:
    chosen = [line.strip() for line in part().splitlines() if "set default" in line]
    assert chosen == ['set default="ota-a"', 'set default="ota-b"']


def test_a_trial_is_chosen_only_after_it_was_used_up() -> None:
    lines = [line.strip() for line in part().splitlines()]
    for number, line in enumerate(lines):
        if "ota.trial=1" in line:
            assert lines[number - 2] == 'if save_env --file "$ota_home/bootenv" ota_trial; then'


def test_every_entry_ends_in_a_reboot() -> None:
    entries = part().split("menuentry ")[1:]
    assert len(entries) == 2
    for entry in entries:
        assert "--unrestricted {" in entry
        assert entry.split("\n}\n")[0].endswith("\n  reboot")


def test_the_text_of_others_is_kept_around_our_part() -> None:
    before, after = "set color=x\n", "menuentry 'mine' { true }\n"
    assert with_part(before + part() + after) == before + after + part()
    assert with_part(before.rstrip("\n")) == before + part()


def test_putting_our_part_in_twice_changes_nothing() -> None:
    once = with_part("foreign\n")
    assert with_part(once) == once
    assert rule_of(once) == RULE


def test_an_older_part_is_replaced_and_a_newer_one_kept() -> None:
    old = part().replace(f"rule {RULE}", "rule 0").replace("save_env", "anything")
    new = part().replace(f"rule {RULE}", f"rule {RULE + 1}")
    assert with_part(f"x\n{old}") == f"x\n{part()}"
    assert with_part(f"x\n{new}") == f"x\n{new}"


def test_duplicated_parts_become_one() -> None:
    assert with_part(part() + "x\n" + part()) == "x\n" + part()


def test_refuses_a_part_without_its_end() -> None:
    torn = part()[: part().index("menuentry")]
    assert rule_of(torn) is None
    with pytest.raises(BootRefused):
        with_part(torn + "somebody's line\n")


def test_debians_grub_cfg_sources_custom_cfg() -> None:
    assert sources_custom(GRUB_CFG)
    assert not sources_custom("# source $prefix/custom.cfg\nmenuentry x { true }\n")
    assert not sources_custom("echo custom.cfg\n")


@pytest.mark.parametrize("initrd", [True, False])
def test_arguments_survive_the_file(initrd: bool) -> None:
    assert read_arguments_file(arguments_file(WORDS, initrd).encode()) == (WORDS, initrd)


@pytest.mark.parametrize("text", ["", "setparams 'a'\n", "set x=1\nset ota_initrd=no\n"])
def test_refuses_a_damaged_arguments_file(text: str) -> None:
    with pytest.raises(BootRefused):
        read_arguments_file(text.encode())
