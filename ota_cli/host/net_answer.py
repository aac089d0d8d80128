"""What an answer, or none, means: which failures may pass and which exit code the others get.

408, 429, 5xx            may pass              later Unreachable
401, 403, 407            AccessDenied
404, 410                 ImageDamaged, `missing`
any other status         ImageDamaged, `refused`
redirect elsewhere       ImageDamaged, `redirects`
Content-Encoding         ImageDamaged, `content-encoding`
not the rest (206, 416)  may pass, whole       later ImageDamaged, `no-rest`
certificate of server    Unreachable, `server-certificate`
our certificate          AccessDenied, `client-certificate`
no TLS at all            Unreachable, `tls`
anything else below HTTP may pass              later Unreachable
"""

from __future__ import annotations

import ssl
import time
from typing import Iterator, Tuple, Union

import httpcore

from ..core.text import printable
from ..core.urls import without_secrets
from ..errors import AccessDenied, ImageDamaged, OtaError, Unreachable
from .net_link import Target, TransportError, header, joined, target_of
from .net_retry import Again, retry_after_s

MAX_REDIRECTS = 5
_MAX_WHY = 200
_NO_COMMON_TLS = ("WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION")
_MAY_PASS = (408, 429)


def check_answer(response: httpcore.Response, url: str) -> None:
    """Returns when the body is what was asked for. Raises Again or the final error."""
    if response.status != 200:
        raise _status_failure(response, shown(url))
    check_encoding(response, url)


def check_encoding(response: httpcore.Response, url: str) -> None:
    """Raises ImageDamaged for a body that is not the file as it is."""
    encoding = (header(response, b"content-encoding") or "").strip().lower()
    if encoding not in ("", "identity"):
        raise ImageDamaged(
            f"{shown(url)} comes with content-encoding {_clipped(encoding)}",
            hint="configure the server to send files as they are",
            slug="content-encoding",
        )


def _status_failure(response: httpcore.Response, name: str) -> Union[Again, OtaError]:
    status = response.status
    if status in (401, 403, 407):
        return AccessDenied(
            f"{name}: access is denied ({status})",
            hint="check the cookies and the client certificate, and whether they have expired",
        )
    if status in (404, 410):
        return ImageDamaged(
            f"{name} is not on the server ({status})",
            hint="check the URL; if it is right, the image is incomplete",
            slug="missing",
        )
    if status in _MAY_PASS or status >= 500:
        failure = Unreachable(
            f"{name}: the server answers {status}",
            hint="it is overloaded or out of order; run this again later",
            slug="server-error",
        )
        return Again(failure, wait_s=retry_after_s(header(response, b"retry-after"), time.time()))
    return ImageDamaged(
        f"{name}: the server answers {status}",
        hint="check the URL, and whether the server wants a client certificate (--cert, --key)",
        slug="refused",
    )


def redirected(url: str, origin: Target, location: str) -> Tuple[str, Target]:
    """Where a redirect from `url`, whose target is `origin`, leads.

    Raises ImageDamaged unless that is the same host, scheme and port, or the same host's https:
    cookies are for nobody else.
    """
    there = joined(url, location)
    target = target_of(there)
    if target is None:
        raise _redirect_failure(url, without_secrets(there or location))
    upgrade = (target.scheme, target.port) == ("https", 443)
    if target.host != origin.host or not (target.origin == origin.origin or upgrade):
        raise _redirect_failure(url, f"{target.scheme}://{target.authority}")
    return there, target


def too_many_redirects(url: str) -> ImageDamaged:
    """The failure of a redirect that does not end."""
    return _redirect_failure(url, f"more than {MAX_REDIRECTS} places in turn")


def _redirect_failure(url: str, where: str) -> ImageDamaged:
    return ImageDamaged(
        f"{shown(url)} is redirected to {_clipped(where)}",
        hint="give the URL of the host that has the image itself",
        slug="redirects",
    )


def transport_failure(peer: str, error: TransportError) -> Union[Again, OtaError]:
    """What a failure below HTTP means. `peer`: who was talked to, as in a message."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _server_certificate(peer, cause)
        if isinstance(cause, ssl.SSLError) and _is_about_us(cause):
            return _client_certificate(peer, cause)
        if isinstance(cause, ssl.SSLError) and (cause.reason or "").endswith(_NO_COMMON_TLS):
            return Unreachable(
                f"{peer} does not speak TLS 1.2 or newer",
                hint="check the port; plain http needs an http:// URL and --insecure-http",
                slug="tls",
            )
    if isinstance(error, httpcore.RemoteProtocolError):
        why = f"{peer} ended an answer too early: {_clipped(str(error))}"
        return Again(Unreachable(why, hint="run this again", slug="cut-short"))
    why = f"{peer} can not be reached: {_clipped(str(error)) or type(error).__name__}"
    hint = "check the network, the host name and the port; then run this again"
    return Again(Unreachable(why, hint=hint))


def _server_certificate(peer: str, cause: ssl.SSLCertVerificationError) -> Unreachable:
    return Unreachable(
        f"the certificate of {peer} is not accepted: {_clipped(cause.verify_message)}",
        hint="check host name and clock; a server with its own CA needs --cacert",
        slug="server-certificate",
    )


def _client_certificate(peer: str, cause: ssl.SSLError) -> AccessDenied:
    what = (cause.reason or "").rpartition("ALERT_")[2].lower().replace("_", " ")
    return AccessDenied(
        f"{peer} does not accept this client's certificate: {what}",
        hint="give the right --cert and --key",
        slug="client-certificate",
    )


def _is_about_us(cause: ssl.SSLError) -> bool:
    reason = cause.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, from the HTTP library down to the socket."""
    current = error
    while True:
        yield current
        below = current.__cause__ or current.__context__
        if below is None:
            return
        current = below


def shown(url: str) -> str:
    """`url` as in a message: without query, safe to print."""
    return printable(url.partition("?")[0])


def _clipped(text: str) -> str:
    return printable(text[:_MAX_WHY])
