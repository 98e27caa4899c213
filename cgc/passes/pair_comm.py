"""
pair-comm: from one body to one program per participant, with a send and its recvs for each transfer.

Requires: level `placed`.
Guarantees: level `scheduled`. Calls of an actor stay in the order of binding; edges within an actor are local values;
the driver sends all inputs before it receives; every program is a projection of one global order. With the option
`broadcast`, a value for several actors is one message where that is predicted to be faster. So nothing deadlocks:

1. All operations of one execution, of all participants, stand in one line, the global order: `order` in the IR.
2. A value stands behind what makes it and before what uses it. A recv stands behind its send, or, where both ends have
   to meet (nccl, gloo, custom communicators), at the same place, and so for all ends of a broadcast.
3. Every participant works through its part of the line from front to back, execution after execution.
4. Suppose that everybody waits, and look at the first operation in the line that is not done, in the oldest execution.
5. Its participants have done all of theirs that stand before it, so they are all at it.
6. If it is a call or a copy, it waits for nobody. If it is a meeting or a collective, all its parties are there.
7. If it is a recv on a buffered transport, its send stands before it, so the message is there.
8. If it is a send on a buffered transport with n >= 1 slots, it waits for a recv of n executions ago, which is done;
   the first executions find free slots.
9. So the operation can be done, which contradicts 4. Nothing more than 2 and 3 is needed: no sizes, no timing.

    %1 = cgc.call @a::@f(%0)                                 cgc.program @a {                cgc.program @b {
    %2 = cgc.transfer %1 from @a to [@b] via shm    ->         %1 = cgc.call @a::@f(%0)        %0 = cgc.recv message 3 …
    %3 = cgc.call @b::@g(%2)                                   cgc.send %1 message 3 …         %1 = cgc.call @b::@g(%0)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cgc.errors import PassError
from cgc.ir import (
    ActorOp,
    Block,
    CollectiveOp,
    GraphOp,
    Operation,
    ProgramOp,
    RecvOp,
    SendOp,
    SSAValue,
    TransferOp,
    TransportAttr,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.events import Event, EventKind, Message, Task
from cgc.passes.analysis.expected import cost_of, message_cost, operation_us
from cgc.passes.analysis.order import timed_order
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import actor_of, actors_of, body_of, driver_of, set_level

PASS_NAME = "pair-comm"


GAIN = 1e-3
"""Part of the makespan that broadcasts must gain at least: less is within the error of any cost model."""


def pair(graph: GraphOp, cost: CostModel, context: PassContext, *, broadcast: bool = False) -> None:
    """Replace the body by programs; with `broadcast`, see `_with_broadcasts`."""
    problem = _problem(graph, cost)
    order, makespan = timed_order(len(problem.actors), problem.tasks, problem.messages)
    merged = _with_broadcasts(problem, actors_of(graph), cost) if broadcast else problem
    if len(merged.messages) < len(problem.messages):
        shorter, sooner = timed_order(len(merged.actors), merged.tasks, merged.messages)
        if sooner > makespan * (1 - GAIN):
            told = f"broadcasts would take {sooner:.1f} us an execution, single messages take {makespan:.1f}"
            context.remark("WhyNoBroadcast", told)
        else:
            context.count("messages-broadcast", len(problem.messages) - len(merged.messages))
            problem, order = merged, shorter
    context.count("messages", len(problem.messages))
    body = body_of(graph)
    programs = _Projection(problem, body.body.block).programs(order)
    graph.body.block.erase_op(body)
    graph.body.block.add_ops(ProgramOp(name, block) for name, block in zip(problem.actors, programs, strict=True))


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What one message does: `first`, a transfer of the body, and what others of the same value do with it."""

    first: TransferOp
    receiver_names: tuple[str, ...]
    results: tuple[SSAValue, ...]

    @staticmethod
    def of(operation: TransferOp) -> _Transfer:
        return _Transfer(operation, operation.receiver_names, tuple(operation.results))

    def joined(self, others: Iterable[_Transfer]) -> _Transfer:
        """One transfer to the receivers of all of them."""
        names = (name for other in others for name in other.receiver_names)
        results = (result for other in others for result in other.results)
        return _Transfer(self.first, (*self.receiver_names, *names), (*self.results, *results))


@dataclass(slots=True)
class _Problem:
    """A body as the order analysis takes it: tasks are its operations, messages its `transfers`."""

    actors: list[str]
    operations: list[Operation] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    transfers: list[_Transfer] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def _problem(graph: GraphOp, cost: CostModel) -> _Problem:
    driver, actors = driver_of(graph), actors_of(graph)
    problem = _Problem(list(actors))
    number = {name: index for index, name in enumerate(actors)}
    first_use: dict[SSAValue, int] = {}
    made_by: dict[SSAValue, int] = {}
    for operation in body_of(graph).body.block.ops:
        if isinstance(operation, TransferOp):
            problem.transfers.append(_Transfer.of(operation))
            continue
        task = len(problem.operations)
        for value in operation.operands:
            first_use.setdefault(value, task)
        made_by.update(dict.fromkeys(operation.results, task))
        problem.operations.append(operation)
        names = operation.participant_names if isinstance(operation, CollectiveOp) else (actor_of(operation, driver),)
        needs = tuple(dict.fromkeys(made_by[value] for value in operation.operands if value in made_by))
        problem.tasks.append(Task(tuple(number[name] for name in names), operation_us(operation, actors, cost), needs))
    for transfer in problem.transfers:
        users = [first_use.get(result) for result in transfer.results]
        receivers = [(number[name], user) for name, user in zip(transfer.receiver_names, users, strict=True)]
        problem.messages.append(
            _message(transfer.first, made_by[transfer.first.value], number, receivers, actors, cost)
        )
    return problem


def _with_broadcasts(problem: _Problem, actors: Mapping[str, ActorOp], cost: CostModel) -> _Problem:
    """The same, but a value that goes to several actors over communicators is one message where that takes less."""
    alike: dict[tuple[SSAValue, TransportAttr], list[int]] = {}
    for index, transfer in enumerate(problem.transfers):
        transport = transfer.first.transport
        if transport.is_rendezvous and transport.can_broadcast:
            alike.setdefault((transfer.first.value, transport), []).append(index)
    merged: dict[int, tuple[_Transfer, Message]] = {}
    left: set[int] = set()
    for (value, transport), (first, *others) in alike.items():
        parts = [problem.messages[index] for index in (first, *others)]
        transfer = problem.transfers[first].joined([problem.transfers[index] for index in others])
        ends = (transfer.first.sender_name, transfer.receiver_names)
        expected = message_cost(transport, [value.type], cost, actors, *ends)
        if others and expected.send_us < sum(part.send_us for part in parts):
            receivers = tuple(receiver for part in parts for receiver in part.receivers)
            merged[first] = transfer, replace(parts[0], receivers=receivers, send_us=expected.send_us)
            left.update(others)
    kept = [
        merged.get(index, pair)
        for index, pair in enumerate(zip(problem.transfers, problem.messages, strict=True))
        if index not in left
    ]
    return replace(problem, transfers=[pair[0] for pair in kept], messages=[pair[1] for pair in kept])


def _message(
    transfer: TransferOp,
    source: int,
    number: Mapping[str, int],
    receivers: Sequence[tuple[int, int | None]],
    actors: Mapping[str, ActorOp],
    cost: CostModel,
) -> Message:
    for name, (_, user) in zip(transfer.receiver_names, receivers, strict=True):
        if user is None:
            remedy = f"remove @{name} from its receivers"
            raise PassError(f"@{name} does not use what a transfer brings", PASS_NAME, transfer.name, remedy)
    expected = message_cost(
        transfer.transport, [transfer.value.type], cost, actors, transfer.sender_name, transfer.receiver_names
    )
    return Message(
        source=source,
        sender=number[transfer.sender_name],
        receivers=tuple((receiver, user) for receiver, user in receivers if user is not None),
        meets=transfer.transport.is_rendezvous,
        nbytes=expected.nbytes,
        send_us=expected.send_us,
        latency_us=expected.latency_us,
        recv_us=expected.recv_us,
    )


class _Projection:
    """Distributes the operations of a body over the participants, in a given order."""

    def __init__(self, problem: _Problem, body: Block) -> None:
        self.problem = problem
        self.body = body
        self.programs_of: list[list[Operation]] = [[] for _ in problem.actors]
        self.place = 0
        self.next_message = len(problem.messages)

    def programs(self, order: Sequence[Event]) -> list[list[Operation]]:
        for event in order:
            if event.kind is EventKind.TASK:
                self._task(event)
                continue
            transfer = self.problem.transfers[event.index]
            if event.kind in (EventKind.SEND, EventKind.MEET):
                self._send(transfer, event)
            if event.kind in (EventKind.RECV, EventKind.MEET):
                meets = event.kind is EventKind.MEET
                receivers = self.problem.messages[event.index].receivers if meets else [(event.actor, None)]
                for receiver, _ in receivers:
                    self._recv(transfer, event.index, receiver)
            self.place += 1
        return self.programs_of

    def _task(self, event: Event) -> None:
        operation = self.problem.operations[event.index]
        if isinstance(operation, CollectiveOp):
            self._collective(operation)
            return
        self.body.detach_op(operation)
        self.programs_of[event.actor].append(operation)

    def _send(self, transfer: _Transfer, event: Event) -> None:
        send = SendOp(
            transfer.first.value,
            event.index,
            transfer.receiver_names,
            transfer.first.transport,
            self.place,
            location=transfer.first.location,
        )
        self.programs_of[self.problem.messages[event.index].sender].append(send)

    def _recv(self, transfer: _Transfer, message: int, receiver: int) -> None:
        name = self.problem.actors[receiver]
        result = transfer.results[transfer.receiver_names.index(name)]
        first = transfer.first
        recv = RecvOp(message, first.sender_name, first.transport, self.place, result.type, location=first.location)
        result.replace_all_uses_with(recv.result)
        self.programs_of[receiver].append(recv)

    def _collective(self, operation: CollectiveOp) -> None:
        """One operation per participant, at one place of the order."""
        names = operation.participant_names
        each = len(operation.operands) // len(names)
        for position, name in enumerate(names):
            part = slice(position * each, (position + 1) * each)
            mine = type(operation)(
                operation.operands[part],
                operation.participants,
                [result.type for result in operation.results[part]],
                reduce=None if operation.reduce is None else operation.reduce.data,
                transport=operation.transport,
                message=self.next_message,
                order=self.place,
                location=operation.location,
            )
            for old, new in zip(operation.results[part], mine.results, strict=True):
                old.replace_all_uses_with(new)
            self.programs_of[self.problem.actors.index(name)].append(mine)
        self.next_message += 1
        self.place += 1


@dataclass(frozen=True)
class PairCommPass(Pass):
    """
    See the top of this file.

    Options:
        cost-model: File of a profile; without one, all calls take equally long.
        broadcast: Whether a value for several actors may be one message, with a communicator of exactly its ends.
    """

    name = PASS_NAME
    accepts = ("placed",)
    produces = "scheduled"
    cost_model: str = ""
    broadcast: bool = False

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        cost = cost_of(graph, context, self.cost_model, self.name)
        pair(graph, cost, context, broadcast=self.broadcast)
        set_level(graph, "scheduled")
