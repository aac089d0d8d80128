"""The configuration files: what they may say, and that a broken one is never another identity."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from ota_cli.core.config import parse_ecu_info, parse_proxy_info, parse_rate, parse_settings
from ota_cli.errors import ConfigError
from ota_cli.model import (
    DeviceSlot,
    DirectorySlot,
    EcuInfo,
    FileSlot,
    ProxyInfo,
    Secondary,
    Settings,
)


def ecu(text: str) -> EcuInfo:
    return parse_ecu_info(text, "ecu_info.yml")


def proxy(text: str) -> ProxyInfo:
    return parse_proxy_info(text, "proxy_info.yml")[0]


def settings(text: str, **environment: str) -> Settings:
    return parse_settings(text, "ota.yml", environment)


def complaint(read: Callable[[str], object], text: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        read(text)
    assert refusal.value.exit_code == 78
    return refusal.value.message


# --- any of the files --------------------------------------------------------------------------


@pytest.mark.parametrize("read", [ecu, proxy, settings])
@pytest.mark.parametrize(
    "text",
    [
        "just text",
        "- a\n- list\n",
        "a: [",
        "a: 1\na: 2\n",
        "? [a]\n: b\n",
        "\ta: 1\n",
        "a: \x07\n",
        "a: 1\n---\nb: 2\n",
        "a: !!python/object/apply:os.system [ls]\n",
        "a: !mine b\n",
        "a: !!bool maybe\n",
        "a: !!bool [yes]\n",
        "a: !!map [1]\n",
        "a: !!seq x\n",
        "a: !!str [x]\n",
        "<<: {a: 1}\n",
        "a: &a [*a]\n",
        "a: " + "[" * 5_000,
    ],
    ids=lambda each: repr(each)[:20] if isinstance(each, str) else each.__name__,
)
def test_refuses_what_is_not_one_plain_mapping(read: Callable[[str], object], text: str) -> None:
    assert ".yml" in complaint(read, text)


def test_complaints_name_file_and_line() -> None:
    text = "# a comment\necu_id: main\nsecondaries:\n  - ecu_id: p1\n    ip_addr: [1]\n"
    assert complaint(ecu, text) == "ecu_info.yml:5: expected text"


def test_aliases_that_multiply_do_not_take_the_memory_of_the_device() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 30)]
    assert ecu("ecu_id: main\n" + "".join(lines)).ecu_id == "main"


# --- ecu_info.yml ------------------------------------------------------------------------------


def test_an_ecu_with_a_name_only_is_alone_and_updates_itself() -> None:
    assert ecu("ecu_id: main") == EcuInfo(ecu_id="main", available_ecu_ids=("main",))


def test_everything_an_ecu_can_say() -> None:
    info = ecu(
        """\
format_version: 1
ecu_id: main
ip_addr: 10.0.0.1
bootloader: jetson-cboot
compatible: bench-2
slots: {a: {device: PARTUUID=12-01}, b: {device: /dev/sda3}}
secondaries:
  - {ecu_id: p1, ip_addr: 10.0.0.2}
  - {ecu_id: p2, ip_addr: fe80::1, ssh_user: ota, ssh_port: 2222, identity_file: /etc/key}
available_ecu_ids: [main, p1, p2]
some_key_of_the_field: {it: ignores}
"""
    )
    assert info == EcuInfo(
        ecu_id="main",
        ip_addr="10.0.0.1",
        bootloader="cboot",
        compatible="bench-2",
        slots={"a": DeviceSlot("PARTUUID=12-01"), "b": DeviceSlot("/dev/sda3")},
        secondaries=(
            Secondary("p1", "10.0.0.2"),
            Secondary("p2", "fe80::1", "ota", 2222, "/etc/key"),
        ),
        available_ecu_ids=("main", "p1", "p2"),
    )


@pytest.mark.parametrize(
    "text", ["007", "1_000", "0x1f", "1:30", "2027-01-01", "2027-13-45", "1e3"]
)
def test_a_name_that_looks_like_a_number_or_a_date_is_taken_as_written(text: str) -> None:
    assert ecu(f"ecu_id: {text}").ecu_id == text


P1 = "{ecu_id: p1, ip_addr: 10.0.0.2}"
#: Each would be another word, option, path or host where it is used.
BAD_SECONDARIES = (
    "ecu_id: '../p1', ip_addr: 10.0.0.2",
    "ecu_id: 'p 1', ip_addr: 10.0.0.2",
    "ecu_id: p%31, ip_addr: 10.0.0.2",
    "ecu_id: p1, ip_addr: -oProxyCommand=reboot",
    "ecu_id: p1, ip_addr: root@10.0.0.2",
    "ecu_id: p1, ip_addr: 'fe80::1%eth0;reboot'",
    "ecu_id: p1, ip_addr: 10.0.0.2 reboot",
    "ecu_id: p1, ip_addr: 10.0.0.2, ssh_user: -l",
    "ecu_id: p1, ip_addr: 10.0.0.2, ssh_user: 'a b'",
    "ecu_id: p1, ip_addr: 10.0.0.2, identity_file: key",
    "ecu_id: p1, ip_addr: 10.0.0.2, ssh_usr: root",
)


@pytest.mark.parametrize("address", ["10.0.0.2", "fe80::1%eth0", "fd00::2", "p1.local", "p1"])
def test_a_secondary_is_found_by_address_or_name(address: str) -> None:
    info = ecu(f"ecu_id: main\nsecondaries: [{{ecu_id: p1, ip_addr: '{address}', x: y}}]")
    assert info.secondaries == (Secondary("p1", address),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ip_addr: 10.0.0.1",
        "ecu_id:",
        "ecu_id: ''",
        "ecu_id: yes",
        'ecu_id: "a\\0b"',
        'ecu_id: "a\\eb"',
        "ecu_id: [main]",
        "ecu_id: main\nformat_version: 2",
        "ecu_id: main\nbootloader: uboot",
        "ecu_id: main\nbootloader: [grub]",
        "ecu_id: main\nsecondaries: p1",
        "ecu_id: main\nsecondaries: [p1]",
        "ecu_id: main\nsecondaries: [{ecu_id: p1}]",
        "ecu_id: main\nsecondaries: [{ecu_id: p1, ip_addr: 10.0.0.2, ssh_port: 70000}]",
        "ecu_id: main\nsecondaries: [{ecu_id: p1, ip_addr: 10.0.0.2, ssh_port: '²²'}]",
        *(f"ecu_id: main\nsecondaries: [{{{keys}}}]" for keys in BAD_SECONDARIES),
        f"ecu_id: main\nsecondaries: [{P1}, {P1}]",
        f"ecu_id: p1\nsecondaries: [{P1}]",
        "ecu_id: main\nslots: {a: {device: /dev/sda2}}",
        "ecu_id: main\nslots: {a: {device: sda2}, b: {device: /dev/sda3}}",
        "ecu_id: main\nslots: {a: {device: /dev/sda2}, b: {device: /dev/sda2}}",
        "ecu_id: main\nslots: {a: {file: a.img}, b: {file: /b.img}}",
        "ecu_id: main\nslots: {a: {file: /a, directory: /a}, b: {file: /b}}",
        "ecu_id: main\nslots: {a: {file: /a}, b: {file: /b}, c: {file: /c}}",
    ],
)
def test_refuses_an_ecu_it_can_not_be_sure_of(text: str) -> None:
    assert complaint(ecu, text).startswith("ecu_info.yml:")


def test_slots_may_be_image_files_or_directories() -> None:
    info = ecu("ecu_id: m\nslots: {a: {file: /srv/a.img}, b: {directory: /srv/b}}")
    assert info.slots == {"a": FileSlot(Path("/srv/a.img")), "b": DirectorySlot(Path("/srv/b"))}


# --- proxy_info.yml ----------------------------------------------------------------------------


def test_a_file_that_says_nothing_turns_off_what_is_on_without_a_file() -> None:
    assert proxy("") == ProxyInfo(enable_local_ota_proxy=False, gateway=False)
    assert ProxyInfo() == ProxyInfo(enable_local_ota_proxy=True, gateway=True)


def test_the_older_key_alone_starts_our_proxy() -> None:
    assert proxy("enable_ota_proxy: true").enable_local_ota_proxy


def test_the_older_key_with_an_upper_proxy_means_that_the_client_asks_it() -> None:
    found = proxy("enable_ota_proxy: 'true'\nupper_ota_proxy: http://10.0.0.1:8082\n")
    assert not found.enable_local_ota_proxy
    assert found.upper_ota_proxy == "http://10.0.0.1:8082"


def test_the_newer_key_wins_over_the_older_one() -> None:
    assert not proxy("enable_ota_proxy: true\nenable_local_ota_proxy: false").enable_local_ota_proxy


def test_an_unknown_key_is_a_warning_with_its_line() -> None:
    _, warnings = parse_proxy_info("gateway: true\ngatewai: true\n", "proxy_info.yml")
    assert warnings == ["proxy_info.yml:2: unknown key gatewai"]


@pytest.mark.parametrize(
    "text",
    [
        "gateway: maybe",
        "gateway: 1",
        "upper_ota_proxy: 10.0.0.1:8082",
        "upper_ota_proxy: https://10.0.0.1",
        "upper_ota_proxy: http://user:secret@10.0.0.1",
        "upper_ota_proxy: [http://10.0.0.1]",
        "local_ota_proxy_listen_port: 0",
        "local_ota_proxy_listen_port: 65536",
        "local_ota_proxy_listen_port: 80.5",
    ],
)
def test_refuses_wrong_types_in_the_proxy_settings(text: str) -> None:
    assert complaint(proxy, text).startswith("proxy_info.yml:1:")


# --- ota.yml -----------------------------------------------------------------------------------


def test_without_anything_the_documented_defaults_hold() -> None:
    assert settings("") == Settings()


def test_settings_are_read_with_their_units() -> None:
    found = settings(
        "server: https://updates/\nlimit_rate: 2M\nconnections: 8\nno_progress_timeout: 30\n"
        "persist: [/etc/ota, /etc/ssh/ssh_host_*]\ncacert: /etc/ca.pem\nhealth_timeout: 5\n"
        "commit_deadline: 90\nfleet_deadline: 240\nrequire_all: false\n"
    )
    assert (found.server, found.limit_rate, found.connections) == ("https://updates/", 2_000_000, 8)
    assert (found.no_progress_timeout_s, found.health_timeout_s) == (30.0, 5.0)
    assert (found.commit_deadline_s, found.fleet_deadline_s) == (90, 240)
    assert not found.require_all
    assert found.persist == ("/etc/ota", "/etc/ssh/ssh_host_*")
    assert found.cacert == Path("/etc/ca.pem")


def test_the_environment_wins_over_the_file_and_an_empty_variable_says_nothing() -> None:
    assert settings("connections: 8", OTA_CONNECTIONS="4").connections == 4
    assert settings("connections: 8", OTA_CONNECTIONS="").connections == 8
    assert settings("", OTA_PERSIST="/etc/a /etc/b").persist == ("/etc/a", "/etc/b")
    assert not settings("require_all: true", OTA_REQUIRE_ALL="false").require_all


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="OTA_LIMIT_RATE"):
        settings("", OTA_LIMIT_RATE="fast")


@pytest.mark.parametrize(
    "text",
    [
        "connectionz: 8",
        "connections: 0",
        "connections: -1",
        "connections: 257",
        "connections: eight",
        "limit_rate: 0",
        "limit_rate: 2T",
        "cacert: ca.pem",
        "persist: /etc/ota",
        "persist: [etc/ota]",
        "persist: [/etc/../root]",
        "persist: [/]",
        "persist: ['/*']",
        "persist: ['/[a-z]*/x']",
        "no_progress_timeout: 0",
        "allowed_signers: abc",
        "verify_local: fast",
        "verify_writes: most",
        "commit_deadline: 0",
        "fleet_deadline: 0",
        "require_all: most",
    ],
)
def test_refuses_settings_that_would_be_ignored_or_misread(text: str) -> None:
    assert complaint(settings, text).startswith("ota.yml:1:")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500", 500), ("500K", 500_000), ("2m", 2_000_000), ("1G", 1_000_000_000)],
)
def test_rates_are_decimal_bytes_per_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "M", "1 M", "1MB", "²", "٢M"])
def test_refuses_rates_that_are_none(text: str) -> None:
    assert parse_rate(text) is None


def test_a_character_that_yaml_forbids_is_told_in_one_line_and_by_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_ecu_info("ecu_id: x\nip_addr: 1\0\n", "ecu_info.yml")
    assert raised.value.message.startswith("ecu_info.yml:2: not YAML")
    assert "\n" not in raised.value.message
