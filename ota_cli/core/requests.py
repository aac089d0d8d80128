"""What an ECU may ask of one below it: the whole list (DESIGN section 8). Pure.

A request is one JSON object. It names no paths, and nothing in it makes an ECU trust what it would
not; older images it may ask for. Keys that are not known make it refused, for what is left out
could be what matters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Set, Tuple, Type, Union

from ..errors import UsageProblem
from ..model import SLOT_NAMES, SlotName
from .protocol import (
    SCHEMA,
    BadLine,
    Object,
    flag,
    number,
    optional_text,
    parse_object,
    text,
    texts,
)
from .urls import split_url

_COMMON = {"schema", "verb", "above"}


@dataclass(frozen=True)
class AskStatus:
    """What runs, there and below. `budget_s`: it must answer within so many seconds.

    `above`: the ECUs this came through, the first one first.
    """

    above: Tuple[str, ...]
    budget_s: int

    verb = "status"

    def fields(self) -> Object:
        return {"budget_s": self.budget_s}


@dataclass(frozen=True)
class AskCheck:
    """Whether the image would be an update, there and below. Fields: see `AskUpdate`."""

    above: Tuple[str, ...]
    url: str
    name: str = ""
    allow_downgrade: bool = False
    retry_failed: bool = False
    proxy: Optional[str] = None
    ecus: Optional[Tuple[str, ...]] = None

    verb = "check"

    def fields(self) -> Object:
        # an older `ota` does not know the key, and need not where all are meant
        only = {} if self.ecus is None else {"ecus": list(self.ecus)}
        return {
            "url": self.url, "name": self.name, "proxy": self.proxy,
            "allow_downgrade": self.allow_downgrade, "retry_failed": self.retry_failed, **only,
        }  # fmt: skip


@dataclass(frozen=True)
class AskUpdate:
    """Bring the image into the standby slot; then, unless `stage_only`, wait for `Go` to arm it.

    `url` may hold `{ecu_id}`. `txn`: the transaction, the same on all ECUs. `ecus`: only these;
    None: all. `proxy`: `http://host:port` to fetch through; None: straight from the server.
    `verify_writes`: read back copies as well.
    """

    above: Tuple[str, ...]
    txn: str
    url: str
    name: str = ""
    ecus: Optional[Tuple[str, ...]] = None
    stage_only: bool = False
    allow_downgrade: bool = False
    retry_failed: bool = False
    proxy: Optional[str] = None
    verify_writes: bool = False

    verb = "update"

    def fields(self) -> Object:
        # an older `ota` does not know the key
        more = {"verify_writes": True} if self.verify_writes else {}
        return {
            "txn": self.txn, "url": self.url, "name": self.name, "proxy": self.proxy,
            "ecus": None if self.ecus is None else list(self.ecus),
            "stage_only": self.stage_only, "allow_downgrade": self.allow_downgrade,
            "retry_failed": self.retry_failed, **more,
        }  # fmt: skip


@dataclass(frozen=True)
class AskSwitch:
    """Boot another system that is there already, like the verb of the name `kind`.

    Each waits for `Go`, as with `AskUpdate`. `staged`: `activate` only what that transaction
    staged, unless `version` runs already; empty: what is staged. `slot`, `trust_record`: of
    `switch-slot`.
    """

    above: Tuple[str, ...]
    txn: str
    kind: str
    ecus: Optional[Tuple[str, ...]] = None
    staged: str = ""
    version: Optional[str] = None
    slot: Optional[SlotName] = None
    trust_record: bool = False

    verb = "switch"
    stage_only = False

    def fields(self) -> Object:
        return {
            "txn": self.txn, "kind": self.kind, "staged": self.staged,
            "version": self.version, "slot": self.slot,
            "ecus": None if self.ecus is None else list(self.ecus),
            "trust_record": self.trust_record,
        }  # fmt: skip


@dataclass(frozen=True)
class AskDisarm:
    """Do not boot what transaction `txn` armed, there and below."""

    above: Tuple[str, ...]
    txn: str

    verb = "disarm"

    def fields(self) -> Object:
        return {"txn": self.txn}


@dataclass(frozen=True)
class _OfNamed:
    """Something of transaction `txn`, on the ECUs named, there and below."""

    above: Tuple[str, ...]
    txn: str
    ecus: Tuple[str, ...]

    def fields(self) -> Object:
        return {"txn": self.txn, "ecus": list(self.ecus)}


class AskCommit(_OfNamed):
    """Confirm what waits for that."""

    verb = "commit"


class AskReboot(_OfNamed):
    """Boot what was armed, the lowest first."""

    verb = "reboot"


@dataclass(frozen=True)
class Go:
    """The word to arm what was staged in transaction `txn`.

    `jointly`: it is not to confirm itself, but to wait for an `AskCommit`.
    """

    txn: str
    jointly: bool


Request = Union[AskStatus, AskCheck, AskUpdate, AskSwitch, AskDisarm, AskCommit, AskReboot]


def compose_go(go: Go) -> Object:
    """The object that is sent in the session of an `AskUpdate`."""
    return {"go": "arm", "txn": go.txn, "jointly": go.jointly}


def parse_go(line: bytes) -> Go:
    """The word of the ECU above. Raises UsageProblem for any other."""
    try:
        found = parse_object(line)
        if text(found, "go") != "arm" or set(found) != {"go", "txn", "jointly"}:
            raise BadLine("it is not the word to arm")
        return Go(_txn(found), flag(found, "jointly"))
    except BadLine as error:
        raise UsageProblem(f"the word can not be read: {error}", slug="request") from None


def compose_request(request: Request) -> Object:
    """The object that is sent."""
    return {
        "schema": SCHEMA, "verb": request.verb, "above": list(request.above), **request.fields(),
    }  # fmt: skip


def parse_request(line: bytes) -> Request:
    """What the ECU above asks. Raises UsageProblem for all that is not on the list."""
    try:
        found = parse_object(line)
        verb = text(found, "verb")
        if number(found, "schema") != SCHEMA or verb not in _VERBS:
            raise UsageProblem(f"`{verb}` is not what an ECU may ask of this ota", slug="request")
        read, keys = _VERBS[verb]
        unknown = set(found) - _COMMON - keys
        if unknown:
            raise UsageProblem(f"`{verb}` with {sorted(unknown)[0]!r} is not known", slug="request")
        return read(found)
    except BadLine as error:
        raise UsageProblem(f"the request can not be read: {error}", slug="request") from None


def _status(found: Object) -> Request:
    return AskStatus(tuple(texts(found, "above")), number(found, "budget_s"))


def _check(found: Object) -> Request:
    return AskCheck(
        above=tuple(texts(found, "above")), url=_url(found), name=text(found, "name"),
        allow_downgrade=flag(found, "allow_downgrade"), retry_failed=flag(found, "retry_failed"),
        proxy=_proxy(found), ecus=_ecus(found),
    )  # fmt: skip


def _update(found: Object) -> Request:
    return AskUpdate(
        above=tuple(texts(found, "above")), txn=_txn(found), url=_url(found),
        name=text(found, "name"),
        ecus=_ecus(found),
        stage_only=flag(found, "stage_only"), allow_downgrade=flag(found, "allow_downgrade"),
        retry_failed=flag(found, "retry_failed"), proxy=_proxy(found),
        verify_writes=flag(found, "verify_writes"),
    )  # fmt: skip


def _switch(found: Object) -> Request:
    kind, slot = text(found, "kind"), optional_text(found, "slot")
    if kind not in ("activate", "rollback", "switch-slot"):
        raise BadLine("kind is not known")
    if slot is not None and slot not in SLOT_NAMES:
        raise BadLine("slot names no slot")
    return AskSwitch(
        above=tuple(texts(found, "above")), txn=_txn(found), kind=kind, ecus=_ecus(found),
        staged=_txn(found, "staged") if text(found, "staged") else "",
        version=optional_text(found, "version"), slot=slot,
        trust_record=flag(found, "trust_record"),
    )  # fmt: skip


def _ecus(found: Object) -> Optional[Tuple[str, ...]]:
    return None if found.get("ecus") is None else tuple(texts(found, "ecus"))


def _disarm(found: Object) -> Request:
    return AskDisarm(tuple(texts(found, "above")), _txn(found))


def _of_named(kind: Type[Union[AskCommit, AskReboot]]) -> Callable[[Object], Request]:
    return lambda found: kind(
        tuple(texts(found, "above")), _txn(found), tuple(texts(found, "ecus"))
    )


def _txn(found: Object, key: str = "txn") -> str:
    """It becomes a word of the kernel's command line."""
    txn = text(found, key)
    if not re.fullmatch(r"[0-9a-f]{12}", txn):
        raise BadLine(f"{key} is not a transaction")
    return txn


def _url(found: Object) -> str:
    """A whole one: a bare name would mean the server of whoever reads it."""
    url = text(found, "url")
    if split_url(url.replace("{ecu_id}", "x")) is None:
        raise BadLine("url is not a usable URL")
    return url


def _proxy(found: Object) -> Optional[str]:
    proxy = optional_text(found, "proxy")
    parts = split_url(proxy) if proxy else None
    if proxy and (parts is None or parts.scheme != "http"):
        raise BadLine("proxy is not http://host:port")
    return proxy


_VERBS: Dict[str, Tuple[Callable[[Object], Request], Set[str]]] = {
    AskStatus.verb: (_status, {"budget_s"}),
    AskCheck.verb: (_check, set(AskCheck((), "", ecus=()).fields())),
    AskUpdate.verb: (_update, set(AskUpdate((), "", "", verify_writes=True).fields())),
    AskSwitch.verb: (_switch, set(AskSwitch((), "", "").fields())),
    AskDisarm.verb: (_disarm, {"txn"}),
    AskCommit.verb: (_of_named(AskCommit), {"txn", "ecus"}),
    AskReboot.verb: (_of_named(AskReboot), {"txn", "ecus"}),
}
