"""
The `cgc` dialect, its text and verifiers, and the topology; see `docs/ir.md`.

The importer (`cgc.ir.importer`) and abstract actors (`cgc.ir.abstract`) are imported by name: they need Ray.
The names of xDSL that passes need are here too, because only this package imports xdsl.
"""

from xdsl.dialects.builtin import IntAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from cgc.ir.arguments import Bound, Nest
from cgc.ir.attributes import (
    DYNAMIC,
    OBJECT,
    OPERAND,
    RENDEZVOUS,
    REQUESTS,
    TRANSPORTS,
    Constant,
    FutureType,
    LiteralAttr,
    ObjectType,
    OpaqueAttr,
    OperandAttr,
    TensorType,
    TransportAttr,
    ValueType,
)
from cgc.ir.base import CgcOp, OperationError, file_location, location_text
from cgc.ir.channel_ops import ChannelOp, ChannelReadOp, ReadOp, ReadStartOp, WriteOp
from cgc.ir.dialect import CGC, context
from cgc.ir.graph_ops import LEVELS, ActorOp, BodyOp, CallOp, GraphOp, OutputOp
from cgc.ir.input_ops import InputAttrOp, InputOp, TriggerOp
from cgc.ir.placing import place_actors
from cgc.ir.schedule_ops import GroupOp, ProgramOp, ReceiveOp, RecvOp, RecvStartOp, SendOp, WaitOp, YieldOp
from cgc.ir.text import parse_module, print_module
from cgc.ir.topology import ActorInfo, Link, Placement, Topology
from cgc.ir.transfer_ops import REDUCE_OPS, AllGatherOp, AllReduceOp, CollectiveOp, CopyOp, ReduceScatterOp, TransferOp
from cgc.ir.unit import ConstantTable, Unit, graphs_of
from cgc.ir.verify import DRIVER, verify_level, verify_module

__all__ = [
    "CGC",
    "DRIVER",
    "DYNAMIC",
    "LEVELS",
    "OBJECT",
    "OPERAND",
    "REDUCE_OPS",
    "RENDEZVOUS",
    "REQUESTS",
    "TRANSPORTS",
    "ActorInfo",
    "ActorOp",
    "AllGatherOp",
    "AllReduceOp",
    "Attribute",
    "Block",
    "BodyOp",
    "Bound",
    "CallOp",
    "CgcOp",
    "ChannelOp",
    "ChannelReadOp",
    "CollectiveOp",
    "Constant",
    "ConstantTable",
    "CopyOp",
    "FutureType",
    "GraphOp",
    "GroupOp",
    "InputAttrOp",
    "InputOp",
    "IntAttr",
    "Link",
    "LiteralAttr",
    "ModuleOp",
    "Nest",
    "ObjectType",
    "OpResult",
    "OpaqueAttr",
    "OperandAttr",
    "Operation",
    "OperationError",
    "OutputOp",
    "Placement",
    "ProgramOp",
    "ReadOp",
    "ReadStartOp",
    "ReceiveOp",
    "RecvOp",
    "RecvStartOp",
    "ReduceScatterOp",
    "Region",
    "SSAValue",
    "SendOp",
    "StringAttr",
    "TensorType",
    "Topology",
    "TransferOp",
    "TransportAttr",
    "TriggerOp",
    "Unit",
    "ValueType",
    "WaitOp",
    "WriteOp",
    "YieldOp",
    "context",
    "file_location",
    "graphs_of",
    "location_text",
    "parse_module",
    "place_actors",
    "print_module",
    "verify_level",
    "verify_module",
]
