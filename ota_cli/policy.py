"""Whom this device trusts, as of now: the clock and the configuration are read once, here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional, Tuple

from . import BUILD_DATE
from .core.certs import CertStore, SignerPolicy
from .core.claims import parse_date
from .core.record import Record
from .host import store
from .host.anchors import load_anchors
from .model import Device, Settings


def signer_policy(device: Device, record: Optional[Record] = None) -> SignerPolicy:
    """The rules for signers on `device`, which remembers `record`; read here by default.

    Raises ConfigError.
    """
    floor = (record or store.load_record(device)).time_floor
    return replace(policy_of(device.settings), confirmed=parse_date(floor) if floor else None)


def policy_of(settings: Settings) -> SignerPolicy:
    """The rules for signers: the time now, the client's build date, `allowed_signers`."""
    return SignerPolicy(
        now=datetime.now(timezone.utc),
        build_date=parse_date(BUILD_DATE),
        allowed_signers=settings.allowed_signers,
    )


def trust(device: Device, record: Optional[Record] = None) -> Tuple[CertStore, SignerPolicy]:
    """The anchors of the running system and the rules for signers, see `signer_policy`."""
    return load_anchors(device.root / "etc" / "ota" / "certs"), signer_policy(device, record)
