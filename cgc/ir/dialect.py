"""The `cgc` dialect: everything that its text may contain."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.ir import Dialect

from cgc.ir import channel_ops, graph_ops, input_ops, schedule_ops, transfer_ops
from cgc.ir.arguments import NestAttr
from cgc.ir.attributes import TYPES_AND_ATTRIBUTES

CGC = Dialect(
    "cgc",
    [
        graph_ops.GraphOp,
        graph_ops.ActorOp,
        graph_ops.BodyOp,
        input_ops.InputOp,
        input_ops.InputAttrOp,
        input_ops.TriggerOp,
        graph_ops.CallOp,
        graph_ops.OutputOp,
        transfer_ops.AllReduceOp,
        transfer_ops.AllGatherOp,
        transfer_ops.ReduceScatterOp,
        transfer_ops.TransferOp,
        transfer_ops.CopyOp,
        schedule_ops.ProgramOp,
        schedule_ops.SendOp,
        schedule_ops.RecvOp,
        schedule_ops.RecvStartOp,
        schedule_ops.WaitOp,
        schedule_ops.YieldOp,
        schedule_ops.GroupOp,
        channel_ops.ChannelOp,
        channel_ops.WriteOp,
        channel_ops.ReadOp,
        channel_ops.ReadStartOp,
    ],
    [*TYPES_AND_ATTRIBUTES, NestAttr],
)


def context() -> Context:
    """A fresh xDSL context that knows the builtin and the cgc dialect."""
    made = Context()
    made.load_dialect(Builtin)
    made.load_dialect(CGC)
    return made
