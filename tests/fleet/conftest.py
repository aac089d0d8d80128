"""A vehicle with an image server."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from tests.conftest import Images
from tests.support.fleet import Fleet, fleet
from tests.support.nginx import Nginx


class Vehicle(NamedTuple):
    """All ECUs, and the server they know from their `ota.yml`."""

    fleet: Fleet
    server: Nginx

    def versions(self) -> dict[str, str]:
        """What each ECU would boot next."""
        found = {}
        for name, ecu in self.fleet.ecus.items():
            status = ecu.ota("status", "--no-ecus", "--json").result
            found[name] = status["slots"][status["next"]]["version"]
        return found


@pytest.fixture
def vehicle(tmp_path: Path, first_directory_device: Path, images: Images) -> Iterator[Vehicle]:
    with fleet(tmp_path, first_directory_device) as ecus:
        address, inside = ecus.network.addresses["server"], ecus.network.namespace("server")
        with Nginx(images.directory, address, namespace=inside) as server:
            for ecu in ecus.ecus.values():
                (ecu.root / "etc/ota/server.pem").write_bytes(server.cacert.read_bytes())
                settings = ecu.root / "etc/ota/ota.yml"
                pem = ecu.root / "etc/ota/server.pem"
                settings.write_text(f"{settings.read_text()}server: {server.url}\ncacert: {pem}\n")
            yield Vehicle(ecus, server)
