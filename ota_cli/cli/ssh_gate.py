"""`ota ssh-gate`: the one command that an ECU above this one may run here."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Union

from .. import __version__
from ..core.protocol import SCHEMA
from ..core.requests import (
    AskCheck,
    AskCommit,
    AskDisarm,
    AskReboot,
    AskStatus,
    AskSwitch,
    AskUpdate,
)
from ..errors import EcusDiffer
from ..events import Hello, Note, Ready
from ..fleet.gate import Lifeline, alive, require_gate_command, require_no_circle
from ..model import Device
from ..probe import probe
from .check import checked_document
from .options import Call, Result, command
from .request import Source, device_net
from .show_update import fleet_document
from .status import document
from .switch_all import switched_document

if TYPE_CHECKING:
    from ..fleet.check import FleetChecked
    from ..fleet.together import FleetSwitched, Permission
    from ..host.net import NetSettings
    from ..trial import Agreement
    from ..update import Request, Updated


@command("ssh-gate", output="jsonl")
def ssh_gate(call: Call) -> Result:
    """Answer the ECU above, over SSH: a forced command for its key.

    It reads one request, a JSON object, from standard input, and prints JSON lines. It ends when
    standard input does: the ECU above is gone.
    """
    require_gate_command(os.environ.get("SSH_ORIGINAL_COMMAND"))
    device = probe(call.root)
    call.emit(Hello(SCHEMA, __version__, device.ecu.ecu_id))
    lifeline = Lifeline(0)
    with alive(call.emit):
        request = lifeline.request()
        require_no_circle(device.ecu.ecu_id, request)
        if isinstance(request, AskStatus):
            return _status(device, request)
        if isinstance(request, AskCheck):
            return _check(call, device, request)
        if isinstance(request, AskUpdate):
            return _update(call, device, request, lifeline)
        if isinstance(request, AskSwitch):
            return _switch(call, device, request, lifeline)
        if isinstance(request, AskCommit):
            return _commit(call, device, request)
        if isinstance(request, AskReboot):
            return _reboot(call, device, request)
        return _disarm(call, device, request)


def _status(device: Device, request: AskStatus) -> Result:
    from ..fleet.tree import read_tree
    from ..status import read_status

    ecus = read_tree(device, request.budget_s, request.above)
    return Result(document=document(read_status(device), ecus), lines=())


def _check(call: Call, device: Device, request: AskCheck) -> Result:
    from .. import update as story
    from ..fleet.check import check_all
    from ..fleet.ownproxy import through_own_proxy

    def work(order: AskCheck, net: NetSettings) -> FleetChecked:
        own_request = _own_request(device, order, net)
        return check_all(
            device, order, lambda: story.preview(device, own_request, call.emit), call.emit
        )

    net = device_net(Source(proxy=request.proxy), device)
    done = through_own_proxy(device, request, net, call.emit, work)
    return Result(document=checked_document(done), lines=())


def _own_request(device: Device, order: Union[AskCheck, AskUpdate], net: NetSettings) -> Request:
    from ..update import Request

    return Request(
        url=order.url.replace("{ecu_id}", device.ecu.ecu_id), net=net, name=order.name,
        allow_downgrade=order.allow_downgrade, retry_failed=order.retry_failed,
    )  # fmt: skip


def _update(call: Call, device: Device, request: AskUpdate, lifeline: Lifeline) -> Result:
    from .. import update as story
    from ..fleet.ownproxy import through_own_proxy
    from ..fleet.together import switch_together

    def work(order: AskUpdate, net: NetSettings) -> FleetSwitched[Updated]:
        asked = _own_request(device, order, net)
        own_request = replace(
            asked, stage_only=order.stage_only, txn=order.txn, verify_writes=order.verify_writes
        )

        def own(agreement: Agreement) -> Updated:
            return story.update(device, own_request, call.emit, agreement)

        permission = _from_above(call, lifeline, order.txn)
        return switch_together(device, order, own, permission, call.emit)

    net = device_net(Source(proxy=request.proxy), device)
    done = through_own_proxy(device, request, net, call.emit, work)
    return Result(document=fleet_document(done), lines=())


def _switch(call: Call, device: Device, request: AskSwitch, lifeline: Lifeline) -> Result:
    from ..fleet.switch import own_switch
    from ..fleet.together import switch_together

    permission = _from_above(call, lifeline, request.txn)
    own = own_switch(device, request, call.emit)
    done = switch_together(device, request, own, permission, call.emit)
    return Result(document=switched_document(done), lines=())


def _from_above(call: Call, lifeline: Lifeline, txn: str) -> Permission:
    def permission(ready: Ready) -> bool:
        call.emit(ready)
        return lifeline.await_go(txn).jointly

    return permission


def _commit(call: Call, device: Device, request: AskCommit) -> Result:
    from ..fleet.decision import commit_below

    told = commit_below(device, request, call.emit)
    document = {"confirmed": list(told.confirmed), "refused": dict(told.refused)}
    return Result(document=document, lines=())


def _reboot(call: Call, device: Device, request: AskReboot) -> Result:
    from ..fleet.reboot import reboot_named

    goes_down = reboot_named(device, request, call.emit)
    return Result(document={"rebooting": goes_down}, lines=())


def _disarm(call: Call, device: Device, request: AskDisarm) -> Result:
    from ..fleet.disarm import disarm_below, disarm_here
    from ..fleet.link import Links
    from ..host.reboot import reboot_machine

    done = disarm_here(device, request.txn, call.emit)
    with Links(device) as links:
        uncertain = disarm_below(device, links, request.txn, request.above)
    if uncertain:
        raise EcusDiffer("; ".join(each.why.message for each in uncertain))
    if done.returns_by_reboot and device.is_this_machine:
        call.emit(Note("rebooting into the old system"))
        reboot_machine()
    document = {"disarmed": done.was_armed, "returns_by_reboot": done.returns_by_reboot}
    return Result(document=document, lines=())
