"""
overlap-comm: communication runs beside computation where that makes an execution shorter.

Requires: level `scheduled`.
Guarantees: level `scheduled`, and no longer predicted makespan than before. With the option `streams`, messages whose
ends have to meet are issued on a stream of each end as soon as their value exists, and waited for by the first call
that needs them; calls keep their order, all programs stay projections of one global order (`pair-comm` says why that
matters), and what a receiver has issued but not used stays within `max-bytes`, but for what its next call needs (of a
broadcast, the next call of any receiver).
Collectives go on a stream where that is predicted to be faster; the first use of a result waits for it.
Messages through host memory stay as they are: the actor itself copies them, so that there is nothing to overlap.
What is not done is a remark `WhyNoOverlap`.

    %1 = cgc.call @b::@f(%0)                            %h = cgc.recv_start message 4 from @a via nccl … stream 2
    %2 = cgc.recv message 4 from @a via nccl …    ->    %1 = cgc.call @b::@f(%0)
    %3 = cgc.call @b::@g(%2)                            %2 = cgc.wait %h        %3 = cgc.call @b::@g(%2)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cgc.ir import CollectiveOp, FutureType, GraphOp, IntAttr, Operation, RecvOp, RecvStartOp, WaitOp
from cgc.passes.analysis.bind_order import overlapped_bind_order
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.events import Event, EventKind, Overlapped
from cgc.passes.analysis.expected import cost_of
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.overlap import overlapped_order
from cgc.passes.analysis.problem import Problem, problem_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import communication, programs_of

SEND_STREAM = 1
RECV_STREAM = 2
COLLECTIVE_STREAM = 3
"""Of collectives, and of broadcasts at all their ends: a communicator takes them in one order, whoever sends."""

GAIN = 1e-3
"""Part of the makespan that must be gained at least: less is within the error of any cost model."""


def overlap(graph: GraphOp, cost: CostModel, budget: float, context: PassContext) -> bool:
    """
    Put meetings on streams if that is predicted to be faster; True if it did.

    Args:
        graph: At level `scheduled`.
        cost: For the prediction.
        budget: Bytes that a receiver may have issued and not used.
        context: For remarks and statistics.
    """
    problem = problem_of(graph, cost)
    if isinstance(problem, str):
        context.remark("WhyNoOverlap", problem)
        return False
    if not any(message.meets for message in problem.messages):
        return False
    before = simulate(schedule_of(graph, cost)).makespan
    found, after = _shortest(graph, problem, cost, budget)
    context.count("makespan-us-before", before)
    if after > before * (1 - GAIN):
        context.remark("WhyNoOverlap", f"streams would take {after:.1f} us an execution, programs take {before:.1f}")
        return False
    _Rewriting(graph, problem).apply(found.line)
    context.count("makespan-us", after)
    context.count("peak-bytes", max(found.peak_bytes))
    return True


def _shortest(graph: GraphOp, problem: Problem, cost: CostModel, budget: float) -> tuple[Overlapped, float]:
    """The order that is predicted to be shortest, with its makespan; leaves the programs as they are."""
    given = len(problem.names), problem.tasks, problem.messages
    found: list[tuple[float, Overlapped]] = []
    for candidate in (overlapped_order(*given, budget), overlapped_bind_order(*given)):
        if not found or max(candidate.peak_bytes) <= budget:
            rewriting = _Rewriting(graph, problem)
            rewriting.apply(candidate.line)
            found.append((simulate(schedule_of(graph, cost)).makespan, candidate))
            rewriting.revert()
    makespan, best = min(found, key=lambda item: item[0])
    return best, makespan


def stream_collectives(graph: GraphOp, cost: CostModel, context: PassContext) -> bool:
    """
    Put the collectives on a stream if that is predicted to be faster; True if it did.

    All or none of them: on each actor one stream takes them in the order of its program, so that all agree on it. An
    operation that uses a result waits for it; operations between the two run beside the collective.
    """
    collectives = [
        operation
        for program in programs_of(graph).values()
        for operation in communication(program)
        if isinstance(operation, CollectiveOp)
    ]
    if not collectives or any(operation.stream is not None for operation in collectives):
        return False
    before = simulate(schedule_of(graph, cost)).makespan
    for operation in collectives:
        operation.properties["stream"] = IntAttr(COLLECTIVE_STREAM)
    after = simulate(schedule_of(graph, cost)).makespan
    if after <= before * (1 - GAIN):
        context.count("makespan-us", after)
        return True
    for operation in collectives:
        del operation.properties["stream"]
    context.remark("WhyNoOverlap", f"collectives on a stream would take {after:.1f} us an execution, not {before:.1f}")
    return False


class _Rewriting:
    """Puts the operations of all programs into a new order, with meetings on streams; can take it back."""

    def __init__(self, graph: GraphOp, problem: Problem) -> None:
        self.problem = problem
        self.blocks = {name: program.body.block for name, program in programs_of(graph).items()}
        self.original = {name: list(block.ops) for name, block in self.blocks.items()}
        self.places = {op: op.order for ops in self.original.values() for op in ops if hasattr(op, "order")}
        self.waits: list[tuple[RecvOp, WaitOp]] = []

    def apply(self, line: list[Event]) -> None:
        programs: dict[str, list[Operation]] = {name: [] for name in self.blocks}
        started: dict[tuple[int, int], list[WaitOp]] = {}
        for place, event in enumerate(line):
            if event.kind is EventKind.TASK:
                for actor, operation in self.problem.operations[event.index].items():
                    programs[self.problem.names[actor]] += [*started.pop((event.index, actor), ()), operation]
                    _set_place(operation, place)
            elif event.kind is EventKind.RECV:
                operation = self.problem.recvs[event.index][event.actor]
                _set_place(operation, place)
                programs[self.problem.names[event.actor]].append(operation)
            else:
                send = self.problem.sends[event.index]
                _set_place(send, place)
                programs[self.problem.names[event.actor]].append(send)
                if event.kind is EventKind.MEET:
                    receivers = self.problem.messages[event.index].receivers
                    is_broadcast = len(receivers) > 1
                    send.properties["stream"] = IntAttr(COLLECTIVE_STREAM if is_broadcast else SEND_STREAM)
                    for receiver, consumer in receivers:
                        stream = COLLECTIVE_STREAM if is_broadcast else RECV_STREAM
                        start, wait = self._start(self.problem.recvs[event.index][receiver], place, stream)
                        programs[self.problem.names[receiver]].append(start)
                        started.setdefault((consumer, receiver), []).append(wait)
        self._fill(programs)

    def revert(self) -> None:
        for recv, wait in self.waits:
            wait.result.replace_all_uses_with(recv.result)
        self._fill(self.original)
        for operation, order in self.places.items():
            operation.properties["order"] = order
            if isinstance(operation, Operation):
                operation.properties.pop("stream", None)

    def _start(self, recv: RecvOp, place: int, stream: int) -> tuple[RecvStartOp, WaitOp]:
        start = RecvStartOp(
            recv.message.data,
            recv.sender,
            recv.transport,
            place,
            FutureType(recv.result.type),
            stream=stream,
            location=recv.location,
        )
        wait = WaitOp(start.result, location=recv.location)
        recv.result.replace_all_uses_with(wait.result)
        self.waits.append((recv, wait))
        return start, wait

    def _fill(self, programs: Mapping[str, list[Operation]]) -> None:
        for name, block in self.blocks.items():
            for operation in list(block.ops):
                block.detach_op(operation)
            block.add_ops(programs[name])


def _set_place(operation: Operation, place: int) -> None:
    if "order" in operation.properties:
        operation.properties["order"] = IntAttr(place)


@dataclass(frozen=True)
class OverlapCommPass(Pass):
    """
    See the top of this file.

    Options:
        cost-model: File of a profile; without one, all calls take equally long.
        streams: Whether messages may be issued on streams of their own.
        max-bytes: What a receiver may have issued and not used; 0 for no limit.
    """

    name = "overlap-comm"
    accepts = ("scheduled",)
    cost_model: str = ""
    streams: bool = False
    max_bytes: int = 0

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        cost = cost_of(graph, context, self.cost_model, self.name)
        _explain(graph, context, self.streams)
        budget = self.max_bytes or math.inf
        changed = self.streams and overlap(graph, cost, budget, context)
        changed |= self.streams and stream_collectives(graph, cost, context)
        if not changed:
            context.keep()


def _explain(graph: GraphOp, context: PassContext, streams: bool) -> None:
    """Remark once per transport why its messages stay where they are."""
    transports = {
        operation.transport.kind.data: operation.transport
        for program in programs_of(graph).values()
        for operation in communication(program)
        if isinstance(operation, RecvOp)
    }
    for kind, transport in sorted(transports.items()):
        if transport.lends:
            context.remark("WhyNoOverlap", f"{kind}: the receiver sees the sender's memory, and nothing is copied")
        elif not transport.is_rendezvous:
            context.remark("WhyNoOverlap", f"{kind}: the actor itself copies messages through host memory")
        elif not streams:
            context.remark("WhyNoOverlap", f"{kind}: streams are off; overlap-comm{{streams}} turns them on")
