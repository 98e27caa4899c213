"""What the cost model says about operations of the IR: sizes of values, times of operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cgc.ir import (
    DYNAMIC,
    ActorOp,
    Attribute,
    CallOp,
    CollectiveOp,
    CopyOp,
    FutureType,
    Operation,
    StringAttr,
    TensorType,
    TransportAttr,
)
from cgc.passes.analysis.cost import CostModel

_BITS = {"bool": 8, "complex64": 64, "complex128": 128, "int8": 8, "uint8": 8, "int16": 16, "int32": 32, "int64": 64}
_BITS |= {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8}


def operation_us(operation: Operation, actors: Mapping[str, ActorOp], cost: CostModel) -> float:
    """Expected microseconds that a call, a copy or a collective takes; 0 for what the driver does."""
    if isinstance(operation, CallOp):
        class_name = actors[operation.actor].class_name
        return cost.call_us(class_name.data if class_name is not None else "", operation.method)
    if isinstance(operation, CollectiveOp):
        link = cost.link(operation.transport.kind.data)
        return link.latency_us + link.copy_us(sum(value_bytes(value.type, cost) for value in operation.operands))
    if isinstance(operation, CopyOp):
        return cost.link("cuda_ipc").copy_us(value_bytes(operation.value.type, cost))
    return 0.0


@dataclass(frozen=True, slots=True)
class MessageCost:
    """
    What a message costs: its expected bytes, and microseconds as `cgc.passes.analysis.order.Message` has them.

    Where both ends meet, both are busy for all of it: `send_us` has the latency too, and the rest is 0.
    """

    nbytes: int
    send_us: float
    latency_us: float
    recv_us: float


def message_cost(transport: TransportAttr, value_types: Iterable[Attribute], cost: CostModel) -> MessageCost:
    """What a message that carries values of these types costs on this transport."""
    link = cost.link(transport.kind.data)
    nbytes = sum(value_bytes(value_type, cost) for value_type in value_types)
    if transport.is_rendezvous:
        return MessageCost(nbytes, link.copy_us(nbytes) + link.latency_us, 0.0, 0.0)
    return MessageCost(nbytes, link.copy_us(nbytes), link.latency_us, link.overhead_us)


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
