"""A vehicle with an image server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Sequence, Set

import pytest

from tests.conftest import Images
from tests.support.fleet import BELOW, Fleet, fleet
from tests.support.nginx import Nginx

#: The order in which each finds those below it done.
BELOW_FIRST = ("p1x", "p1", "p2", "p3", "main")
ALL = set(BELOW_FIRST)


def everywhere(version: str) -> Dict[str, str]:
    return dict.fromkeys(ALL, version)


def timeless(status: Dict[str, Any]) -> Dict[str, Any]:
    """A status without what the clocks said when it was asked for."""
    kept = {key: value for key, value in status.items() if key != "time"}
    return {**kept, "ecus": [timeless(each) for each in status["ecus"]]}


class Vehicle(NamedTuple):
    """All ECUs, and the server they know from their `ota.yml`."""

    fleet: Fleet
    server: Nginx

    def versions(self) -> Dict[str, str]:
        """What each ECU would boot next."""
        return self._versions("next")

    def running(self) -> Dict[str, str]:
        """What each ECU runs."""
        return self._versions("running")

    def _versions(self, which: str) -> Dict[str, str]:
        found = {}
        for name in self.fleet.ecus:
            status = self.status(name)
            found[name] = status["slots"][status[which]]["version"]
        return found

    def status(self, name: str) -> Dict[str, Any]:
        return self.fleet[name].ota("status", "--no-ecus", "--json").result

    def confirmed(self) -> Set[str]:
        """The ECUs whose running system is confirmed."""
        return {
            name for name in self.fleet.ecus if self.status(name)["verdict"]["code"] == "confirmed"
        }

    def bring_on_trial(self) -> None:
        """All ECUs, which are armed, run on trial; those below the main ECU are healthy."""
        self.reboot(*self.fleet.ecus)
        for name in BELOW_FIRST[:-1]:
            if name in self.fleet.ecus:
                assert self.fleet[name].ota("commit").code == 0

    def reboot(self, *names: str) -> None:
        for name in names:
            self.fleet[name].reboot()


@pytest.fixture
def vehicle(tmp_path: Path, first_directory_device: Path, images: Images) -> Iterator[Vehicle]:
    with vehicle_with(tmp_path, first_directory_device, images) as made:
        yield made


@pytest.fixture
def machines(tmp_path: Path, first_directory_device: Path, images: Images) -> Iterator[Vehicle]:
    """A vehicle whose ECUs reboot, in a simulation, when `ota` says so."""
    with vehicle_with(tmp_path, first_directory_device, images, as_machines=True) as made:
        yield made


@contextmanager
def vehicle_with(
    base: Path,
    device: Path,
    images: Images,
    below: Mapping[str, Sequence[str]] = BELOW,
    *,
    as_machines: bool = False,
    cookie: str = "",
) -> Iterator[Vehicle]:
    """The ECUs of `below`, copies of `device`, and their image server while the block runs.

    `cookie`: without it the server gives nothing away.
    """
    with fleet(base, device, below, as_machines=as_machines) as ecus:
        address, inside = ecus.network.addresses["server"], ecus.network.namespace("server")
        with Nginx(images.directory, address, namespace=inside, cookie=cookie) as server:
            for ecu in ecus.ecus.values():
                (ecu.root / "etc/ota/server.pem").write_bytes(server.cacert.read_bytes())
                settings = ecu.root / "etc/ota/ota.yml"
                pem = "/etc/ota/server.pem" if as_machines else ecu.root / "etc/ota/server.pem"
                more = f"server: {server.url}\ncacert: {pem}\nfleet_deadline: 90\n"
                settings.write_text(f"{settings.read_text()}{more}")
            yield Vehicle(ecus, server)
