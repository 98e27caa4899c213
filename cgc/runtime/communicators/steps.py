"""
Linking of collectives, and of the operations that use communicators: what `link` does for channels and calls, done for
tensors.

A stream is a thread that takes messages in the order of the program while the actor computes. A value that is being
sent on a stream must not be written in place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from cgc.runtime import _core
from cgc.runtime.accelerators.transfers import Arrival
from cgc.runtime.arguments import Registers, Step
from cgc.runtime.communicators.collective import Agreement, Participant, arrived
from cgc.runtime.communicators.comm_thread import CommunicationThread
from cgc.runtime.communicators.edges import Receiver, Sender
from cgc.runtime.communicators.exchange import Exchange
from cgc.runtime.communicators.groups import WorkerGroups
from cgc.runtime.communicators.shared_collective import Rings, SharedParticipant
from cgc.runtime.lost_values import ValueNames, on_actor
from cgc.runtime.program import Collective, Group, Operation, Program, Read, ReadStart, Wait, Write


class TensorLinks:
    """Makes the steps of one program that are collectives, or use communicators."""

    def __init__(self, program: Program, arena: _core.Arena, groups: WorkerGroups, registers: Registers) -> None:
        self._actor = program.actor
        self._channels = {channel.name: channel for channel in program.channels}
        self._arena = arena
        self._groups = groups.groups
        self._stream = groups.stream
        self._allocate = groups.landing.register
        self._registers = registers
        self._names = ValueNames(program)
        self._agreements: dict[tuple[str, ...], Agreement] = {}
        self._rings: dict[tuple[str, ...], Rings] = {}
        self._has_streams = any(getattr(operation, "stream", None) is not None for operation in program.operations)

    def link(self, operation: Operation) -> Step | None:
        """The step of a collective, or of an operation that uses a communicator; None for any other."""
        if isinstance(operation, Collective):
            return self._collective(operation)
        if isinstance(operation, Group):
            return self._group(operation)
        if isinstance(operation, Wait):
            return self._wait(operation)
        if isinstance(operation, ReadStart):
            return self._read_start(operation)
        if isinstance(operation, Read) and self._channels[operation.channel].communicator:
            return self._read(operation)
        if isinstance(operation, Write) and self._channels[operation.channel].communicator:
            return self._write(operation)
        return None

    def _read(self, operation: Read) -> Step:
        registers, target, receive = self._registers, operation.into[0], self._receiver(operation).receive
        receive = self._in_turn(self._channels[operation.channel].communicator, receive)

        def step() -> None:
            registers[target] = receive()

        return step

    def _read_start(self, operation: ReadStart) -> Step:
        registers, target, begin = self._registers, operation.into, self._receiver(operation).begin
        stream = self._stream_of(self._channels[operation.channel].communicator, operation.stream)

        def step() -> None:
            registers[target] = partial(_received, stream.submit(begin))

        return step

    def _wait(self, operation: Wait) -> Step:
        registers, source, target = self._registers, operation.value, operation.into

        def step() -> None:
            registers[target] = registers[source]()
            registers[source] = None

        return step

    def _stream_of(self, communicator: str, number: int) -> CommunicationThread:
        """
        The thread that is a stream of this actor.

        Where operations are queued on a device, one thread queues them all: a communicator needs one order, that of the
        program, and nothing but a header is waited for. One thread also has all operations of users' communicators,
        which need not be made for several; the programs are projections of one order, so it waits for nothing later.
        """
        group = self._groups[communicator] if communicator else None
        return self._stream(0 if group is not None and (group.is_custom or group.transfers is not None) else number)

    def _in_turn(self, communicator: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """`act`, on the stream's thread where that uses the same communicator, and nobody says that two threads may."""
        if not self._has_streams or not communicator or not self._groups[communicator].is_custom:
            return act
        stream = self._stream_of(communicator, 0)
        return lambda *arguments: stream.submit(partial(act, *arguments)).result()

    def _receiver(self, operation: Read | ReadStart) -> Receiver:
        channel = self._channels[operation.channel]
        reader = self._arena.reader(channel.index, channel.readers.index(self._actor))
        name = f"{operation}{on_actor(operation, self._actor)}"
        return Receiver(channel, reader, self._groups[channel.communicator], name)

    def _sender(self, operation: Write) -> Sender:
        channel = self._channels[operation.channel]
        name = self._names.of(operation.values[0], operation)
        return Sender(channel, self._arena.writer(channel.index), self._groups[channel.communicator], name)

    def _group(self, operation: Group) -> Step:
        parts = operation.operations
        ends = [self._sender(part) if isinstance(part, Write) else self._receiver(part) for part in parts]
        communicator = self._channels[parts[0].channel].communicator
        run = self._in_turn(communicator, Exchange(self._groups[communicator], ends).run)
        sources = [part.values[0] for part in parts if isinstance(part, Write)]
        targets = [part.into[0] for part in parts if isinstance(part, Read)]
        registers, drop = self._registers, operation.drop

        def step() -> None:
            received = run([registers[source] for source in sources])
            for register in drop:
                registers[register] = None
            for register, value in zip(targets, received, strict=True):
                registers[register] = value

        return step

    def _write(self, operation: Write) -> Step:
        channel, sender = self._channels[operation.channel], self._sender(operation)
        registers, source, drop, send = self._registers, operation.values[0], operation.drop, sender.send
        send_now = self._in_turn(channel.communicator, send)

        def step() -> None:
            send_now(registers[source])
            for register in drop:
                registers[register] = None

        if operation.stream is None:
            return step
        stream = self._stream_of(channel.communicator, operation.stream)
        ready = self._groups[channel.communicator].ready
        under_way: deque[Future[None]] = deque()

        def start() -> None:
            while under_way and under_way[0].done():
                under_way.popleft().result()  # raises what ended the stream
            under_way.append(stream.submit(partial(send, registers[source], ready())))
            for register in drop:
                registers[register] = None

        return start

    def _collective(self, operation: Collective) -> Step:
        participant = self._participant(operation)
        take_part = self._in_turn(operation.communicator, participant.take_part)
        registers, sources, targets, drop = self._registers, operation.values, operation.into, operation.drop

        def step() -> None:
            values = [registers[source] for source in sources]
            for register in drop:
                registers[register] = None  # before: what nobody else has, the reduction may write to
            results = take_part(values)
            for register, result in zip(targets, results, strict=True):
                registers[register] = result

        if operation.stream is None:
            return step
        stream = self._stream_of(operation.communicator, operation.stream)
        ready = self._groups[operation.communicator].ready if operation.communicator else _at_once

        def start() -> None:
            values = [registers[source] for source in sources]
            for register in drop:
                registers[register] = None
            under_way = stream.submit(partial(participant.begin, values, ready()))
            for position, register in enumerate(targets):
                registers[register] = partial(_reduced, under_way, position)

        return start

    def _participant(self, operation: Collective) -> Participant | SharedParticipant:
        channels = [self._channels[name] for name in operation.channels]
        name = f"{operation.kind}{on_actor(operation, self._actor)}"
        if not operation.communicator:
            rings = self._rings.get(operation.channels)
            if rings is None:
                rings = self._rings[operation.channels] = Rings(channels, self._actor, self._arena)
            return SharedParticipant(operation, rings, self._actor, name, self._allocate())
        agreement = self._agreements.get(operation.channels)
        if agreement is None:
            agreement = self._agreements[operation.channels] = Agreement(channels, self._actor, self._arena)
        return Participant(operation, self._groups[operation.communicator], agreement, name)


def _at_once() -> None:
    """Values of the host are there when their step is."""


def _received(under_way: Future[tuple[Any, Sequence[Arrival]]]) -> Any:
    """What a receive on a stream has brought; raises what ended it."""
    value, arrivals = under_way.result()
    for arrival in arrivals:
        arrival.wait()
    return value


def _reduced(under_way: Future[Sequence[Any]], position: int) -> Any:
    """One result of a collective on a stream; raises what ended it."""
    return arrived([under_way.result()[position]])[0]
