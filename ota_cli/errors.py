"""Every way `ota` can fail, each with its slug and its documented exit code.

OtaError
 + UsageProblem            2   the command line does not make sense
 + NotTrusted             10   signature, chain, expiry
 + DoesNotFit             11   other device, downgrade, cannot confirm itself
 + ImageDamaged           12   missing, digest or size mismatch, malformed
 + NoSpace                13
 + SlotUnusable           14
 + BootRefused            15   boot loader refused, nothing switched
 + EcuFailed              16   an ECU below failed, none was switched
 + EcusDiffer             17   a person is needed
 + TrialFailed            18   trial boot failed its health check or fell back
 + AccessDenied           19   401, 403
 + Unreachable            69   server, proxy, ECU; worth a retry
 + Busy                   75   another `ota`, or an unconfirmed trial; worth a retry
 + NeedsRoot              77
 + ConfigError            78
 + Interrupted   129/130/143   SIGHUP, SIGINT, SIGTERM

The table below is the only place that knows what a code means; the man page and the README
are generated from it.
"""

from __future__ import annotations

import enum
import errno
from contextlib import contextmanager
from typing import Dict, Iterator, Optional

EXIT_CODES: Dict[int, str] = {
    0: "done, or nothing to do",
    1: "a bug in `ota`",
    2: "usage",
    10: "image not trusted: signature, chain, expiry",
    11: "image does not fit this device, or a downgrade",
    12: "image damaged or incomplete: missing (404), digest or size mismatch, malformed",
    13: "not enough space",
    14: "slot unusable",
    15: "boot loader refused; nothing switched",
    16: "an ECU failed, none was switched",
    17: "ECUs differ: a person is needed",
    18: "trial boot failed its health check or fell back",
    19: "the server denies access (401, 403)",
    20: "`check`: an update is available",
    69: "unreachable: server, proxy, ECU (retry)",
    75: "busy: another `ota` holds the lock, or a trial boot is unconfirmed (retry)",
    77: "needs root",
    78: "configuration error",
    129: "interrupted: the terminal or connection hung up (SIGHUP)",
    130: "interrupted by Ctrl-C (SIGINT)",
    143: "interrupted by SIGTERM",
}

#: What a disk that fails says; and ext4 of what is there and makes no sense, or has another
#: checksum (EFSCORRUPTED, EFSBADCRC of fs/ext4/ext4.h).
DISK_FAILS = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)


class Footprint(enum.Enum):
    """What a failed command has touched, from nothing to the boot order."""

    NOTHING = "Nothing on this device was changed."
    STANDBY = (
        "The running system and the boot order are untouched; "
        "the standby slot was written to and will not be booted."
    )
    OUTPUT = "The output may be incomplete; no device was touched."
    BOOT = "The boot loader's settings may have changed: see `ota status`."


class OtaError(Exception):
    """A failure the user can understand: what, on which object, why, and what to do.

    `message` is one sentence without the hint; `hint` says what to do next, if only the usual;
    `footprint` is filled in by the story that was running (see `leaving`).
    """

    exit_code = 1
    slug = "error"
    #: What to do where the place that raises knows no better.
    usual_hint = "run it again with -v and report what it prints"

    def __init__(self, message: str, *, hint: str = "", slug: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.footprint: Optional[Footprint] = None
        if slug is not None:
            self.slug = slug

    def document(self) -> Dict[str, str]:
        """The `error` of a JSON document."""
        footprint = self.footprint or Footprint.NOTHING
        return {
            "slug": self.slug,
            "message": self.message,
            "hint": self.hint,
            "footprint": footprint.name.lower(),
        }


class UsageProblem(OtaError):
    exit_code, slug = 2, "usage"
    usual_hint = "`--help` tells how it is used"


class NotTrusted(OtaError):
    exit_code, slug = 10, "not-trusted"
    usual_hint = "ask the publisher of the image"


class DoesNotFit(OtaError):
    exit_code, slug = 11, "does-not-fit"
    usual_hint = "check the URL of the image"


class ImageDamaged(OtaError):
    exit_code, slug = 12, "image-damaged"
    usual_hint = "the image can not be used as it is; ask its publisher"


class NoSpace(OtaError):
    exit_code, slug = 13, "no-space"
    usual_hint = "use a smaller image or larger partitions"


class SlotUnusable(OtaError):
    exit_code, slug = 14, "slot-unusable"
    usual_hint = "see `slots:` in ecu_info.yml, `lsblk`, and the kernel log"


class BootRefused(OtaError):
    exit_code, slug = 15, "boot-refused"
    usual_hint = "`ota setup --repair` mends the boot settings"


class EcuFailed(OtaError):
    exit_code, slug = 16, "ecu-failed"
    usual_hint = "mend that ECU, then run the same command again; finished work is kept"


class EcusDiffer(OtaError):
    exit_code, slug = 17, "ecus-differ"
    usual_hint = "`ota status` shows all ECUs; run the same command again when all are reachable"


class TrialFailed(OtaError):
    exit_code, slug = 18, "trial-failed"
    usual_hint = "`ota status` tells more"


class AccessDenied(OtaError):
    exit_code, slug = 19, "access-denied"
    usual_hint = "check cookies and client certificate"


class Unreachable(OtaError):
    exit_code, slug = 69, "unreachable"
    usual_hint = "check the network, then run this again"


class Busy(OtaError):
    exit_code, slug = 75, "busy"
    usual_hint = "run this again later"


class NeedsRoot(OtaError):
    exit_code, slug = 77, "needs-root"
    usual_hint = "run it with sudo"


class ConfigError(OtaError):
    exit_code, slug = 78, "configuration"
    usual_hint = "correct it, then run this again"


class Interrupted(OtaError):
    """SIGHUP (129), SIGINT (130) or SIGTERM (143) ended the command."""

    slug = "interrupted"

    def __init__(self, received: SignalReceived) -> None:
        super().__init__("interrupted", hint="run the same command again; finished work is kept")
        self.exit_code = 128 + received.number
        self.footprint = received.footprint


class SignalReceived(KeyboardInterrupt):
    """A signal that ends the program, on its way up: no handler of errors may swallow it."""

    footprint: Optional[Footprint] = None

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def leaving(footprint: Footprint) -> Iterator[None]:
    """Says what a failure of the block leaves behind; the innermost block knows best."""
    try:
        yield
    except (Exception, SignalReceived) as failure:  # goes on as it is, and a bug tells it as well
        if getattr(failure, "footprint", None) is None:
            failure.footprint = footprint  # type: ignore[union-attr]
        raise
