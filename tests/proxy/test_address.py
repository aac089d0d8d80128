"""Where the ECUs below reach the proxy of this one."""

from __future__ import annotations

import pytest

from ota_cli.errors import ConfigError
from ota_cli.model import EcuInfo, Secondary
from ota_cli.proxy.address import proxy_url

BELOW = (Secondary("sub", "10.0.0.2"),)


@pytest.mark.parametrize(
    ("listens", "url"),
    [
        ("10.0.0.1:8082", "http://10.0.0.1:8082"),
        ("0.0.0.0:8082", "http://10.0.0.1:8082"),
        (":::8082", "http://10.0.0.1:8082"),
        ("fd00::1:8082", "http://[fd00::1]:8082"),
    ],
)
def test_clients_name_an_address_that_they_can_reach(listens: str, url: str) -> None:
    assert proxy_url(EcuInfo(ip_addr="10.0.0.1", secondaries=BELOW), listens) == url


def test_an_ecu_that_knows_no_address_of_its_own_is_told() -> None:
    with pytest.raises(ConfigError):
        proxy_url(EcuInfo(secondaries=BELOW), "0.0.0.0:8082")
