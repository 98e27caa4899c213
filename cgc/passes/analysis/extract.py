"""
From IR of level `scheduled` or `allocated` to a schedule that the simulator runs.

A program is a process. What is sent on a stream, and what `recv_start` and `read_start` begin, runs in a process of its
own, one per actor and stream: the program only issues it.
The driver is two processes, since its program has two halves: it submits up to the in-flight limit before it gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cgc.errors import PassError
from cgc.ir import (
    Attribute,
    CallOp,
    ChannelReadOp,
    CollectiveOp,
    GraphOp,
    GroupOp,
    Operation,
    ReadStartOp,
    ReceiveOp,
    RecvStartOp,
    SendOp,
    SSAValue,
    TransportAttr,
    WaitOp,
    WriteOp,
    location_text,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import message_cost, operation_us
from cgc.passes.analysis.schedule import RENDEZVOUS, Channel, Kind, Process, Schedule, Step
from cgc.passes.graph_view import (
    Communication,
    actors_of,
    channels_of,
    communication,
    driver_of,
    inflight_of,
    programs_of,
)


def schedule_of(graph: GraphOp, cost: CostModel, *, inflight: int = 1, most_slots: int | None = None) -> Schedule:
    """
    The graph as a schedule.

    Args:
        graph: At level `scheduled` or `allocated`.
        cost: For the times.
        inflight: Executions that the driver submits before it gets the first result.
        most_slots: Buffered channels with more slots are taken to have only so many; None for as they are.

    Raises:
        PassError: A message has no sender, which `verify_level` would have found.
    """
    return _Extraction(graph, cost, inflight, most_slots).schedule()


@dataclass(slots=True)
class _Draft:
    """
    A channel while its ends are being found; `types` are those of the values of each of its messages. Where it `meets`,
    all ends have to be there.
    """

    name: str
    transport: TransportAttr
    slots: int
    meets: bool
    types: list[list[Attribute]] = field(default_factory=list)
    writer: int | None = None
    readers: list[int] = field(default_factory=list)


class _Extraction:
    def __init__(self, graph: GraphOp, cost: CostModel, inflight: int, most_slots: int | None) -> None:
        self.graph = graph
        self.cost = cost
        self.inflight = inflight
        self.most_slots = most_slots
        self.actors = actors_of(graph)
        self.driver = driver_of(graph)
        self.declared = channels_of(graph)
        self.processes: list[Process] = []
        self.drafts: list[_Draft] = []
        self.number_of: dict[int | str, int] = {}
        self.streams: dict[tuple[str, int], int] = {}
        self.started: dict[SSAValue, tuple[int, int]] = {}

    def schedule(self) -> Schedule:
        for name, program in programs_of(self.graph).items():
            operations = list(program.body.block.ops)
            if name == self.driver:
                self._driver(operations)
            else:
                self._process(name, f"@{name}", operations)
        channels = [self._channel(draft) for draft in self.drafts]
        return Schedule(self.processes, channels)

    def _driver(self, operations: list[Operation]) -> None:
        sends = [index for index, operation in enumerate(operations) if isinstance(operation, SendOp | WriteOp)]
        middle = sends[-1] + 1 if sends else 0
        execute = self._process(self.driver, f"@{self.driver}/execute", operations[:middle])
        get = self._process(self.driver, f"@{self.driver}/get", operations[middle:])
        self.processes[execute].gates = ((get, -self.inflight),)
        self.processes[get].gates = ((execute, self.inflight - 1),)

    def _process(self, actor: str, name: str, operations: Iterable[Operation]) -> int:
        index = len(self.processes)
        self.processes.append(Process(name, actor=actor))
        for operation in operations:
            self._add(actor, index, operation)
        return index

    def _add(self, actor: str, index: int, operation: Operation) -> None:
        self._await_results(index, operation)
        if isinstance(operation, CallOp):
            us = operation_us(operation, self.actors, self.cost)
            self._step(index, Step(Kind.COMPUTE, operation.method, us=us, location=location_text(operation)))
        elif isinstance(operation, (RecvStartOp, ReadStartOp)):
            self._start(actor, index, operation)
        elif isinstance(operation, SendOp | WriteOp | CollectiveOp) and operation.stream is not None:
            self._start(actor, index, operation)
        elif isinstance(operation, WaitOp):
            where = self.started[operation.future]
            self._step(index, Step(Kind.COMPUTE, "wait", after=(where,), location=location_text(operation)))
        elif isinstance(operation, GroupOp):
            self._group(index, operation)
        elif isinstance(operation, Communication):
            self._step(index, self._communicate(index, operation))
        else:
            us = operation_us(operation, self.actors, self.cost)
            self._step(index, Step(Kind.COMPUTE, _label(operation), us=us, location=location_text(operation)))

    def _step(self, index: int, step: Step) -> tuple[int, int]:
        steps = self.processes[index].steps
        steps.append(step)
        return index, len(steps) - 1

    def _await_results(self, index: int, operation: Operation) -> None:
        """The first use of what a collective on a stream makes waits for it, without an operation that says so."""
        if isinstance(operation, WaitOp):
            return
        used = [value for each in communication(operation) for value in each.operands]
        for value in used if isinstance(operation, GroupOp) else operation.operands:
            where = self.started.pop(value, None)
            if where is not None:
                self._step(index, Step(Kind.COMPUTE, "wait", after=(where,), location=location_text(operation)))

    def _start(
        self, actor: str, index: int, operation: SendOp | WriteOp | RecvStartOp | ReadStartOp | CollectiveOp
    ) -> None:
        """The main process goes on at once; the stream's process sends, or waits for the message."""
        begun = self._step(index, Step(Kind.COMPUTE, f"begin {_label(operation)}", location=location_text(operation)))
        stream = 0 if operation.stream is None else operation.stream.data
        if (actor, stream) not in self.streams:
            self.streams[actor, stream] = len(self.processes)
            self.processes.append(Process(f"@{actor}/stream{stream}", actor=actor))
        process = self.streams[actor, stream]
        place = self._step(process, self._communicate(process, operation, after=(begun,)))
        self.started.update(dict.fromkeys(operation.results, place))

    def _group(self, index: int, group: GroupOp) -> None:
        """All of it is begun together, and ends with the last of it."""
        steps = [self._communicate(index, operation) for operation in communication(group)]
        together = tuple(number for step in steps for number in step.channels)
        label = " + ".join(step.label for step in steps)
        self._step(index, Step(Kind.MEET, label, together, location=location_text(group)))

    def _communicate(self, index: int, operation: Communication, after: tuple[tuple[int, int], ...] = ()) -> Step:
        number = self._number(operation)
        draft = self.drafts[number]
        sends = isinstance(operation, SendOp | WriteOp) or (
            isinstance(operation, CollectiveOp) and draft.writer is None
        )
        if sends:
            draft.writer = index
            draft.types.append([value.type for value in operation.operands])
        elif index not in draft.readers:  # Several messages of an execution may take turns on a channel.
            draft.readers.append(index)
        kind = Kind.MEET if draft.meets else Kind.WRITE if sends else Kind.READ
        return Step(kind, _label(operation), (number,), after=after, location=location_text(operation))

    def _number(self, operation: Communication) -> int:
        key: int | str
        if isinstance(operation, WriteOp | ChannelReadOp):
            key = operation.channel_name
            declared = self.declared.get(key)
            if declared is None:
                raise PassError(f"there is no channel @{key}", "verify-schedule", operation.name)
            transport, slots, name = declared.transport, declared.slots.data, f"@{key}"
        else:
            assert operation.message is not None, "communication in a program has a message"
            key = operation.message.data
            transport, slots, name = operation.transport, inflight_of(self.graph), f"m{key}"
        if key not in self.number_of:
            self.number_of[key] = len(self.drafts)
            meets = transport.is_rendezvous or isinstance(operation, CollectiveOp)
            self.drafts.append(_Draft(name, transport, slots, meets))
        return self.number_of[key]

    def _channel(self, draft: _Draft) -> Channel:
        if draft.writer is None:
            raise PassError(f"nobody sends {draft.name}", "verify-schedule")
        sender, *receivers = (self.processes[index].actor for index in (draft.writer, *draft.readers))
        turns = [
            message_cost(draft.transport, types, self.cost, self.actors, sender, receivers, meets=draft.meets)
            for types in draft.types
        ]
        slots = draft.slots if self.most_slots is None else min(draft.slots, self.most_slots)
        return Channel(
            name=draft.name,
            writer=draft.writer,
            readers=tuple(draft.readers),
            slots=RENDEZVOUS if draft.meets else slots,
            write_us=turns[0].send_us,
            latency_us=turns[0].latency_us,
            read_us=turns[0].recv_us,
            turns=tuple((turn.send_us, turn.latency_us, turn.recv_us) for turn in turns) if len(turns) > 1 else (),
        )


def _label(operation: Operation) -> str:
    if isinstance(operation, SendOp):
        return f"send m{operation.message.data} to {', '.join('@' + name for name in operation.receiver_names)}"
    if isinstance(operation, ReceiveOp):
        return f"recv m{operation.message.data} from @{operation.sender_name}"
    if isinstance(operation, WriteOp):
        return f"write @{operation.channel_name}"
    if isinstance(operation, ChannelReadOp):
        return f"read @{operation.channel_name}"
    return operation.name.removeprefix("cgc.")
