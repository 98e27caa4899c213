"""
group-comm: two messages that cross between the same two actors are begun together.

Requires: level `scheduled`.
Guarantees: level `scheduled`. Two messages of one communicator (nccl, gloo), one in each direction between two actors,
are one `cgc.group` on each of the two, at one place of the global order, if neither needs the other: they travel at the
same time instead of one after the other. Every predicted end is at most what it was (see `_may_join`). Messages on
streams stay there: each direction has a stream of its own. What is not done is a remark `WhyNoGroup`.

    cgc.send %1 message 1 to [@b] via gloo order 4           %2 = cgc.group {
    %2 = cgc.recv message 2 from @b via gloo order 5    ->     cgc.send %1 message 1 to [@b] via gloo order 4
                                                               %3 = cgc.recv message 2 from @b via gloo order 4
                                                               cgc.yield(%3)  }
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cgc.ir import (
    CollectiveOp,
    GraphOp,
    GroupOp,
    Operation,
    ProgramOp,
    RecvOp,
    SendOp,
    YieldOp,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import cost_of, message_cost
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import actors_of, order_of, programs_of


def group(graph: GraphOp, cost: CostModel, context: PassContext) -> bool:
    """Put crossing messages into groups; True if there were any."""
    before: float | None = None
    while joined := _pairs(graph, cost):
        before = simulate(schedule_of(graph, cost)).makespan if before is None else before
        for first, second in joined:
            _join(first, second)
        context.count("groups", len(joined))
    _explain(graph, cost, context)
    if before is None:
        return False
    context.count("makespan-us-before", before)
    context.count("makespan-us", simulate(schedule_of(graph, cost)).makespan)
    return True


def _pairs(graph: GraphOp, cost: CostModel) -> list[tuple[_Meeting, _Meeting]]:
    """Pairs of messages to join, at the place of the first of each; what is between two that are may cross then."""
    between = _meetings(graph, cost)
    if not between:
        return []
    positions = _Positions(programs_of(graph))
    return [pair for meetings in between.values() for pair in _crossing(meetings, positions)]


@dataclass(eq=False)
class _Meeting:
    """A message whose two ends meet, and how long both are busy with it."""

    sender: str
    send: SendOp
    recv: RecvOp
    us: float

    @property
    def receiver(self) -> str:
        return self.send.receiver_names[0]


class _Positions:
    """Where operations stand in their programs, of which only meetings move."""

    def __init__(self, programs: dict[str, ProgramOp]) -> None:
        self._of = {op: n for program in programs.values() for n, op in enumerate(program.body.block.ops)}

    def of(self, operation: Operation) -> int:
        return self._of[operation]

    def first_use(self, recv: RecvOp) -> int:
        """Of the value that a message brings; before all of the program if it is sent on, since that may move."""
        users = [_top(use.operation) for use in recv.result.uses]
        return min((-1 if isinstance(user, SendOp) else self.of(user) for user in users), default=-1)


def _top(operation: Operation) -> Operation:
    """The operation of a program that this one is, or is in."""
    parent = operation.parent_op()
    return parent if isinstance(parent, GroupOp) else operation


def _meetings(graph: GraphOp, cost: CostModel) -> dict[tuple[str, str], list[_Meeting]]:
    """The messages in the programs whose two ends meet, by the two actors, in their order."""
    programs, actors = programs_of(graph), actors_of(graph)
    sends: list[tuple[str, SendOp]] = []
    recvs: dict[int, RecvOp] = {}
    for name, program in programs.items():
        for operation in program.body.block.ops:
            if isinstance(operation, SendOp) and operation.transport.is_rendezvous and operation.stream is None:
                sends.append((name, operation))
            elif isinstance(operation, RecvOp):
                recvs[operation.message.data] = operation
    sends.sort(key=lambda item: order_of(item[1]))
    found: dict[tuple[str, str], list[_Meeting]] = {}
    for name, send in sends:
        recv = recvs.get(send.message.data)
        if len(send.receiver_names) == 1 and recv is not None and recv.stream is None:
            other = send.receiver_names[0]
            us = message_cost(send.transport, [send.value.type], cost, actors, name, (other,)).send_us
            found.setdefault((min(name, other), max(name, other)), []).append(_Meeting(name, send, recv, us))
    return found


def _crossing(meetings: list[_Meeting], positions: _Positions) -> Iterator[tuple[_Meeting, _Meeting]]:
    """Pairs that can be joined, at the place of the first of each; each message is in one at most, with a near one."""
    waiting: list[_Meeting] = []
    for late in meetings:
        if not late.send.transport.can_group:
            continue
        for early in reversed(waiting):
            if early.sender == late.sender or early.send.transport != late.send.transport:
                continue
            place = _may_join(early, late, positions)
            if place is not None:
                waiting.remove(early)
                yield (early, late) if place is early else (late, early)
                break
        else:
            waiting.append(late)


def _may_join(early: _Meeting, late: _Meeting, positions: _Positions) -> _Meeting | None:
    """
    The meeting at whose place both can be, so that nothing ends later than it did; None if there is none.

    `late` can go to the place of `early` if what it sends exists there, `early` to that of `late` if what it brings is
    not used before. The two actors meet at that place anyway. So nobody waits for the pair who did not wait before, if
    the one that stays takes at least as long as the one that comes to it. Where nothing stands between the two on
    either actor, it does not matter which is longer: together they take less than one after the other.
    """
    after = [(positions.of(late.recv), positions.of(early.send)), (positions.of(late.send), positions.of(early.recv))]
    adjacent = all(second == first + 1 for second, first in after)
    maker = late.send.value.owner
    assert isinstance(maker, Operation), "programs have no block arguments"
    on_stream = isinstance(maker, CollectiveOp) and maker.stream is not None
    made = not on_stream and not isinstance(maker, RecvOp) and positions.of(_top(maker)) < positions.of(early.recv)
    if made and (adjacent or early.us >= late.us):
        return early
    if early.us <= late.us and positions.first_use(early.recv) > positions.of(late.send):
        return late
    return None


def _join(stays: _Meeting, comes: _Meeting) -> None:
    """Make one group on each of the two actors of a pair."""
    for operation in (comes.send, comes.recv):
        operation.properties["order"] = stays.send.order
    _gather([stays.send, comes.recv], stays.send, comes.recv)
    _gather([stays.recv, comes.send], stays.recv, stays.recv)


def _gather(operations: list[SendOp | RecvOp], place: Operation, recv: RecvOp) -> None:
    """Put operations of one program into a group where `place`, one of them, is; `recv` is what brings a value."""
    block, uses = place.parent_block(), list(recv.result.uses)
    assert block is not None, "communication lies in a block"
    here = place.next_op
    while here in operations:
        here = here.next_op
    for operation in operations:
        block.detach_op(operation)
    made = GroupOp([*operations, YieldOp([recv.result])], location=place.location)
    if here is None:
        block.add_op(made)
    else:
        block.insert_op_before(made, here)
    for use in uses:
        use.operation.operands[use.index] = made.results[0]


def _explain(graph: GraphOp, cost: CostModel, context: PassContext) -> None:
    """Remark once for two actors why messages that go in both directions are not grouped."""
    for (one, other), meetings in _meetings(graph, cost).items():
        grouping = [meeting for meeting in meetings if meeting.send.transport.can_group]
        if len({meeting.sender for meeting in grouping}) > 1:
            why = "each needs another one that it could go with, or would hold up what waits for a shorter one"
            context.remark("WhyNoGroup", f"messages between @{one} and @{other}: {why}")
        elif len({meeting.sender for meeting in meetings}) > 1 and not grouping:
            why = "Ray's interface of communicators cannot begin two together"
            context.remark("WhyNoGroup", f"messages between @{one} and @{other}: {why}")


@dataclass(frozen=True)
class GroupCommPass(Pass):
    """
    See the top of this file.

    Options:
        cost-model: File of a profile; without one, all calls take equally long.
    """

    name = "group-comm"
    accepts = ("scheduled",)
    cost_model: str = ""

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        if not group(graph, cost_of(graph, context, self.cost_model, self.name), context):
            context.keep()
