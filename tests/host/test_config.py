"""Finding the configuration files: only one that is absent means the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from ota_cli.errors import ConfigError, OtaError
from ota_cli.host.config import MAX_CONFIG_BYTES, load_ecu_info, load_proxy_info, load_settings
from ota_cli.model import EcuInfo, ProxyInfo, Settings


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    (tmp_path / "ota").mkdir()
    return tmp_path


def test_without_files_the_defaults_hold(tmp_path: Path) -> None:
    assert load_ecu_info(tmp_path) == EcuInfo(ecu_id="autoware")
    assert load_proxy_info(tmp_path) == (ProxyInfo(), [])
    assert load_settings(tmp_path) == Settings()


@pytest.mark.parametrize("ending", ["yml", "yaml"])
def test_both_endings_are_read(boot: Path, ending: str) -> None:
    (boot / "ota" / f"ecu_info.{ending}").write_text("\ufeffecu_id: main\r\n", encoding="utf-8")
    assert load_ecu_info(boot).ecu_id == "main"


def test_two_files_for_one_thing_are_refused(boot: Path) -> None:
    for ending in ("yml", "yaml"):
        (boot / "ota" / f"ecu_info.{ending}").write_text("ecu_id: main\n")
    with pytest.raises(ConfigError, match="both there"):
        load_ecu_info(boot)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def looping(path: Path) -> None:
    path.symlink_to(path.name)


def directory(path: Path) -> None:
    path.mkdir()


def not_text(path: Path) -> None:
    path.write_bytes(b"ecu_id: \xff\n")


def huge(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))


@pytest.mark.parametrize("make", [dangling, looping, directory, not_text, huge])
def test_a_file_that_can_not_be_read_is_never_the_default_identity(
    boot: Path, make: Callable[[Path], None]
) -> None:
    path = boot / "ota" / "ecu_info.yml"
    make(path)
    with pytest.raises(OtaError) as refusal:
        load_ecu_info(boot)
    assert refusal.value.exit_code == 78
    assert str(path) in refusal.value.message
