"""
Linking: a program and an arena become a list of closures, one an operation, with everything looked up once.

A step takes no arguments; it works on the registers that were bound into it. Errors of the user's code and data become
`ErrorValue`s in the registers that they would have filled, so a step raises only what ends the loop: `ChannelClosed`,
`ActorExitRequest`, or a defect of cgc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cgc.runtime import _core, ray_internals, serialization
from cgc.runtime.accelerators import base
from cgc.runtime.accelerators.crossing import Crossing, CrossingEncoder, room_of
from cgc.runtime.accelerators.interface import Accelerator
from cgc.runtime.accelerators.lending import LendingLinks, Readable
from cgc.runtime.arguments import Registers, Step, link_arguments
from cgc.runtime.handover import OfferKeeper
from cgc.runtime.lost_values import ValueNames, on_actor, unplaceable, unreadable, unsendable
from cgc.runtime.methods import bind_method
from cgc.runtime.program import Call, ChannelSpec, Copy, Program, Read, Write
from cgc.runtime.task_errors import ErrorValue
from cgc.runtime.uses import Uses

if TYPE_CHECKING:
    from cgc.runtime.communicators.groups import WorkerGroups
    from cgc.runtime.communicators.steps import TensorLinks

WriteMessage = Callable[[int, serialization.Buffer, Sequence[serialization.Buffer]], None]
"""`_core.Writer.write`: the kind of a message, its blob, and its buffers."""


class ActorExitRequest(BaseException):
    """A method asked for the end of its actor, as `ray.actor.exit_actor()` and `sys.exit()` do."""


def link(
    program: Program,
    instance: Any,
    arena: _core.Arena,
    groups: WorkerGroups | None = None,
    accelerator: Accelerator | None = None,
    writers: dict[str, _core.Writer] | None = None,
    noting: Callable[[WriteMessage], WriteMessage] | None = None,
    endings: list[Step] | None = None,
) -> list[Step]:
    """
    The steps of an actor's program. `groups` are its communicators, which are joined before the first step runs;
    `accelerator` is found by the program's `device` if it is not given; `writers` gets the writers of the channels in
    shared memory, by name, and `endings` what is to be called when the graph has ended and the steps are gone; `noting`
    makes what is called to write a message of what would be.

    Raises AttributeError for a method that the actor does not have, ImportError where communicators need PyTorch.
    """
    registers: Registers = [None] * program.registers
    names = ValueNames(program)
    tensor_links = None if groups is None else _tensor_links(program, arena, groups, registers)
    ends = _Ends(
        program,
        arena,
        _crossing(program, accelerator),
        {} if writers is None else writers,
        [] if endings is None else endings,
    )
    steps: list[Step] = []
    changeable = {} if ends.crossing is not None else changeable_values(program)
    for number, operation in enumerate(program.operations):
        if tensor_links is not None and (step := tensor_links.link(operation)) is not None:
            steps.append(step)
        elif isinstance(operation, Read):
            steps.append(ends.reading(operation, partial(_link_read, operation, registers=registers, names=names)))
        elif isinstance(operation, Call):
            steps.append(_link_call(operation, instance, registers))
        elif isinstance(operation, Write):
            writer, slots, encoder = ends.writing(operation)
            write = _checked(writer.write, groups)
            write = write if noting is None else noting(write)
            early: dict[int, serialization.Encoded] = {}
            for register, maker in changeable.get(number, ()):
                take = partial(_encode_early, early, register, operation, registers, names, encoder)
                steps[maker] = _in_turn(steps[maker], take)
            steps.append(_link_write(operation, write, OfferKeeper(writer, slots), registers, names, encoder, early))
        elif isinstance(operation, Copy) and ends.crossing is not None:
            steps.append(_link_copy(operation, ends.crossing, registers, names, ends.room_after(operation)))
        else:
            raise TypeError(f"program @{program.actor}: {type(operation).__name__} is an operation of the driver")
    return steps


def changeable_values(program: Program) -> dict[int, list[tuple[int, int]]]:
    """
    What the actor may change before it is sent: results that wait for those of later calls, to share a message.

    By number of the write, (register, number of the call that fills it).
    """
    found: dict[int, list[tuple[int, int]]] = {}
    maker: dict[int, int] = {}
    last_call = -1
    for number, operation in enumerate(program.operations):
        if isinstance(operation, Call):
            last_call = number
            maker.update(dict.fromkeys(operation.into, number))
        elif isinstance(operation, Write) and len(operation.values) > 1:
            made = [(register, maker[register]) for register in operation.values if register in maker]
            if changeable := [(register, call) for register, call in made if call < last_call]:
                found[number] = changeable
    return found


def _encode_early(
    early: dict[int, serialization.Encoded],
    register: int,
    operation: Write,
    registers: Registers,
    names: ValueNames,
    encoder: serialization.Encoder,
) -> None:
    """Encode a value before it is sent, unless nobody can change it; what Ray sends is the value as it was returned."""
    value = registers[register]
    if type(value) in serialization.UNCHANGEABLE:
        return
    try:
        early[register] = encoder.encode_early(value)
    except Exception as error:
        early[register] = encoder.encode_early(unsendable(value, names.of(register, operation), error))


def _checked(write: WriteMessage, groups: WorkerGroups | None) -> WriteMessage:
    """
    Write only if no communicator has failed.

    When a message is written, the host has waited for what is in it; but a wait ends after a failure, too.
    """
    if groups is None or not groups.can_fail_unheard:
        return write
    check = groups.check

    def checked(kind: int, blob: serialization.Buffer, buffers: Sequence[serialization.Buffer]) -> None:
        check()
        write(kind, blob, buffers)

    return checked


def _in_turn(first: Step, second: Step) -> Step:
    def both() -> None:
        first()
        second()

    return both


class _Ends:
    """The actor's ends of channels in shared memory: one for a channel, however many operations take turns on it."""

    def __init__(
        self,
        program: Program,
        arena: _core.Arena,
        crossing: Crossing | None,
        writers: dict[str, _core.Writer],
        endings: list[Step],
    ) -> None:
        self.crossing = crossing
        self._program = program
        self._arena = arena
        self._channels = {channel.name: channel for channel in program.channels}
        self._readers: dict[str, _core.Reader] = {}
        self._writers = writers
        self._endings = endings
        self._uses = Uses(program) if crossing is not None and arena.offer_pages() else None
        """None where no pages of channels are offered to a device."""
        self._lending = _lending(program, self._channels, arena, crossing)
        if crossing is not None:
            endings.append(crossing.end)
        if self._lending is not None:
            endings.append(self._lending.leave)

    def reading(self, operation: Read, link_read: Callable[[Readable], Step]) -> Step:
        """The step of a read; `link_read` makes the part of it that takes a message from a reader."""
        channel = self._channels[operation.channel]
        if self._lending is not None and channel.returns:
            borrower = self._lending.borrower(channel)
            step, in_place = self._lending.inside(link_read(borrower), borrower), False
        else:
            reader = self._readers.get(channel.name)
            if reader is None:
                rank = channel.readers.index(self._program.actor)
                reader = self._readers[channel.name] = self._arena.reader(channel.index, rank)
            step, in_place = link_read(reader), self._uses is not None and self._uses.goes_to_the_device(operation)
        return step if self.crossing is None else _link_inside(step, self.crossing, in_place)

    def writing(self, operation: Write) -> tuple[_core.Writer, int, serialization.Encoder]:
        """What a write needs: the writer of its channel, the slots of that, and what encodes values for it."""
        channel = self._channels[operation.channel]
        writer = self._writer(channel)
        if self._lending is not None and channel.returns:
            return writer, channel.slots, self._lending.encoder(channel, writer)
        return writer, channel.slots, _encoder(self.crossing, writer if self._uses is not None else None, self._endings)

    def room_after(self, operation: Copy) -> _core.Writer | None:
        """The writer of the channel that takes the result of a copy, if that can lie in its memory from the start."""
        taking = None if self._uses is None else self._uses.channel_taking(operation.into)
        channel = None if taking is None else self._channels[taking]
        return None if channel is None or channel.communicator or channel.returns else self._writer(channel)

    def _writer(self, channel: ChannelSpec) -> _core.Writer:
        if channel.name not in self._writers:
            self._writers[channel.name] = self._arena.writer(channel.index)
        return self._writers[channel.name]


def _tensor_links(program: Program, arena: _core.Arena, groups: WorkerGroups, registers: Registers) -> TensorLinks:
    try:
        from cgc.runtime.communicators.steps import TensorLinks
    except ImportError as error:
        raise ImportError(
            f"tensors and collectives need PyTorch in the actor's environment: pip install 'cgc[torch]' ({error})"
        ) from error
    return TensorLinks(program, arena, groups, registers)


def _crossing(program: Program, accelerator: Accelerator | None) -> Crossing | None:
    """How arrays come from and to the actor's device; None for an actor without one."""
    if not program.device:
        return None
    if accelerator is None and any(isinstance(operation, Copy) for operation in program.operations):
        accelerator = base.find(program.device)
    return Crossing(lambda: accelerator or base.find(program.device))


def _lending(
    program: Program, channels: dict[str, ChannelSpec], arena: _core.Arena, crossing: Crossing | None
) -> LendingLinks | None:
    """The ends of channels that lend; None without such channels."""
    if not any(channel.returns for channel in program.channels):
        return None
    if crossing is None:
        raise ValueError(f"program @{program.actor} has a channel that lends tensors of a device, and no device")
    return LendingLinks(program.actor, channels, arena, crossing)


def _encoder(crossing: Crossing | None, writer: _core.Writer | None, endings: list[Step]) -> serialization.Encoder:
    """The encoder of a channel; `writer` is its own if arrays of the device may be put where they are sent from."""
    if crossing is None:
        return serialization.Encoder()
    encoder = CrossingEncoder(crossing, None if writer is None else room_of(writer))
    endings.append(encoder.end)
    return encoder


def _link_inside(step: Step, crossing: Crossing, in_place: bool) -> Step:
    """The step, with arrays that it reads put on the device if that is where they were made."""
    reading = serialization.reading

    def read_onto_device() -> None:
        crossing.let_go()
        reading.in_place = in_place
        try:
            with crossing:
                step()
        finally:
            reading.in_place = False

    return read_onto_device


def _link_copy(
    operation: Copy, crossing: Crossing, registers: Registers, names: ValueNames, writer: _core.Writer | None
) -> Step:
    """The step of a copy; `writer` is that of the channel which takes its result, and which nobody else takes."""
    room = None if writer is None else room_of(writer)
    to_host = partial(crossing.to_host, room=room)
    move = to_host if operation.device == "cpu" else crossing.to_device
    source, target, drop = operation.value, operation.into, operation.drop
    name = f"{operation}{on_actor(operation, names.actor)}"

    def copy() -> None:
        value = registers[source]
        try:
            moved = value if type(value) is ErrorValue else move(value)
        except Exception as error:
            moved = ErrorValue.from_exception(error, name)
        for register in drop:
            registers[register] = None
        registers[target] = moved

    return copy


def _link_read(operation: Read, reader: Readable, *, registers: Registers, names: ValueNames) -> Step:
    read = reader.read
    decoders = serialization.DECODERS
    name = f"{operation}{on_actor(operation, names.actor)}"

    def read_one() -> None:
        kind, blob, buffers = read()
        try:
            registers[target] = decoders[kind](blob, buffers)
        except Exception as error:
            registers[target] = unreadable(name, error)

    def read_many() -> None:
        _, blob, buffers = read()
        values = serialization.decode_many(blob, buffers, count, lambda _, error: unreadable(name, error))
        for register, value in zip(targets, values, strict=True):
            registers[register] = value

    targets = operation.into
    count = len(targets)
    target = targets[0]
    return read_one if count == 1 else read_many


def _link_write(
    operation: Write,
    write: WriteMessage,
    keeper: OfferKeeper,
    registers: Registers,
    names: ValueNames,
    encoder: serialization.Encoder,
    early: dict[int, serialization.Encoded],
) -> Step:
    encode = encoder.encode
    kept = keeper.entries
    sources = operation.values
    source = sources[0]
    drop = operation.drop

    def replace(position: int, error: Exception) -> ErrorValue:
        register = sources[position]
        return unsendable(registers[register], names.of(register, operation), error)

    def write_one() -> None:
        try:
            kind, blob, buffers = encode(registers[source])
        except Exception as error:
            kind, blob, buffers = encode(replace(0, error))
        try:
            write(kind, blob, buffers)
        except MemoryError as error:
            write_without_memory([registers[source]], str(error))
        if kept or encoder.offers:
            keeper.update(encoder.offers)
            encoder.offers = ()
        for register in drop:
            registers[register] = None

    def write_many() -> None:
        values = [early.get(register, registers[register]) for register in sources]
        early.clear()
        kind, blob, buffers = encoder.encode_many(values, replace)
        try:
            write(kind, blob, buffers)
        except MemoryError as error:
            write_without_memory(values, str(error))
        if kept or encoder.offers:
            keeper.update(encoder.offers)
            encoder.offers = ()
        for register in drop:
            registers[register] = None

    def write_without_memory(values: list[Any], reason: str) -> None:
        """Send an error instead of the largest value, and of as many others as it takes."""
        sizes = [encoder.size_of(value) for value in values]
        for position in sorted(range(len(values)), key=sizes.__getitem__, reverse=True):
            values[position] = unplaceable(names.of(sources[position], operation), reason)
            try:
                write(*(encode(values[0]) if len(values) == 1 else encoder.encode_many(values, replace)))
            except MemoryError as error:
                reason = str(error)  # not the error itself: a frame that its own traceback leads to would hold it
            else:
                return
        raise MemoryError(reason)

    return write_one if len(sources) == 1 else write_many


def _link_call(operation: Call, instance: Any, registers: Registers) -> Step:
    method = bind_method(instance, operation)
    name = method.name
    compute = link_arguments(operation, method.call, registers)
    if operation.effect:
        compute = _error_of(compute)
    drop = operation.drop
    targets = operation.into
    target = targets[0] if targets else None
    note = f"in the node bound at {operation.location}" if operation.location else ""

    def call_with_one_result() -> None:
        try:
            result = compute()
        except BaseException as error:
            result = failed(error)
        for register in drop:
            registers[register] = None
        registers[target] = result  # type: ignore[index]

    def call_with_other_results() -> None:
        try:
            results = _unpack(compute(), len(targets))
        except BaseException as error:
            results = [failed(error)] * len(targets)
        for register in drop:
            registers[register] = None
        for register, result in zip(targets, results, strict=True):
            registers[register] = result

    def failed(error: BaseException) -> ErrorValue:
        if isinstance(error, ray_internals.INTENDED_EXITS):
            raise ActorExitRequest(f"{name}: {type(error).__name__}: {error}") from error
        return ErrorValue.from_exception(error, name, note=note, instance=instance)

    return call_with_one_result if len(targets) == 1 else call_with_other_results


def _error_of(compute: Callable[[], Any]) -> Callable[[], ErrorValue | None]:
    """What a call for its effect has instead of a result."""

    def compute_error() -> ErrorValue | None:
        result = compute()
        return result if type(result) is ErrorValue else None

    return compute_error


def _unpack(result: Any, count: int) -> Sequence[Any]:
    if isinstance(result, ErrorValue):
        return [result] * count
    if count == 0:
        return ()
    if not isinstance(result, tuple | list):
        raise ValueError(f"Expected a tuple of {count} outputs, but got {type(result)}")
    if len(result) != count:
        raise ValueError(f"Expected {count} outputs, but got {len(result)} outputs")
    return result
