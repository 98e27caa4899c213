"""
anchor-calls: every actor begins an execution when the driver does.

Requires: level `graph`, verified by `verify-graph`.
Guarantees: the first call of each actor takes something, or waits for something, that comes from the driver or from an
actor that is anchored itself. Without that a call of constants alone would run ahead: the actor's loop would begin it
as soon as the graph starts, and again as often as there is room for its results. A call that takes nothing waits for a
part of the input that its actor gets anyway, or else for a trigger, a message of the driver without a value.

    %0 = cgc.input                             %0 = cgc.trigger
    %1 = cgc.call @a::@load("x")         ->    %1 = cgc.input
    %2 = cgc.call @b::@join(%0, %1)            %2 = cgc.call @a::@load("x") after(%0)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cgc.ir import Block, CallOp, CollectiveOp, GraphOp, InputAttrOp, InputOp, SSAValue, TriggerOp
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import body_of, driver_of, user_of


def anchor(graph: GraphOp) -> int:
    """Let calls that would run ahead wait for the driver; returns how many."""
    block = body_of(graph).body.block
    inputs = _inputs_by_actor(block, driver_of(graph))
    trigger = next((op for op in block.ops if isinstance(op, TriggerOp)), None)
    loose = list(_loose_calls(block))
    for call in loose:
        value = inputs.get(call.actor)
        if value is None or not _is_before(value, call):
            if trigger is None:
                trigger = TriggerOp(location=call.location)
                first = block.first_op
                assert first is not None, "the block holds the call"
                block.insert_op_before(trigger, first)
            value = trigger.result
        call.wait_for(value)
    return len(loose)


def _loose_calls(block: Block) -> Iterator[CallOp]:
    """The first calls of actors that take nothing and wait for nothing."""
    begun: set[str] = set()
    for operation in block.ops:
        if isinstance(operation, CollectiveOp):
            begun.update(operation.participant_names)
        elif isinstance(operation, CallOp) and operation.actor not in begun:
            begun.add(operation.actor)
            if not operation.operands:
                yield operation


def _inputs_by_actor(block: Block, driver: str) -> dict[str, SSAValue]:
    """For each actor a value of the driver that it uses, the first in the order of the body."""
    found: dict[str, SSAValue] = {}
    for operation in block.ops:
        for number, value in enumerate(operation.operands):
            if isinstance(value.owner, InputOp | InputAttrOp):
                found.setdefault(user_of(operation, number, driver), value)
    return found


def _is_before(value: SSAValue, call: CallOp) -> bool:
    assert isinstance(value.owner, InputOp | InputAttrOp), "inputs are made by operations"
    return value.owner.is_before_in_block(call)


@dataclass(frozen=True)
class AnchorCallsPass(Pass):
    """See the top of this file."""

    name = "anchor-calls"
    accepts = ("graph",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        anchored = anchor(graph)
        context.count("anchored", anchored)
        if not anchored:
            context.keep()
