"""The environment block, judged by GRUB's own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Optional, Tuple

import pytest

from ota_cli.core.grubenv import (
    BLOCK_BYTES,
    SECTOR_BYTES,
    BootVariables,
    boot_variables,
    compose,
    foreign_variables,
    head,
    listing,
    parse,
)
from ota_cli.errors import BootRefused
from ota_cli.model import SlotName
from tests.support.boot import grub_lists, needs_grub_editenv

OURS = BootVariables("a", "b", ("a",), "20261124-0417")


def test_a_composed_block_parses_to_the_same_variables() -> None:
    others = {"saved_entry": "x", "odd": "back\\slash and\nnewline", "empty": ""}
    block = compose(OURS, others)
    assert len(block) == BLOCK_BYTES
    assert boot_variables(block) == OURS
    assert list(foreign_variables(block).items()) == list(others.items())


@needs_grub_editenv
def test_grub_editenv_reads_what_we_compose(tmp_path: Path) -> None:
    path = tmp_path / "bootenv"
    path.write_bytes(compose(OURS, {"other": "1 2"}))
    assert [f"{k}={v}" for k, v in grub_lists(path).items()] == [*listing(OURS), "other=1 2"]


@needs_grub_editenv
def test_we_read_what_grub_editenv_sets(tmp_path: Path) -> None:
    path = tmp_path / "bootenv"
    path.write_bytes(compose(OURS, {}))
    subprocess.run(["grub-editenv", path, "set", "ota_trial=0", r"theirs=a\b"], check=True)
    assert boot_variables(path.read_bytes()) == BootVariables("a", None, ("a",), OURS.txn)
    assert foreign_variables(path.read_bytes()) == {"theirs": r"a\b"}


@pytest.mark.parametrize("txn", ["", "t", "x" * 48])
@pytest.mark.parametrize("trial", [None, "a", "b"])
def test_the_head_always_has_the_same_length_inside_the_first_sector(
    trial: Optional[SlotName], txn: str
) -> None:
    made = head(BootVariables("b", trial, ("a", "b"), txn))
    assert len(made) == len(head(OURS)) < SECTOR_BYTES


def test_writing_a_head_over_a_block_leaves_the_variables_of_others_alone() -> None:
    block = compose(OURS, {"theirs": "1"})
    new = head(BootVariables("b", None, ("a", "b"), "longer-than-before-txn"))
    assert foreign_variables(new + block[len(new) :]) == {"theirs": "1"}


@pytest.mark.parametrize("txn", ["a=b\n", "x" * 49, "späte", "a b"])
def test_refuses_a_transaction_that_does_not_fit(txn: str) -> None:
    with pytest.raises(BootRefused):
        head(BootVariables("a", None, (), txn))


def test_refuses_more_variables_than_fit() -> None:
    with pytest.raises(BootRefused) as caught:
        compose(OURS, {"big": "x" * 900})
    assert caught.value.slug == "env-full"


BLOCK = compose(OURS, {"theirs": "1"})


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"", id="empty, as grub-editenv leaves it at a power cut"),
        pytest.param(BLOCK[:512], id="one sector"),
        pytest.param(BLOCK + b"#", id="one byte more"),
        pytest.param(bytes(1024), id="zeros"),
        pytest.param(b"x" + BLOCK[1:], id="another first line"),
        pytest.param(BLOCK[:-1] + b"x", id="something in the filling"),
        pytest.param(BLOCK[:200] + b"\0" * 824, id="zeros behind"),
        pytest.param(BLOCK.replace(b"theirs=1", b"theirs:1"), id="no equals sign"),
        pytest.param(BLOCK.replace(b"theirs=1", b"=heirs=1"), id="no name"),
        pytest.param(compose(OURS, {"x": "1", "y": "2"}).replace(b"y=2", b"x=2"), id="twice"),
    ],
)
def test_refuses_a_malformed_block_with_the_way_to_repair(block: bytes) -> None:
    with pytest.raises(BootRefused) as caught:
        parse(block)
    assert caught.value.exit_code == 15
    assert "ota setup --repair" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        (b"ota_default=a", b"ota_default=c"),
        (b"ota_trial=b", b"ota_trial=1"),
        (b"ota_good_a=1", b"ota_good_a=y"),
        (b"ota_good_b=0\n", b""),
        (b"ota_default=a\nota_trial=b\n", b"ota_trial=b\nota_default=a\n"),
        (b"ota_txn=2", b"ota_txn="),
    ],
)
def test_refuses_our_variables_when_they_are_not_as_we_write_them(
    change: Tuple[bytes, bytes],
) -> None:
    old, new = change
    assert old in BLOCK
    block = BLOCK.replace(old, new)[:BLOCK_BYTES].ljust(BLOCK_BYTES, b"#")
    with pytest.raises(BootRefused):
        boot_variables(block)
