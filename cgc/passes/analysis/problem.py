"""From programs of level `scheduled` back to tasks and messages, so that they can be ordered anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cgc.ir import ActorOp, CollectiveOp, GraphOp, GroupOp, Operation, RecvOp, RecvStartOp, SendOp, SSAValue, WaitOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.events import Message, Task
from cgc.passes.analysis.expected import message_cost, operation_us
from cgc.passes.graph_view import Communication, actors_of, order_of, programs_of


@dataclass(slots=True)
class Problem:
    """
    Programs as the order analyses take them. Actors are positions in `names`.

    Attributes:
        names: The participants.
        tasks: All that is no message, in a topological order that keeps the order of each program.
        operations: The operations of each task, by actor: one, but for collectives.
        messages: In the order of their sends.
        sends: The send of each message.
        recvs: The recvs of each message, by actor.
    """

    names: list[str]
    tasks: list[Task] = field(default_factory=list)
    operations: list[dict[int, Operation]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    sends: list[SendOp] = field(default_factory=list)
    recvs: list[dict[int, RecvOp]] = field(default_factory=list)


def problem_of(graph: GraphOp, cost: CostModel) -> Problem | str:
    """The tasks and messages of a graph's programs, or a sentence that says why they cannot be ordered anew."""
    programs, actors = programs_of(graph), actors_of(graph)
    operations = [op for program in programs.values() for op in program.body.block.ops]
    if any(isinstance(operation, (RecvStartOp, WaitOp, GroupOp)) for operation in operations):
        return "the programs have streams or groups already"
    problem = Problem(list(programs))
    number = {name: index for index, name in enumerate(programs)}
    task_of = _add_tasks(problem, graph, number, cost)
    recvs = {
        (op.message.data, number[name]): op
        for name, program in programs.items()
        for op in program.body.block.ops
        if isinstance(op, RecvOp)
    }
    for name, program in programs.items():
        for operation in program.body.block.ops:
            if isinstance(operation, SendOp):
                if not _add_message(problem, operation, number, recvs, task_of, actors, cost):
                    return f"@{name} sends on a value that it received, or a message is not used"
    return problem


def _add_tasks(problem: Problem, graph: GraphOp, number: Mapping[str, int], cost: CostModel) -> dict[Operation, int]:
    """
    Add the tasks; returns the number of each operation's task.

    An operation stands behind what its program has communicated before it. Orders rise along programs and from a send
    to its recvs, so that sorting by them is topological.
    """
    actors = actors_of(graph)
    placed: list[tuple[int, int, int, Operation]] = []
    for name, program in programs_of(graph).items():
        last = -1
        for position, operation in enumerate(program.body.block.ops):
            if isinstance(operation, Communication):
                last = order_of(operation)
            if not isinstance(operation, SendOp | RecvOp):
                placed.append((last, number[name], position, operation))
    placed.sort(key=lambda item: item[:3])
    task_of: dict[Operation, int] = {}
    collectives: dict[int, int] = {}
    for _, actor, _, operation in placed:
        if isinstance(operation, CollectiveOp) and operation.message is not None:
            task = collectives.setdefault(operation.message.data, len(problem.tasks))
        else:
            task = len(problem.tasks)
        if task == len(problem.tasks):
            names = operation.participant_names if isinstance(operation, CollectiveOp) else (problem.names[actor],)
            makers = (task_of.get(_maker(value)) for value in operation.operands)
            needs = tuple(dict.fromkeys(maker for maker in makers if maker is not None))
            problem.tasks.append(
                Task(tuple(number[name] for name in names), operation_us(operation, actors, cost), needs)
            )
            problem.operations.append({})
        problem.operations[task][actor] = operation
        task_of[operation] = task
    return task_of


def _add_message(
    problem: Problem,
    send: SendOp,
    number: Mapping[str, int],
    recvs: Mapping[tuple[int, int], RecvOp],
    task_of: Mapping[Operation, int],
    actors: Mapping[str, ActorOp],
    cost: CostModel,
) -> bool:
    """Add one message; False if its ends are not tasks."""
    source = task_of.get(_maker(send.value))
    mine = {number[name]: recvs[send.message.data, number[name]] for name in send.receiver_names}
    users = {actor: [task_of.get(use.operation) for use in recv.result.uses] for actor, recv in mine.items()}
    receivers = []
    for actor, tasks in users.items():
        known = [task for task in tasks if task is not None]
        if not known or len(known) < len(tasks):
            return False
        receivers.append((actor, min(known)))
    if source is None:
        return False
    sender = next(actor for actor, operation in problem.operations[source].items() if send.value in operation.results)
    types, ends = [send.value.type], (problem.names[sender], send.receiver_names)
    expected = message_cost(send.transport, types, cost, actors, *ends)
    problem.messages.append(
        Message(
            source=source,
            sender=sender,
            receivers=tuple(receivers),
            meets=send.transport.is_rendezvous,
            nbytes=expected.nbytes,
            send_us=expected.send_us,
            latency_us=expected.latency_us,
            recv_us=expected.recv_us,
        )
    )
    problem.sends.append(send)
    problem.recvs.append(mine)
    return True


def _maker(value: SSAValue) -> Operation:
    assert isinstance(value.owner, Operation), "programs have no block arguments"
    return value.owner
