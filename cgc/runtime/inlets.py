"""
The submitting half of the driver's program: inputs are checked, encoded, and written to the graph's channels.

Either nothing of an execution is published or, in the end, all of it: when a write fails after another one of the same
execution went out, the rest stays here and goes out before the next execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import ray.actor

from cgc.runtime import _core, serialization
from cgc.runtime.alloc import Source
from cgc.runtime.arguments import Registers
from cgc.runtime.handover import OfferKeeper, bring_to
from cgc.runtime.lost_values import ValueNames, unplaceable
from cgc.runtime.program import ChannelSpec, Input, Output, Program, Write
from cgc.runtime.task_errors import ErrorValue


class Inlets:
    """
    Checks and submits inputs. One thread at a time.

    Attributes:
        submitted: Executions of which something was published.
        positional: Number of positional inputs.
        keywords: Names of the others.
        passes_on: Whether an output of the graph is an input of it.
        is_plain: Whether `submit_plain` may be used.
    """

    def __init__(
        self,
        program: Program,
        arena: _core.Arena,
        actors: Mapping[str, ray.actor.ActorHandle],
        ignore_surplus: bool = False,
    ) -> None:
        self._ignore_surplus = ignore_surplus
        self._inputs = [operation for operation in program.operations if isinstance(operation, Input)]
        keys = {operation.key for operation in self._inputs}
        whole = None in keys
        self.positional = 1 if whole else max((key + 1 for key in keys if isinstance(key, int)), default=0)
        self.keywords = tuple(sorted(key for key in keys if isinstance(key, str)))
        self._registers: Registers = [None] * program.registers
        channels = {channel.name: channel for channel in program.channels}
        names = ValueNames(program)
        self._writes = [
            _DriverWrite(operation, channels[operation.channel], arena, self._registers, names, actors)
            for operation in program.operations
            if isinstance(operation, Write)
        ]
        self._passed_on = _passed_on(program, self._inputs)
        self.passes_on = bool(self._passed_on)
        self.is_plain = self._is_plain()
        self._write: Callable[..., None] = _closed
        if self.is_plain:
            self._encode = self._writes[0].encoder.encode
            self._write = self._writes[0].writer.write
            self._encoder = self._writes[0].encoder
            self._kept = self._writes[0].keeper.entries
        self._unsent: list[tuple[_DriverWrite, serialization.Message]] = []
        self.submitted = 0

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise ValueError, with Ray's text, for the wrong number or names of inputs."""
        if len(args) != self.positional:
            raise ValueError(
                "dag.execute() or dag.execute_async() must be called with "
                f"{self.positional} positional args, got {len(args)}"
            )
        for keyword in self.keywords:
            if keyword not in kwargs:
                raise ValueError(f"dag.execute() or dag.execute_async() must be called with kwarg `{keyword}`")
        if len(kwargs) > len(self.keywords) and not self._ignore_surplus:
            surplus = sorted(kwargs.keys() - set(self.keywords))
            raise ValueError(f"the graph has no input of the name {', '.join(f'`{name}`' for name in surplus)}")

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> None:
        """
        Publish one execution's inputs; counts it in `submitted` if anything went out.

        Raises TypeError for an input that cannot be pickled (nothing was published then), `ChannelTimeout`,
        `ChannelClosed`, `MemoryError`.
        """
        try:
            if self._unsent:
                self.finish(timeout)
            if not self._writes:
                _closed()
            self._submit_all(args, kwargs, timeout)
        except BaseException:  # KeyboardInterrupt too: it may come after a message went out
            self._settle()
            raise

    def submit_plain(self, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> None:
        """The same, faster, for graphs that are `is_plain`: one input, taken as a whole, goes out in one message."""
        try:
            try:
                kind, blob, buffers = self._encode(args[0])
            except Exception as error:
                _refuse_input(args[0], error)
            self._write(kind, blob, buffers, timeout)
            self.submitted += 1
            if self._kept or self._encoder.offers:
                self._writes[0].keep_offers()
        except BaseException:
            self._settle()
            raise

    def source_of(self, key: int | str | None) -> Source:
        """
        What gives arrays in the channel that takes an input, or in the first one if `key` is None.

        Raises ValueError if there is no such input, `ChannelClosed` after `release`.
        """
        if not self._writes:
            _closed()
        registers = {operation.into for operation in self._inputs if key is None or operation.key in (key, None)}
        for write in self._writes:
            if key is None or registers & set(write.sources):
                return write.source
        known = ", ".join(repr(operation.key) for operation in self._inputs if operation.key is not None)
        raise ValueError(f"the graph has no input {key!r} that is sent to an actor; it has {known or 'one as a whole'}")

    def finish(self, timeout: float) -> None:
        """Send what is left of an execution whose submission was cut short. Raises as `submit`."""
        while self._unsent:
            write, message = self._unsent[0]
            if write.writer.published < self.submitted:
                write.send(message, timeout)
            del self._unsent[0]

    def release(self) -> None:
        """Let go of the channels, after the graph has ended; submitting raises `ChannelClosed` from now on."""
        self._writes = []
        self._unsent = []
        self._write = _closed

    def passed_on(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[int, Any]]:
        """(position, value) of the outputs that are inputs."""
        return [(position, _select(operation, args, kwargs)) for position, operation in self._passed_on]

    def _is_plain(self) -> bool:
        return (
            len(self._inputs) == 1
            and self._inputs[0].key is None
            and len(self._writes) == 1
            and self._writes[0].sources == (self._inputs[0].into,)
        )

    def _submit_all(self, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> None:
        registers = self._registers
        for operation in self._inputs:
            registers[operation.into] = _select(operation, args, kwargs)
        try:
            self._unsent = [(write, write.encode()) for write in self._writes]
        finally:
            for operation in self._inputs:
                registers[operation.into] = None
        first_write, first_message = self._unsent[0]
        first_write.send(first_message, timeout)
        self.submitted += 1
        del self._unsent[0]
        try:
            self.finish(timeout)
        except MemoryError as error:  # the first message is out, so every reader must get one
            self._unsent = [(write, write.error_message(error)) for write, _ in self._unsent]
            self.finish(timeout)
            raise

    def _settle(self) -> None:
        """After an exception: count the execution if a message of it is out, and keep the rest only then."""
        if self._writes and max(write.writer.published for write in self._writes) > self.submitted:
            self.submitted += 1
        self._unsent = [(write, message) for write, message in self._unsent if write.writer.published < self.submitted]


class _DriverWrite:
    """One write of the driver's program."""

    def __init__(
        self,
        operation: Write,
        channel: ChannelSpec,
        arena: _core.Arena,
        registers: Registers,
        names: ValueNames,
        actors: Mapping[str, ray.actor.ActorHandle],
    ) -> None:
        self.writer = arena.writer(channel.index)
        self.source = Source(self.writer, channel.slots)
        self.encoder = serialization.Encoder()
        self.sources = operation.values
        self.keeper = OfferKeeper(self.writer, channel.slots, bring_to([actors[reader] for reader in channel.readers]))
        self._registers = registers
        self._names = names
        self._operation = operation

    def encode(self) -> serialization.Message:
        values = [self._registers[source] for source in self.sources]
        if len(values) > 1:
            return self.encoder.encode_many(values, lambda position, error: _refuse_input(values[position], error))
        try:
            return self.encoder.encode(values[0])
        except Exception as error:
            _refuse_input(values[0], error)

    def send(self, message: serialization.Message, timeout: float) -> None:
        kind, blob, buffers = message
        self.writer.write(kind, blob, buffers, timeout)
        self.keep_offers()

    def keep_offers(self) -> None:
        offers, self.encoder.offers = self.encoder.offers, ()
        self.keeper.update(offers)

    def error_message(self, error: MemoryError) -> serialization.Message:
        """What the readers get instead of inputs for which there is no shared memory."""
        errors: list[ErrorValue] = [
            unplaceable(self._names.of(source, self._operation), str(error)) for source in self.sources
        ]
        if len(errors) == 1:
            return self.encoder.encode(errors[0])
        return self.encoder.encode_many(errors, lambda position, _: errors[position])


def _closed(*_: Any) -> NoReturn:
    raise _core.ChannelClosed


def _refuse_input(value: Any, error: Exception) -> NoReturn:
    kind = type(value)
    raise TypeError(
        f"an input of the graph, a {kind.__module__}.{kind.__qualname__}, cannot be sent: {error}"
    ) from error


def _passed_on(program: Program, inputs: Sequence[Input]) -> list[tuple[int, Input]]:
    makers = {operation.into: operation for operation in inputs}
    outputs = [operation for operation in program.operations if isinstance(operation, Output)]
    values = outputs[0].values if outputs else ()
    return [(position, makers[register]) for position, register in enumerate(values) if register in makers]


def _select(operation: Input, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    key = operation.key
    if key is None:
        return args[0]
    return args[key] if isinstance(key, int) else kwargs[key]
