"""What passes ask a graph most: its actors, its body, its programs, and which actor an operation belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from cgc.ir import (
    ActorOp,
    AllGatherOp,
    AllReduceOp,
    Attribute,
    Block,
    BodyOp,
    CallOp,
    ChannelOp,
    ChannelReadOp,
    CollectiveOp,
    CopyOp,
    GraphOp,
    InputAttrOp,
    InputOp,
    Operation,
    OpResult,
    ProgramOp,
    ReadOp,
    ReadStartOp,
    ReceiveOp,
    RecvOp,
    RecvStartOp,
    ReduceScatterOp,
    SendOp,
    SSAValue,
    StringAttr,
    TensorType,
    TransferOp,
    TransportAttr,
    WriteOp,
    location_text,
)

Communication = SendOp | ReceiveOp | WriteOp | ChannelReadOp | CollectiveOp

_COMMUNICATION_NAMES = frozenset(
    kind.name
    for kind in (SendOp, RecvOp, RecvStartOp, WriteOp, ReadOp, ReadStartOp, AllReduceOp, AllGatherOp, ReduceScatterOp)
)

DRIVER_KIND = "driver"

DEFAULT_INFLIGHT = 10
"""Executions in flight where the graph does not say."""


def actors_of(graph: GraphOp) -> dict[str, ActorOp]:
    """All participants by name, in the order of their declaration; the driver is one of them."""
    return {op.sym_name.data: op for op in graph.body.block.ops if isinstance(op, ActorOp)}


def driver_of(graph: GraphOp) -> str:
    """Name of the driver."""
    return next(name for name, actor in actors_of(graph).items() if actor.kind.data == DRIVER_KIND)


def inflight_of(graph: GraphOp) -> int:
    """How many executions may be in flight."""
    return DEFAULT_INFLIGHT if graph.max_inflight is None else int(graph.max_inflight.data)


def body_of(graph: GraphOp) -> BodyOp:
    """The body, at levels `graph` and `placed`."""
    return next(op for op in graph.body.block.ops if isinstance(op, BodyOp))


def programs_of(graph: GraphOp) -> dict[str, ProgramOp]:
    """The programs by actor, at levels `scheduled` and `allocated`."""
    return {op.actor_name: op for op in graph.body.block.ops if isinstance(op, ProgramOp)}


def channels_of(graph: GraphOp) -> dict[str, ChannelOp]:
    """The channels by name, at level `allocated`."""
    return {op.sym_name.data: op for op in graph.body.block.ops if isinstance(op, ChannelOp)}


def order_of(operation: Communication) -> int:
    """The operation's place in the global order; only programs have one."""
    assert operation.order is not None, "communication in a program has an order"
    place: int = operation.order.data
    return place


def communication(parent: Operation | Block) -> Iterator[Communication]:
    """The communication in a block or operation, what lies in groups included, in order."""
    for operation in parent.walk():
        # By name: `isinstance` costs a microsecond for each class that does not fit.
        if operation.name in _COMMUNICATION_NAMES:
            yield cast("Communication", operation)


def actor_of(operation: Operation, driver: str) -> str:
    """The one participant that an operation of a body belongs to; collectives and transfers have several."""
    if isinstance(operation, CallOp):
        return operation.actor
    return operation.actor_name if isinstance(operation, CopyOp) else driver


def maker_of(value: SSAValue) -> tuple[Operation, int]:
    """The operation that makes a value, and which of its results it is."""
    assert isinstance(value, OpResult), "regions of cgc have no block arguments"
    return value.op, value.index


def owner_of(value: SSAValue, driver: str) -> str:
    """The participant that holds a value at level `graph` or `placed`: the one of the operation that makes it."""
    operation, index = maker_of(value)
    if isinstance(operation, CollectiveOp):
        return _participant(operation, index, len(operation.results))
    if isinstance(operation, TransferOp):
        return operation.receiver_names[index]
    return actor_of(operation, driver)


def user_of(operation: Operation, operand: int, driver: str) -> str:
    """The participant that needs operand number `operand` of an operation of a body."""
    if isinstance(operation, CollectiveOp):
        return _participant(operation, operand, len(operation.operands))
    if isinstance(operation, TransferOp):
        return operation.sender_name
    return actor_of(operation, driver)


def consumers_of_body(body: Block, driver: str) -> dict[SSAValue, list[str]]:
    """Who needs each value of a body: the participants in the order of their first use, its maker included."""
    consumers: dict[SSAValue, list[str]] = {}
    for operation in body.ops:
        for number, value in enumerate(operation.operands):
            users = consumers.setdefault(value, [])
            user = user_of(operation, number, driver)
            if user not in users:
                users.append(user)
    return consumers


def has_gpu(actor: ActorOp) -> bool:
    """True if the actor has a device that is no CPU."""
    return any(not name.startswith("cpu") for name in actor.device_names)


def device_kind(actor: ActorOp) -> str:
    """The kind of the actor's devices, e.g. `gpu`; empty if it has none but CPUs."""
    return next((name.partition(":")[0] for name in actor.device_names if not name.startswith("cpu")), "")


def set_level(graph: GraphOp, level: str) -> None:
    """State the graph's new level."""
    graph.properties["level"] = StringAttr(level)


def retyped(old: TensorType, *, device: str | None = None, request: TransportAttr | None = None) -> TensorType:
    """The same type on another device (the same if None) and with another request (none if None)."""
    dtype = old.dtype.data if isinstance(old.dtype, StringAttr) else None
    where = old.device.data if device is None else device
    return TensorType.of(where, old.extents, dtype, request, static=old.static, direct=old.direct)


def set_type(value: SSAValue, new_type: Attribute) -> None:
    """Change a value's type in place (xDSL would make a new value, of which holders of the old one know nothing)."""
    value._type = new_type


def describe(value: SSAValue, driver: str) -> str:
    """A value as messages to people name it: what makes it, and where that was bound."""
    operation, _ = maker_of(value)
    location = location_text(operation)
    if isinstance(operation, CallOp):
        name = f"the result of {operation.actor}.{operation.method}"
    elif isinstance(operation, (InputOp, InputAttrOp)):
        name = "the input"
    else:
        name = f"the result of {operation.name.removeprefix('cgc.')} on {owner_of(value, driver)}"
    return f"{name} ({location})" if location else name


def _participant(operation: CollectiveOp, position: int, total: int) -> str:
    names = operation.participant_names
    return names[position * len(names) // total]
