"""
Linking of the operations that use communicators: what `link` does for channels and calls, done for tensors.

A tensor channel is a ring and a communicator. The ring carries a header (see `tensors`), then the communicator the
tensors. So a receiver waits in the ring, where it sees time-outs and the end of the graph, and enters the communicator
only when the sender is there. An error travels in the ring alone.

A channel whose values are promised to keep their shape and to be one tensor is *silent* after its first header: the
receiver waits in the communicator. An error is then announced in the ring, with the number of the message, before a
tensor of zeros goes in place of the one that is missing.

A stream is a thread that takes messages in the order of the program while the actor computes. A value that is being
sent on a stream must not be written in place.

Before a collective, the participants tell each other in rings what they bring. If one brings an error, or something
that does not fit, all of them get an error and nobody enters the communicator.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import torch
from ray.experimental.util.types import ReduceOp

from cgc.runtime import _core, protocol, serialization
from cgc.runtime.communicators import fold, tensors
from cgc.runtime.communicators.groups import Group, WorkerGroups
from cgc.runtime.communicators.tensors import Metas, TensorMeta
from cgc.runtime.handover import OfferKeeper
from cgc.runtime.link import Registers, Step, ValueNames, on_actor, unplaceable, unreadable, unsendable
from cgc.runtime.program import ChannelSpec, Collective, Operation, Program, Read, ReadStart, Wait, Write
from cgc.runtime.task_errors import ErrorValue

_NUMBER = struct.Struct("<Q")


class TensorLinks:
    """Makes the steps of one program that use communicators."""

    def __init__(self, program: Program, arena: _core.Arena, groups: WorkerGroups, registers: Registers) -> None:
        self._actor = program.actor
        self._channels = {channel.name: channel for channel in program.channels}
        self._arena = arena
        self._groups = groups.groups
        self._stream = groups.stream
        self._registers = registers
        self._names = ValueNames(program)
        self._agreements: dict[tuple[str, ...], Agreement] = {}

    def link(self, operation: Operation) -> Step | None:
        """The step of an operation that uses a communicator; None for any other."""
        if isinstance(operation, Collective):
            return self._collective(operation)
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

        def step() -> None:
            registers[target] = receive()

        return step

    def _read_start(self, operation: ReadStart) -> Step:
        registers, target, receive = self._registers, operation.into, self._receiver(operation).receive
        stream = self._stream(operation.stream)

        def step() -> None:
            registers[target] = stream.submit(receive)

        return step

    def _wait(self, operation: Wait) -> Step:
        registers, source, target = self._registers, operation.value, operation.into

        def step() -> None:
            registers[target] = registers[source].result()
            registers[source] = None

        return step

    def _receiver(self, operation: Read | ReadStart) -> Receiver:
        channel = self._channels[operation.channel]
        reader = self._arena.reader(channel.index, channel.readers.index(self._actor))
        name = f"{operation}{on_actor(operation, self._actor)}"
        return Receiver(channel, reader, self._groups[channel.communicator], name)

    def _write(self, operation: Write) -> Step:
        channel = self._channels[operation.channel]
        name = self._names.of(operation.values[0], operation)
        sender = Sender(channel, self._arena.writer(channel.index), self._groups[channel.communicator], name)
        registers, source, drop, send = self._registers, operation.values[0], operation.drop, sender.send

        def step() -> None:
            send(registers[source])
            for register in drop:
                registers[register] = None

        if operation.stream is None:
            return step
        stream = self._stream(operation.stream)
        under_way: deque[Future[None]] = deque()

        def start() -> None:
            while under_way and under_way[0].done():
                under_way.popleft().result()  # raises what ended the stream
            under_way.append(stream.submit(partial(send, registers[source])))
            for register in drop:
                registers[register] = None

        return start

    def _collective(self, operation: Collective) -> Step:
        agreement = self._agreements.get(operation.channels)
        if agreement is None:
            channels = [self._channels[name] for name in operation.channels]
            agreement = self._agreements[operation.channels] = Agreement(channels, self._actor, self._arena)
        name = f"{operation.kind}{on_actor(operation, self._actor)}"
        participant = Participant(operation, self._groups[operation.communicator], agreement, name)
        registers, sources, targets, drop = self._registers, operation.values, operation.into, operation.drop

        def step() -> None:
            results = participant.take_part([registers[source] for source in sources])
            for register in drop:
                registers[register] = None
            for register, result in zip(targets, results, strict=True):
                registers[register] = result

        return step


class Sender:
    """The writing end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, writer: _core.Writer, group: Group, name: str) -> None:
        self._channel = channel
        self._writer = writer
        self._group = group
        self._peer = group.ranks[channel.readers[0]]
        self._name = name
        self._encoder = serialization.Encoder()
        self._keeper = OfferKeeper(writer, channel.slots)
        self._promised: Metas | None = None
        self._number = 0

    def send(self, value: Any) -> None:
        """Send a value or an error. Raises only what ends the loop."""
        self._number += 1
        silent = self._channel.direct and self._promised is not None
        try:
            parts = self._take_apart(value)
            if not silent:
                self._writer.write(*tensors.header(parts, with_metas=self._promised is None))
                self._keeper.update(self._encoder.offers)
                self._encoder.offers = ()
        except MemoryError as error:
            self._send_error(unplaceable(self._name, error), silent)
            return
        except _NotSendableError as error:
            self._send_error(error.value, silent)
            return
        if self._channel.static:
            self._promised = parts.metas
        _send_all(self._group.communicator, parts.tensors, self._peer)

    def _take_apart(self, value: Any) -> tensors.Split:
        """Raises `_NotSendableError` with what is to be sent instead."""
        if type(value) is ErrorValue:
            raise _NotSendableError(value)
        try:
            parts = tensors.split(value, self._encoder)
        except Exception as error:
            raise _NotSendableError(unsendable(value, self._name, error)) from error
        problem = self._problem(value, parts)
        if problem:
            raise _NotSendableError(ErrorValue.from_exception(ValueError(f"{self._name}: {problem}"), self._name))
        return parts

    def _problem(self, value: Any, parts: tensors.Split) -> str:
        """Why the value breaks a promise or cannot travel; empty if it can."""
        if self._channel.direct and parts.rest is not None:
            return (
                f"promised to be one tensor (_direct_return=True), and is a {type(value).__name__}; return the tensor "
                "itself, or leave _direct_return out"
            )
        wrong = next((tensor for tensor in parts.tensors if tensor.device.type != self._group.device_type), None)
        if wrong is not None:
            return (
                f"a tensor is on {wrong.device}, but its communicator moves {self._group.device_type} tensors; return "
                f"it with .to({self._group.device_type!r}), or use transport 'shm'"
            )
        if self._promised is None:
            return ""
        change = tensors.describe_change(self._promised, parts.metas)
        return f"promised to keep its shape (_static_shape=True), but {change}" if change else ""

    def _send_error(self, error: ErrorValue, silent: bool) -> None:
        if not silent:
            self._writer.write(protocol.ERROR, error.blob, ())
            return
        self._writer.write(protocol.ERROR, _NUMBER.pack(self._number) + error.blob, ())
        assert self._promised is not None, "a silent channel has had a header"
        zeros = [torch.zeros(meta.shape, dtype=meta.dtype, device=self._group.device_type) for meta in self._promised]
        _send_all(self._group.communicator, zeros, self._peer)


class Receiver:
    """The reading end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, reader: _core.Reader, group: Group, name: str) -> None:
        self._channel = channel
        self._reader = reader
        self._group = group
        self._peer = group.ranks[channel.writer]
        self._name = name
        self._promised: Metas | None = None
        self._number = 0
        self._announced: tuple[int, ErrorValue] | None = None

    def receive(self) -> Any:
        """The next value, or the error that came instead. Raises only what ends the loop."""
        self._number += 1
        if self._channel.direct and self._promised is not None:
            return self._receive_silently(self._promised)
        kind, blob, buffers = self._reader.read()
        if kind == protocol.ERROR:
            return ErrorValue(bytes(blob))
        metas = tensors.read_metas(blob) or self._promised or ()
        if self._channel.static:
            self._promised = metas
        arrived = _receive_all(self._group, metas, self._peer)
        try:
            return tensors.join(blob, buffers, arrived)
        except Exception as error:
            return unreadable(self._name, error)

    def _receive_silently(self, metas: Metas) -> Any:
        arrived = _receive_all(self._group, metas, self._peer)
        if self._announced is None and self._reader.ready():
            _, blob, _ = self._reader.read()
            (number,) = _NUMBER.unpack_from(blob)
            self._announced = number, ErrorValue(bytes(memoryview(blob)[_NUMBER.size :]))
        if self._announced is not None and self._announced[0] == self._number:
            _, error = self._announced
            self._announced = None
            return error
        return arrived[0]


class Agreement:
    """The rings in which the participants of a communicator's collectives tell each other what they bring."""

    def __init__(self, channels: Sequence[ChannelSpec], actor: str, arena: _core.Arena) -> None:
        self.participants = tuple(channel.writer for channel in channels)
        self._ends: list[_core.Writer | _core.Reader] = [
            arena.writer(channel.index)
            if channel.writer == actor
            else arena.reader(channel.index, channel.readers.index(actor))
            for channel in channels
        ]

    def exchange(self, kind: int, blob: bytes) -> list[tuple[int, bytes]]:
        """Tell all others, and return what each participant brings, in their order."""
        if not self._ends:
            return [(kind, blob)]
        for end in self._ends:
            if isinstance(end, _core.Writer):
                end.write(kind, blob, ())
        brought = []
        for end in self._ends:
            if isinstance(end, _core.Writer):
                brought.append((kind, blob))
            else:
                their_kind, their_blob, _ = end.read()
                brought.append((their_kind, bytes(their_blob)))
        return brought


class Participant:
    """One actor's part in one collective operation of the graph."""

    def __init__(self, operation: Collective, group: Group, agreement: Agreement, name: str) -> None:
        self._name = name
        self._kind = operation.kind
        self._op = None if operation.reduce is None else ReduceOp[operation.reduce.upper()]
        self._group = group
        self._agreement = agreement

    def take_part(self, values: Sequence[Any]) -> Sequence[Any]:
        """The results, or an error for each of them. Raises only what ends the loop."""
        error = next((value for value in values if type(value) is ErrorValue), None)
        problem = "" if error is not None else self._problem(values)
        if problem:
            error = ErrorValue.from_exception(ValueError(f"{self._name}: {problem}"), self._name)
        if error is not None:
            kind, blob = protocol.ERROR, error.blob
        else:
            kind, blob = protocol.BYTES, tensors.dump_metas(tuple(map(TensorMeta.of, values)))
        brought = self._agreement.exchange(kind, blob)
        if kind == protocol.ERROR or any(other != (kind, blob) for other in brought):
            return [self._disagreement(brought)] * len(values)
        return self._run([value.detach().contiguous() for value in values])

    def _problem(self, values: Sequence[Any]) -> str:
        """What is wrong with this actor's own values; empty if nothing is."""
        for value in values:
            if not isinstance(value, torch.Tensor):
                return f"takes tensors, and @{self._group.actor} gives a {type(value).__name__}"
            if value.device.type != self._group.device_type:
                return f"moves {self._group.device_type} tensors, and @{self._group.actor} gives one on {value.device}"
            if value.dtype != values[0].dtype:
                return f"takes tensors of one dtype together, and @{self._group.actor} gives {_list(values)}"
            if self._op is not None:
                try:
                    fold.check_reduction(value.dtype, self._op)
                except TypeError as error:
                    return str(error)
            if self._kind != "allreduce" and not value.dim():
                return f"joins or cuts tensors along their first dimension, and @{self._group.actor} gives a scalar"
            if self._kind == "reduce_scatter" and value.shape[0] % len(self._group.ranks):
                return (
                    f"cuts along the first dimension, which must be divisible by {len(self._group.ranks)}; "
                    f"@{self._group.actor} gives {_list([value])}"
                )
        return ""

    def _disagreement(self, brought: Sequence[tuple[int, bytes]]) -> ErrorValue:
        """The same error for all participants: the first one that was brought, or how the tensors differ."""
        for kind, blob in brought:
            if kind == protocol.ERROR:
                return ErrorValue(blob)
        gives = ", ".join(
            f"@{actor} gives {' and '.join(map(str, tensors.load_metas(blob)))}"
            for actor, (_, blob) in zip(self._agreement.participants, brought, strict=True)
        )
        told = f"{self._name}: the participants' tensors differ: {gives}; shapes and dtypes have to be the same"
        return ErrorValue.from_exception(ValueError(told), self._name)

    def _run(self, values: Sequence[torch.Tensor]) -> Sequence[Any]:
        communicator = self._group.communicator
        first = values[0]
        if self._kind == "allgather":
            gathered = [_resized(value, value.shape[0] * len(self._group.ranks)) for value in values]
            for value, result in zip(values, gathered, strict=True):
                communicator.allgather(value, result)
            return gathered
        if self._kind == "reduce_scatter":
            parts = [_resized(value, value.shape[0] // len(self._group.ranks)) for value in values]
            for value, result in zip(values, parts, strict=True):
                communicator.reducescatter(value, result, self._op)
            return parts
        if len(values) == 1:
            reduced = torch.empty_like(first)
            communicator.allreduce(first, reduced, self._op)
            return [reduced]
        flat = torch.cat([value.view(-1) for value in values])
        communicator.allreduce(flat, flat, self._op)
        pieces = flat.split([value.numel() for value in values])
        return [piece.view(value.shape) for piece, value in zip(pieces, values, strict=True)]


class _NotSendableError(Exception):
    """Carries the error to send instead of a value."""

    def __init__(self, value: ErrorValue) -> None:
        super().__init__()
        self.value = value


def _send_all(communicator: Any, values: Sequence[torch.Tensor], peer: int) -> None:
    """Send tensors; those without elements have arrived with the header."""
    values = [value for value in values if value.numel()]
    start: Callable[..., Any] | None = getattr(communicator, "start_send", None)
    if start is None:
        for value in values:
            communicator.send(value.detach().contiguous(), peer)
        return
    for pending in [start(value, peer) for value in values]:
        pending.wait()


def _receive_all(group: Group, metas: Metas, peer: int) -> list[torch.Tensor]:
    communicator = group.communicator
    start: Callable[..., Any] | None = getattr(communicator, "start_recv", None)
    started: list[Any] = []
    for meta in metas:
        if 0 in meta.shape:
            started.append(group.empty(meta.shape, meta.dtype))
        elif start is None:
            started.append(communicator.recv(meta.shape, meta.dtype, peer, group.empty))
        else:
            started.append(start(meta.shape, meta.dtype, peer, group.empty))
    arrived = [one if isinstance(one, torch.Tensor) else one.wait() for one in started]
    for tensor, meta in zip(arrived, metas, strict=True):
        if meta.requires_grad:
            tensor.requires_grad_()
    return arrived


def _resized(value: torch.Tensor, extent: int) -> torch.Tensor:
    return value.new_empty((extent, *value.shape[1:]))


def _list(values: Sequence[torch.Tensor]) -> str:
    return " and ".join(str(TensorMeta.of(value)) for value in values)
