"""
place-devices: every edge that crosses an actor is a transfer, every edge that crosses a device is a copy.

Requires: level `graph`, transports settled by `infer-types`.
Guarantees: level `placed`. A value goes to all its receivers on the sender's node by one transfer, and to all on any
other node by one: a writer copies it once, however many read it. Where sender and receiver have to meet, there is one
transfer per receiver. Edges within an actor stay as they are. What a hint puts on a device, and host memory has to
carry, is copied to the host once by its sender and to the device by each receiver; what is lent is on the sender's
device first. A hint for a device that a receiver
lacks is a `GraphError` that names both ends.

    %1 = cgc.call @a::@f(%0)            %1 = cgc.call @a::@f(%0)
    %2 = cgc.call @b::@g(%1)     ->     %2, %3 = cgc.transfer %1 from @a to [@b, @c] via shm reason "same node"
    %3 = cgc.call @c::@g(%1)            %4 = cgc.call @b::@g(%2) …
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cgc.errors import GraphError
from cgc.ir import (
    ActorOp,
    Attribute,
    CopyOp,
    GraphOp,
    Operation,
    SSAValue,
    TensorType,
    TransferOp,
    TransportAttr,
)
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import (
    actors_of,
    body_of,
    consumers_of_body,
    describe,
    driver_of,
    has_gpu,
    maker_of,
    owner_of,
    retyped,
    set_level,
    set_type,
    user_of,
)

HOST_TRANSPORTS = frozenset({"shm", "tcp"})
"""Transports through host memory; which of them an edge takes follows from the nodes of its ends."""

LANDS_ON_HOST = HOST_TRANSPORTS | {"gloo"}
"""Transports that take tensors from host memory and leave them there."""


def place(graph: GraphOp) -> list[TransferOp | CopyOp]:
    """Insert transfers and copies, and return them."""
    driver, actors = driver_of(graph), actors_of(graph)
    block = body_of(graph).body.block
    consumers = consumers_of_body(block, driver)
    arrived: dict[tuple[SSAValue, str], SSAValue] = {}
    inserted: list[TransferOp | CopyOp] = []
    problems: list[str] = []
    for operation in list(block.ops):
        _take_what_arrived(operation, arrived, driver)
        crossings: list[TransferOp | CopyOp] = []
        for value in operation.results:
            sender = owner_of(value, driver)
            receivers = [user for user in consumers.get(value, ()) if user != sender]
            problems += _device_problems(value, sender, receivers, actors, driver)
            crossings += _cross(value, sender, receivers, actors, arrived)
            set_type(value, _settled(value.type))
        if crossings:
            block.insert_ops_after(crossings, operation)
            inserted += crossings
    if problems:
        raise GraphError("\n  ".join(problems))
    return inserted


def _take_what_arrived(operation: Operation, arrived: Mapping[tuple[SSAValue, str], SSAValue], driver: str) -> None:
    """Replace operands that other participants made by what the transfers brought."""
    if operation.operands:
        operation.operands = [
            arrived.get((value, user_of(operation, number, driver)), value)
            for number, value in enumerate(operation.operands)
        ]


def _cross(
    value: SSAValue,
    sender: str,
    receivers: list[str],
    actors: Mapping[str, ActorOp],
    arrived: dict[tuple[SSAValue, str], SSAValue],
) -> list[TransferOp | CopyOp]:
    """The transfers of one value, and the copies around them; notes in `arrived` what each receiver has then."""
    made: list[TransferOp | CopyOp] = []
    copies: list[CopyOp] = []
    location = maker_of(value)[0].location
    on_host: SSAValue | None = None
    for transport, reason, group in _groups(value, sender, receivers, actors):
        landed, wanted = _landed(value.type, transport), _settled(value.type)
        source = value
        if _leaves_device(value.type, transport) and has_gpu(actors[sender]):
            if on_host is None:
                why = f"{transport.kind.data} takes it from host memory"
                copy = CopyOp(value, sender, landed, reason=why, location=location)
                made.append(copy)
                on_host = copy.result
            source = on_host
        elif transport.lends and landed == wanted and not _is_default(wanted):
            copy = CopyOp(value, sender, wanted, reason="the hint asks for this device", location=location)
            made.append(copy)
            source = copy.result
        transfer = TransferOp(source, sender, group, transport, [landed] * len(group), reason=reason, location=location)
        made.append(transfer)
        for receiver, result in zip(group, transfer.results, strict=True):
            arrived[value, receiver] = result
            if landed != wanted and has_gpu(actors[receiver]):
                copy = CopyOp(result, receiver, wanted, reason="the hint asks for this device", location=location)
                arrived[value, receiver] = copy.result
                copies.append(copy)
    return [*made, *copies]


def _groups(
    value: SSAValue, sender: str, receivers: list[str], actors: Mapping[str, ActorOp]
) -> list[tuple[TransportAttr, str, list[str]]]:
    """(transport, reason, receivers) of each transfer that a value needs, in the order of first use."""
    request = value.type.request if isinstance(value.type, TensorType) else None
    if isinstance(request, TransportAttr) and request.kind.data not in HOST_TRANSPORTS:
        reason = f"the hint asks for {request.kind.data}"
        if request.lends:
            return [(request, "the devices see each other's memory", receivers)] if receivers else []
        return [(request, reason, [receiver]) for receiver in receivers]
    home = actors[sender].node.data
    by_node: dict[str, list[str]] = {}
    for receiver in receivers:
        by_node.setdefault(actors[receiver].node.data, []).append(receiver)
    return [
        (TransportAttr.of("shm"), "same node", group)
        if node == home
        else (TransportAttr.of("tcp"), f"from node {home} to {node}", group)
        for node, group in by_node.items()
    ]


def _settled(old: Attribute) -> Attribute:
    """The type once its transport is that of a transfer."""
    return retyped(old) if isinstance(old, TensorType) else old


def _leaves_device(old: Attribute, transport: TransportAttr) -> bool:
    """True if a value may be on a device, and has to leave it. What has no hint says so itself when it is sent."""
    through_host = transport.kind.data in LANDS_ON_HOST
    return through_host and isinstance(old, TensorType) and old.device.data != "default"


def _is_default(settled: Attribute) -> bool:
    """True if nothing says on which device a value is to be."""
    return not isinstance(settled, TensorType) or settled.device.data == "default"


def _landed(old: Attribute, transport: TransportAttr) -> Attribute:
    """The type of what a transfer brings: host memory holds no GPU tensors."""
    settled = _settled(old)
    if not isinstance(settled, TensorType) or settled.device.data == "default":
        return settled
    through_host = transport.kind.data in LANDS_ON_HOST
    device = "cpu" if through_host else "gpu" if settled.device.data == "cpu" else settled.device.data
    return retyped(settled, device=device)


def _device_problems(
    value: SSAValue, sender: str, receivers: list[str], actors: Mapping[str, ActorOp], driver: str
) -> list[str]:
    if not isinstance(value.type, TensorType) or value.type.device.data in ("default", "cpu"):
        return []
    wanted = value.type.device.data
    return [
        f"{describe(value, driver)} is wanted on {wanted} by {receiver}, which has no GPU, and comes from {sender}:"
        " use device 'default' or 'cpu', or create the actor with num_gpus=1"
        for receiver in receivers
        if receiver != driver and not has_gpu(actors[receiver])
    ]


@dataclass(frozen=True)
class PlaceDevicesPass(Pass):
    """See the top of this file."""

    name = "place-devices"
    accepts = ("graph",)
    produces = "placed"

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        inserted = place(graph)
        set_level(graph, "placed")
        for operation in inserted:
            context.count("transfers" if isinstance(operation, TransferOp) else "copies")
