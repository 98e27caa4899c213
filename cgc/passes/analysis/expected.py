"""What the cost model says about operations of the IR: sizes of values, times of operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cgc.errors import PassError, did_you_mean
from cgc.ir import (
    DYNAMIC,
    ActorOp,
    Attribute,
    CallOp,
    CollectiveOp,
    CopyOp,
    FutureType,
    GraphOp,
    Operation,
    Placement,
    StringAttr,
    TensorType,
    TransportAttr,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.base import PassContext
from cgc.passes.graph_view import actors_of

_BITS = {"bool": 8, "complex64": 64, "complex128": 128, "int8": 8, "uint8": 8, "int16": 16, "int32": 32, "int64": 64}
_BITS |= {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8}


HANDLE_BYTES = 256
"""What travels of a value that is lent: where it is, and after which event."""

PIPELINED = frozenset({"nccl"})
"""Transports whose broadcast passes pieces on before the whole has come."""

UNKNOWN_TIME = "UnknownTime"
"""Kind of the remark about methods that a profile lacks."""


def cost_of(graph: GraphOp, context: PassContext, profile: str, pass_name: str) -> CostModel:
    """
    The cost model of a pass: that of its option, the file `profile`, or else the one of the whole compilation.

    A profile that lacks methods of the graph is a remark.

    Raises:
        SourceError: The profile is malformed.
        PassError: It is that of another graph: it has none of the methods.
    """
    cost = CostModel.load(profile) if profile else context.cost
    called = dict.fromkeys(_called(graph))
    missing = [call for call in called if call not in cost.calls]
    if not cost.calls or not missing:
        return cost
    names = ", ".join(".".join(call) for call in missing)
    if len(missing) == len(called):
        known = [".".join(call) for call in cost.calls]
        close = did_you_mean(".".join(missing[0]), known)
        raise PassError(
            f"{cost.source} has no time of any method of this graph, which calls {names}{close}; it has"
            f" {', '.join(known)}",
            pass_name,
            remedy="measure this graph (graph.profile), or add its methods",
        )
    context.remark(UNKNOWN_TIME, f"{cost.source} has no time of {names}: taken for {cost.default_call_us:g} µs each")
    return cost


def _called(graph: GraphOp) -> Iterable[tuple[str, str]]:
    """(class name, method) of every call."""
    class_names = {
        name: "" if actor.class_name is None else actor.class_name.data for name, actor in actors_of(graph).items()
    }
    return ((class_names[op.actor], op.method) for op in graph.walk() if isinstance(op, CallOp))


def operation_us(operation: Operation, actors: Mapping[str, ActorOp], cost: CostModel) -> float:
    """Expected microseconds that a call, a copy or a collective takes; 0 for what the driver does."""
    if isinstance(operation, CallOp):
        class_name = actors[operation.actor].class_name
        return cost.call_us(class_name.data if class_name is not None else "", operation.method)
    if isinstance(operation, CollectiveOp):
        link = cost.link(operation.transport.kind.data)
        return link.latency_us + link.copy_us(sum(value_bytes(value.type, cost) for value in operation.operands))
    if isinstance(operation, CopyOp):
        return cost.link("copy").copy_us(value_bytes(operation.value.type, cost))
    return 0.0


@dataclass(frozen=True, slots=True)
class MessageCost:
    """
    What a message costs: its expected bytes, and microseconds as `cgc.passes.analysis.order.Message` has them.

    Where all ends meet, all are busy for all of it: `send_us` has the latency too, and the rest is 0.
    """

    nbytes: int
    send_us: float
    latency_us: float
    recv_us: float


def message_cost(
    transport: TransportAttr,
    value_types: Iterable[Attribute],
    cost: CostModel,
    actors: Mapping[str, ActorOp],
    sender: str,
    receivers: Iterable[str],
    *,
    meets: bool = False,
) -> MessageCost:
    """
    What a message that carries values of these types costs on this transport between these actors.

    Of several receivers, the one with the slowest link counts. Where they meet the sender, the message is a broadcast:
    whoever has it passes it on, in as many rounds as it takes until all have it. nccl cuts it into pieces, so that the
    rounds overlap but for their latency; gloo passes on the whole. A collective `meets` on every transport: through
    shared memory each participant writes once, all at the same time, and goes over what all have written.
    """
    receivers = tuple(receivers)
    nbytes = message_bytes(transport, value_types, cost)
    link = cost.link(transport.kind.data)
    if cost.topology is not None:
        home = place_of(actors[sender])
        links = [cost.link(transport.kind.data, home, place_of(actors[name])) for name in receivers]
        link = max(links, key=lambda each: each.latency_us + each.copy_us(nbytes), default=link)
    if meets and not transport.is_rendezvous:
        return MessageCost(nbytes, 2 * link.copy_us(nbytes) + link.latency_us, 0.0, 0.0)
    if transport.is_rendezvous:
        rounds = len(receivers).bit_length()
        copies = 1 if transport.kind.data in PIPELINED else rounds
        return MessageCost(nbytes, copies * link.copy_us(nbytes) + rounds * link.latency_us, 0.0, 0.0)
    return MessageCost(nbytes, link.copy_us(nbytes), link.latency_us, link.overhead_us)


def message_bytes(transport: TransportAttr, value_types: Iterable[Attribute], cost: CostModel) -> int:
    """Expected bytes of a message with values of these types: of what is lent only the handles travel."""
    sizes = [value_bytes(value_type, cost) for value_type in value_types]
    return sum(min(size, HANDLE_BYTES) for size in sizes) if transport.lends else sum(sizes)


def place_of(actor: ActorOp) -> Placement:
    """Where an actor is."""
    return Placement(actor.node.data, actor.device_names)


def value_bytes(value_type: Attribute, cost: CostModel) -> int:
    """Expected bytes of a value of this type: exact if shape and dtype are known, else what the cost model assumes."""
    if isinstance(value_type, FutureType):
        return value_bytes(value_type.element, cost)
    exact = static_bytes(value_type)
    return cost.object_bytes if exact is None else exact


def static_bytes(value_type: Attribute) -> int | None:
    """Bytes of a tensor whose shape and dtype are known; None for anything else."""
    if not isinstance(value_type, TensorType) or not isinstance(value_type.dtype, StringAttr):
        return None
    extents, bits = value_type.extents, _BITS.get(value_type.dtype.data)
    if extents is None or bits is None or DYNAMIC in extents:
        return None
    return math.prod(extents) * bits // 8
