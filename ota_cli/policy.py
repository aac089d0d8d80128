"""Whom this device trusts, as of now: the clock and the configuration are read once, here."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Tuple

from . import BUILD_DATE
from .core.certs import CertStore, SignerPolicy
from .host.anchors import load_anchors
from .model import Device, Settings


def signer_policy(device: Device) -> SignerPolicy:
    """The rules for signers on `device`."""
    return policy_of(device.settings)


def policy_of(settings: Settings) -> SignerPolicy:
    """The rules for signers: the time now, the client's build date, `allowed_signers`."""
    return SignerPolicy(
        now=datetime.now(timezone.utc),
        build_date=datetime.fromisoformat(BUILD_DATE.replace("Z", "+00:00")),
        allowed_signers=settings.allowed_signers,
    )


def trust(device: Device) -> Tuple[CertStore, SignerPolicy]:
    """The anchors of the running system and the rules for signers."""
    return load_anchors(device.root / "etc" / "ota" / "certs"), signer_policy(device)
