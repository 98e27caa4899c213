"""
The fetching half of the driver's program: messages are read from the graph's channels and kept until claimed.

Each channel to the driver is an *outlet* with its own position, so that an output never waits for another one's actor.
A *record* holds the outputs of one execution that somebody may still claim; what nobody can claim is skipped unread.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NoReturn

from cgc.runtime import _core, protocol, serialization
from cgc.runtime.lost_values import ValueNames, unreadable
from cgc.runtime.program import Output, Program, Read
from cgc.runtime.task_errors import ErrorValue


class _Mark:
    """A place in a record that holds no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


PENDING: Any = _Mark("pending")
GONE: Any = _Mark("gone")

_HELD_BY_TABLE = (lambda table: sys.getrefcount(table[0]))({0: object()})
"""References to a value of a dict that nobody else holds, as `sys.getrefcount` counts them."""

Record = list[Any]
"""
The outputs of an execution in order, each a value, PENDING or GONE, and its effects, each None, an error or PENDING;
then the number of outputs that are not GONE.
"""


class Outlet:
    """
    One channel to the driver.

    Attributes:
        next: The execution whose message is read next.
        places: For each value of a message, the positions of the outputs (or, after these, effects) that it is.
    """

    __slots__ = ("_name", "next", "places", "read", "reader", "ready", "skip")

    def __init__(self, reader: _core.Reader, places: tuple[tuple[int, ...], ...], name: str) -> None:
        self.reader: _core.Reader | _ReleasedReader = reader
        self.read = reader.read
        self.skip = reader.skip
        self.ready = reader.ready
        self.next = 0
        self.places = places
        self._name = name

    def decode(self, message: tuple[int, Any, list[memoryview]]) -> list[Any]:
        """The values of a message; one that cannot be decoded becomes an error."""
        kind, blob, buffers = message
        if kind == protocol.MULTI:
            return serialization.decode_many(blob, buffers, len(self.places), lambda _, error: self.refuse(error))
        try:
            return [serialization.DECODERS[kind](blob, buffers)]
        except Exception as error:
            return [self.refuse(error)]

    def refuse(self, error: Exception) -> ErrorValue:
        """What is handed out instead of a value that cannot be decoded."""
        return unreadable(self._name, error)


class Outlets:
    """
    All outlets of a graph, and the records. One thread at a time, but another may add records.

    Attributes:
        outputs: Number of the graph's outputs.
        effects: Places of its effects in a record.
        finished: Executions of which something was read, or that were skipped.
        records: By execution.
        outlets: In the order of the program.
    """

    def __init__(self, program: Program, arena: _core.Arena, max_records: int) -> None:
        output = next(operation for operation in program.operations if isinstance(operation, Output))
        values = output.values + output.effects
        self.outputs = len(output.values)
        self.effects = range(self.outputs, len(values))
        self.finished = 0
        self.records: dict[int, Record] = {}
        self.max_records = max_records
        self.outlets = _make_outlets(program, arena, values)
        self._outlet_of = {place: outlet for outlet in self.outlets for places in outlet.places for place in places}
        self._only = self.outlets[0] if len(self.outlets) == len(values) == 1 else None
        self.blank_record: Record = [PENDING] * len(values) + [self.outputs]
        """To be copied into `records` before an execution's inputs are submitted."""

    def claim(self, execution: int, output: int, timeout: float) -> Any:
        """
        Hand out one output, reading as far as needed. Once only: KeyError after that.

        Raises `ChannelTimeout` (later calls go on), `ChannelClosed`, and `BufferFullError` where older executions fill
        the buffer.
        """
        only = self._only
        if only is not None and only.next == execution and len(self.records) < self.max_records:
            return self._claim_next(only, execution, timeout)
        record = self.records[execution]
        deadline = time.monotonic() + timeout if self.effects else 0.0
        if record[output] is PENDING:
            self._read_until(self._outlet_of[output], execution, timeout)
        elif record[output] is GONE:
            raise KeyError(execution)
        value = record[output]
        if self.effects and type(value) is not ErrorValue:
            value = self._first_failure(record, execution, timeout, deadline) or value
        self.give_up(execution, output)
        return value

    def has_arrived(self, execution: int, output: int) -> bool:
        """Whether `claim` need not read: an output that has arrived, or is an input, may wait for effects still."""
        record = self.records.get(execution)
        if record is None or record[output] is GONE or type(record[output]) is ErrorValue:
            return True
        return not any(record[place] is PENDING for place in (output, *self.effects))

    def give_up(self, execution: int, output: int) -> None:
        """Nobody will claim this output any more. Idempotent."""
        record = self.records.get(execution)
        if record is None or record[output] is GONE:
            return
        record[output] = GONE
        record[-1] -= 1
        if not record[-1]:
            del self.records[execution]

    def forget_unclaimable(self) -> bool:
        """
        Drop the records that no ref holds any more; whether there were any.

        A ref that goes out of scope gives its output up, but for one case: Python swallows a KeyboardInterrupt that
        comes at the first instruction of a destructor, and with it the rest of the destructor.
        """
        lost = [execution for execution in self.records if sys.getrefcount(self.records[execution]) <= _HELD_BY_TABLE]
        for execution in lost:
            del self.records[execution]
        return bool(lost)

    def discard_oldest(self, timeout: float) -> bool:
        """Read past the oldest unfinished execution if nobody can claim it; False if somebody can."""
        oldest = self.finished
        if oldest in self.records:
            return False
        for outlet in self.outlets:
            while outlet.next <= oldest:
                self._take(outlet, timeout)
        self.finished = max(self.finished, oldest + 1)
        return True

    def catch_up(self, execution: int, timeout: float) -> None:
        """Read every outlet up to and including `execution`: a writer may wait for the room."""
        for outlet in self.outlets:
            while outlet.next <= execution:
                self._take(outlet, timeout)

    def release(self, keep_results: bool = True) -> None:
        """Let go of the channels, after the graph has ended; what has arrived stays readable with `keep_results`."""
        for outlet in self.outlets:
            while keep_results and outlet.next in self.records and outlet.ready():
                self._take(outlet, 0.0)
            outlet.reader = _ReleasedReader(outlet.next)
            outlet.read, outlet.skip, outlet.ready = outlet.reader.read, outlet.reader.skip, outlet.reader.ready

    @property
    def slowest(self) -> int:
        """The least number of messages that were read of an outlet."""
        return min((outlet.next for outlet in self.outlets), default=self.finished)

    def _claim_next(self, only: Outlet, execution: int, timeout: float) -> Any:
        """The fast path of a graph with one output: the next message is the one that is wanted."""
        if execution not in self.records:
            raise KeyError(execution)
        try:
            kind, blob, buffers = only.read(timeout)
            try:
                value = serialization.DECODERS[kind](blob, buffers)
            except Exception as error:
                value = only.refuse(error)
            only.next = self.finished = execution + 1
            del self.records[execution]
        except BaseException as error:
            self._repair(only, execution, error)
            raise
        return value

    def _first_failure(self, record: Record, execution: int, timeout: float, deadline: float) -> ErrorValue | None:
        """Wait for all effects; the error of the first that failed."""
        for place in self.effects:
            if record[place] is PENDING:
                self._read_until(self._outlet_of[place], execution, _remaining(timeout, deadline))
        return next((record[place] for place in self.effects if record[place] is not None), None)

    def _read_until(self, outlet: Outlet, execution: int, timeout: float) -> None:
        if outlet.next == execution:
            self._require_room(outlet)
            self._take(outlet, timeout)
        else:
            deadline = time.monotonic() + timeout
            while outlet.next <= execution:
                self._require_room(outlet)
                self._take(outlet, timeout)
                timeout = _remaining(timeout, deadline)
        if len(self.outlets) > 1:
            self._take_what_is_ready()

    def _take_what_is_ready(self) -> None:
        """Keep the other outlets moving, so that their writers find room although nobody claims their outputs yet."""
        for outlet in self.outlets:
            while outlet.next < self.finished and outlet.ready():
                self._take(outlet, 0.0)

    def _take(self, outlet: Outlet, timeout: float) -> None:
        """Take one message. Keeps the count right even if KeyboardInterrupt comes between taking and storing it."""
        execution = outlet.next
        record = self.records.get(execution)
        try:
            if record is None:
                outlet.skip(timeout)
            else:
                values = outlet.decode(outlet.read(timeout))
                for value, places in zip(values, outlet.places, strict=True):
                    for place in places:
                        if record[place] is PENDING:
                            record[place] = value
            outlet.next = execution + 1
            if execution >= self.finished:
                self.finished = execution + 1
        except BaseException as error:
            self._repair(outlet, execution, error)
            raise

    def _repair(self, outlet: Outlet, execution: int, error: BaseException) -> None:
        """After an exception: if the message is off the channel, count it, and let its lost values be errors."""
        if outlet.reader.consumed <= execution:
            return
        outlet.next = execution + 1
        self.finished = max(self.finished, execution + 1)
        record = self.records.get(execution)
        if record is None:
            return
        lost = RuntimeError(f"the result was lost: {type(error).__name__} arrived while it was being read")
        for places in outlet.places:
            for place in places:
                if record[place] is PENDING:
                    record[place] = ErrorValue.from_exception(lost, "ray.get")

    def _require_room(self, outlet: Outlet) -> None:
        """An execution takes room from when its first output is read, so its other outputs need none."""
        if len(self.records) < self.max_records or outlet.next < self.finished:
            return
        kept = self._kept()
        if kept >= self.max_records and self.forget_unclaimable():
            kept = self._kept()
        if kept >= self.max_records:
            raise BufferFullError(kept)

    def _kept(self) -> int:
        """Executions of which something was read and not claimed."""
        return sum(1 for execution in self.records if execution < self.finished)


def _remaining(timeout: float, deadline: float) -> float:
    """What is left of a time-out; 0 and the negative ones, which are none, stay as they are."""
    return max(0.0, deadline - time.monotonic()) if timeout > 0 else timeout


class _ReleasedReader:
    """In the place of a reader of a graph that has ended."""

    def __init__(self, consumed: int) -> None:
        self.consumed = consumed

    def read(self, timeout: float = -1.0) -> NoReturn:
        raise _core.ChannelClosed

    skip = read

    def ready(self) -> bool:
        return False


class BufferFullError(Exception):
    """As many executions as allowed have results that were read and not claimed."""

    def __init__(self, kept: int) -> None:
        super().__init__(kept)
        self.kept = kept


def _make_outlets(program: Program, arena: _core.Arena, values: tuple[int, ...]) -> list[Outlet]:
    channels = {channel.name: channel for channel in program.channels}
    names = ValueNames(program)
    outlets = []
    for operation in program.operations:
        if isinstance(operation, Read):
            channel = channels[operation.channel]
            reader = arena.reader(channel.index, channel.readers.index(program.actor))
            places = tuple(
                tuple(place for place, register in enumerate(values) if register == own) for own in operation.into
            )
            outlets.append(Outlet(reader, places, names.of(operation.into[0], program.operations[-1])))
    return outlets
