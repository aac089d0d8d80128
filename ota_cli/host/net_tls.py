"""TLS for the fetcher: whom it trusts and what it shows of itself."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Optional

from ..errors import ConfigError


def tls_context(
    cacert: Optional[Path], cert: Optional[Path], key: Optional[Path]
) -> ssl.SSLContext:
    """TLS 1.2 or newer with checked certificates.

    `cacert` replaces the system's CAs; `cert` (with `key`, unless it is in the same file) is
    shown to servers that ask. Raises ConfigError for files that can not be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(cacert) if cacert else None)
    except OSError as error:
        raise ConfigError(
            f"{cacert} holds no usable CA certificate: {_why(error)}",
            hint="it must be a readable PEM file",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        _show(context, cert, key)
    elif key is not None:
        raise ConfigError(f"{key} is a key without a certificate", hint="give --cert with --key")
    return context


def _show(context: ssl.SSLContext, cert: Path, key: Optional[Path]) -> None:
    try:
        context.load_cert_chain(str(cert), str(key) if key else None, _no_password)
    except OSError as error:
        pair = f"{cert} and {key}" if key else str(cert)
        raise ConfigError(
            f"{pair} can not be used as client certificate and key: {_why(error)}",
            hint="both must be readable PEM files that belong together, the key not encrypted",
        ) from None


def _no_password() -> str:
    return ""  # without this, OpenSSL would ask for one on the terminal


def _why(error: OSError) -> str:
    return error.strerror or str(error)
