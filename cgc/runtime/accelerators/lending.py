"""
The ends of a channel on which arrays of a device are lent: readers see the writer's own memory, nothing is copied.

The channel is a ring like any other, so that errors, the rest of the values and time-outs are those of shared memory;
in place of an array's bytes the message says where the array lies. Behind it goes a *token*: which loan the message is,
and the event after which its arrays may be read. All arrays of a message are one loan.

    writer      holds the arrays of a loan until every reader has given it back
    reader      lets its stream wait for the event, once a message; when nothing refers to the loan's arrays any more,
                records an event behind whatever may still use them, and gives the loan back when that has happened
    never       does a host wait for a whole device, and nothing is opened twice while it is in use

A loan is given back in the reader's *board*: a page of shared memory of which each reader tells the writer in the one
message of a channel of its own. A loan has an entry there, which is used again only when all readers have given it
back: its number, or `HELD` and its number while the reader has it. A reader that has held on to its share of loans
copies what comes next and gives it back at once, so that there always is a free entry: keeping values costs memory and
never stops a writer.

After the end of a graph both ends go on with what is still held (`keeper`): a reader may keep an array for as long as
it likes. The board's first word says that a reader has left: then what it does not hold is given back, whether it has
read the message or not. One that has died holds nothing.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from cgc.runtime import _core, serialization
from cgc.runtime.accelerators.crossing import Crossing, CrossingEncoder, borrowing, lending
from cgc.runtime.accelerators.foreign_memory import mappings_of
from cgc.runtime.accelerators.interface import Array, Event, Lending, SharedEvent, Stream
from cgc.runtime.accelerators.keeper import KEEPER
from cgc.runtime.process_watch import is_running
from cgc.runtime.program import ChannelSpec
from cgc.runtime.task_errors import ErrorValue

MOST_KEPT = 16
"""Loans of a channel that its readers may keep; each has its share, and at least one."""

MOST_RETURNING = 16
"""Loans that a reader has dropped while its device is busy; then its host waits for the oldest."""

HELD = 1 << 63
LEFT = 1
"""The board's first word once its reader has left."""

SLICE = 0.001
"""Seconds between two looks at the device of a reader that waits for a message and has loans to give back."""

_TOKEN = struct.Struct("<QQ")
_PID = struct.Struct("<Q")


def entries_of(channel: ChannelSpec) -> int:
    """Loans that can be out at a time: what some reader has not read, and what each may keep, and be returning."""
    readers = len(channel.readers)
    return channel.slots + 1 + readers * (_share(channel) + MOST_RETURNING + 1)


def _share(channel: ChannelSpec) -> int:
    return max(1, MOST_KEPT // len(channel.readers))


@dataclass(slots=True)
class _Lent:
    """A loan, at the writer."""

    entry: int
    number: int
    holds: list[object]
    event: SharedEvent


class Lender:
    """The writing end of a channel that lends. For the thread that runs the program, until `leave`."""

    def __init__(
        self, channel: ChannelSpec, writer: _core.Writer, crossing: Crossing, boards: Sequence[_core.Reader]
    ) -> None:
        self._writer: _core.Writer | None = writer
        self._crossing = crossing
        self._tells: list[_core.Reader | None] = list(boards)
        self._boards: list[memoryview | None] = [None] * len(boards)
        self._pids = [0] * len(boards)
        self._free = list(reversed(range(1, entries_of(channel) + 1)))
        self._events: dict[int, SharedEvent] = {}
        self._out: list[_Lent] = []
        self._current: _Lent | None = None
        self._published = 0
        self._number = 0

    def begin(self) -> None:
        """A message is to be made; the one before has been sent by now, or never will be."""
        self._end_message()
        self.let_go()

    def lend(self, array: Array) -> tuple[bytes, int, tuple[int, ...], Any] | None:
        """Lend an array with the message that is being made; None if it has to be copied."""
        accelerator = self._crossing.accelerator
        if not isinstance(accelerator, Lending) or not (self._current or self._free):
            return None
        whole = accelerator.contiguous(array)
        exported = accelerator.export(whole)
        if exported is None:
            return None
        if self._current is None:
            entry = self._free.pop()
            event = self._events.get(entry)
            if event is None:
                event = self._events[entry] = accelerator.new_shared_event()
            self._number += 1
            self._current = _Lent(entry, self._number, [], event)
        self._current.holds.append(exported.hold)
        return exported.memory, exported.offset, tuple(whole.shape), whole.dtype

    def token(self) -> bytes:
        """What goes behind the message: its arrays are complete after what is queued on the current stream now."""
        if self._current is None:
            return _TOKEN.pack(0, 0)
        self._current.event.record()
        return _TOKEN.pack(self._current.entry, self._current.number) + self._current.event.handle

    def let_go(self) -> None:
        """Drop the arrays that all readers have given back. Never blocks."""
        if not self._out:
            return
        self._meet_readers()
        out = []
        for lent in self._out:
            if all(self._is_back(reader, lent) for reader in range(len(self._boards))):
                self._free.append(lent.entry)
            else:
                out.append(lent)
        self._out = out

    @property
    def lent(self) -> int:
        """Messages whose arrays are held."""
        return len(self._out) + (self._current is not None)

    def leave(self) -> None:
        """The graph has ended: what readers still have is held on in the background."""
        self._end_message()
        self._meet_readers()
        self._writer = None
        self._tells = [None] * len(self._tells)
        if not self.is_done():
            KEEPER.add(self.is_done)

    def is_done(self) -> bool:
        """After `leave`: whether everything has been given back."""
        self.let_go()
        return not self._out

    def _end_message(self) -> None:
        current, self._current = self._current, None
        assert self._writer is not None, "the lender has not left"
        if current is not None:
            if self._writer.published == self._published:  # another message took its place: nobody has heard of it
                self._free.append(current.entry)
            else:
                self._out.append(current)
        self._published = self._writer.published

    def _meet_readers(self) -> None:
        """Take the boards of readers that have begun since."""
        for number, tells in enumerate(self._tells):
            if tells is not None and tells.ready():
                _, pid, (board,) = tells.read(0.0)
                (self._pids[number],) = _PID.unpack(pid)
                self._boards[number] = memoryview(board).cast("Q")
                self._tells[number] = None

    def _is_back(self, reader: int, lent: _Lent) -> bool:
        board = self._boards[reader]
        if board is None:  # it has not begun; without a graph it never will
            return self._writer is None
        word = board[lent.entry]
        if word == lent.number:
            return True
        if self._writer is not None:  # while the graph runs, all its actors do
            return False
        return (board[0] == LEFT and word != HELD | lent.number) or not is_running(self._pids[reader])


class LendingEncoder(CrossingEncoder):
    """An encoder for values whose arrays are lent."""

    __slots__ = ("_is_one_of_many", "_lender")

    def __init__(self, crossing: Crossing, lender: Lender) -> None:
        super().__init__(crossing)
        self._lender = lender
        self._is_one_of_many = False

    def encode(self, value: Any) -> serialization.Message:
        if self._is_one_of_many:
            return super().encode(value)
        self._lender.begin()
        with lending(self._lender):
            kind, blob, buffers = super().encode(value)
        return kind, blob, (*buffers, self._lender.token())

    def encode_many(
        self, values: Sequence[Any], replace: Callable[[int, Exception], ErrorValue]
    ) -> serialization.Message:
        def replace_without_lending(position: int, error: Exception) -> ErrorValue:
            with lending(None):  # an error travels on as it is, to where nothing can be opened
                return replace(position, error)

        self._lender.begin()
        self._is_one_of_many = True
        try:
            with lending(self._lender):
                kind, blob, buffers = super().encode_many(values, replace_without_lending)
        finally:
            self._is_one_of_many = False
        return kind, blob, (*buffers, self._lender.token())


@dataclass(slots=True)
class _Returning:
    """A loan that is given back once events have happened."""

    entry: int
    number: int
    memories: list[bytes]
    events: list[Event] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)


class Loan:
    """What arrays of a message refer to, at a reader. Its end is only noted: it may come anywhere."""

    __slots__ = ("__weakref__", "_ended", "_returning")

    def __init__(self, entry: int, number: int, ended: deque[_Returning]) -> None:
        self._returning = _Returning(entry, number, [])
        self._ended = ended

    def keep_for(self, stream: Stream) -> None:
        """See `LentTo`."""
        self._returning.streams.append(stream)

    def opened(self, memory: bytes) -> None:
        """The loan's arrays lie in this piece of memory, too."""
        self._returning.memories.append(memory)

    def __del__(self) -> None:
        self._ended.append(self._returning)


class Borrower:
    """The reading end of a channel that lends. For the thread that runs the program, until `leave`."""

    def __init__(
        self, channel: ChannelSpec, rank: int, reader: _core.Reader, crossing: Crossing, tells: _core.Writer
    ) -> None:
        self._reader = reader
        self._crossing = crossing
        self._share = _share(channel)
        octets = max(8 * (1 + entries_of(channel)), _core.memcpy_threshold())  # so much that it is seen, not copied
        board = tells.reserve(-(-octets // 8) * 8)
        self._board = memoryview(board).cast("Q")
        for word in range(len(self._board)):
            self._board[word] = 0
        tells.write(0, _PID.pack(os.getpid()), (board,))
        self._ended: deque[_Returning] = deque()
        self._returning: deque[_Returning] = deque()
        self._current: Loan | None = None
        self._event = b""
        self._events: dict[bytes, Event] = {}
        self._taken = 0
        self._stream: Stream | None = None

    def read(self) -> tuple[int, Any, Sequence[Any]]:
        """The next message without its token. Raises as `Reader.read` does."""
        message = None
        while message is None:
            try:
                message = self._reader.read(SLICE if self.give_back() else -1.0)
            except _core.ChannelTimeout:
                pass
        kind, blob, buffers = message
        token = bytes(buffers[-1])
        entry, number = _TOKEN.unpack_from(token)
        if number:
            self._board[entry] = HELD | number
            self._current = Loan(entry, number, self._ended)
            self._taken += 1
            self._event = token[_TOKEN.size :]
        return kind, blob, buffers[:-1]

    def borrow(self, memory: bytes, offset: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """The array of the message just read that lies there, for use on the current stream."""
        loan, accelerator = self._current, self._lending
        assert loan is not None, "the message has a token"
        self._await_arrays(accelerator)
        mapping = mappings_of(accelerator).open(accelerator, memory)
        loan.opened(memory)
        array = accelerator.array_over(mapping, offset, shape, dtype, loan)
        return accelerator.duplicate(array) if self._kept > self._share else array

    def end_message(self) -> None:
        """The message has been decoded: what none of its arrays refers to goes back."""
        self._current = None
        self._event = b""

    def give_back(self) -> int:
        """Give back what nothing uses any more; returns how many loans wait for the device."""
        while self._ended:
            returning = self._ended.popleft()
            if self._stream is not None:  # else no array of any loan was made
                streams = {id(stream): stream for stream in (self._stream, *returning.streams)}
                returning.events = [stream.record_event() for stream in streams.values()]
            self._returning.append(returning)
        while self._returning:
            first = self._returning[0]
            if not all(event.query() for event in first.events):
                if len(self._returning) <= MOST_RETURNING:
                    break
                for event in first.events:
                    event.synchronize()
            self._returning.popleft()
            self._board[first.entry] = first.number
            self._taken -= 1
            if first.memories:
                mappings_of(self._lending).close(self._lending, first.memories)
        return len(self._returning)

    def leave(self) -> None:
        """The graph has ended: what this process still has is given back in the background."""
        self.end_message()
        if not self.is_done():
            KEEPER.add(self.is_done)
        # Behind the lock of the keeper, so that nobody sees this word and not yet those of what is held.
        self._board[0] = LEFT

    def is_done(self) -> bool:
        """After `leave`: whether nothing is held any more."""
        with self._crossing.accelerator.on_device() if self._stream is not None else nullcontext():
            self.give_back()
        if not self._taken and self._stream is not None:
            mappings_of(self._lending).close_unused(self._lending)
        return not self._taken

    @property
    def _lending(self) -> Lending:
        accelerator = self._crossing.accelerator
        if not isinstance(accelerator, Lending):
            raise RuntimeError(f"devices of kind {accelerator.name} cannot open memory of other processes")
        return accelerator

    @property
    def _kept(self) -> int:
        """Loans that arrays refer to, with that of the message just read."""
        return self._taken - len(self._returning) - len(self._ended)

    def _await_arrays(self, accelerator: Lending) -> None:
        """Let the current stream wait for the message's arrays, the first time that one of them is met."""
        if not self._event:
            return
        event = self._events.get(self._event)
        if event is None:
            event = self._events[self._event] = accelerator.open_event(self._event)
        self._event = b""
        self._stream = self._crossing.accelerator.current_stream()
        self._stream.wait_event(event)


class Readable(Protocol):
    """What `Read` reads from: a reader of the core, or a borrower."""

    def read(self) -> tuple[int, Any, Sequence[Any]]: ...


class LendingLinks:
    """Makes the ends of an actor's channels that lend, one of each for a channel."""

    def __init__(self, actor: str, channels: dict[str, ChannelSpec], arena: _core.Arena, crossing: Crossing) -> None:
        self._actor = actor
        self._channels = channels
        self._arena = arena
        self._crossing = crossing
        self._lenders: dict[str, Lender] = {}
        self._borrowers: dict[str, Borrower] = {}

    def encoder(self, channel: ChannelSpec, writer: _core.Writer) -> LendingEncoder:
        """Encodes what is written on a channel."""
        lender = self._lenders.get(channel.name)
        if lender is None:
            boards = [self._arena.reader(self._channels[name].index, 0) for name in channel.returns]
            lender = self._lenders[channel.name] = Lender(channel, writer, self._crossing, boards)
        return LendingEncoder(self._crossing, lender)

    def borrower(self, channel: ChannelSpec) -> Borrower:
        """Reads what was written on a channel."""
        borrower = self._borrowers.get(channel.name)
        if borrower is None:
            rank = channel.readers.index(self._actor)
            tells = self._arena.writer(self._channels[channel.returns[rank]].index)
            reader = self._arena.reader(channel.index, rank)
            borrower = self._borrowers[channel.name] = Borrower(channel, rank, reader, self._crossing, tells)
        return borrower

    def inside(self, step: Callable[[], None], borrower: Borrower) -> Callable[[], None]:
        """The step, which reads from a borrower, with the arrays that it brings."""

        def read_what_is_lent() -> None:
            with borrowing(borrower):
                try:
                    step()
                finally:
                    borrower.end_message()

        return read_what_is_lent

    def leave(self) -> None:
        """The graph has ended."""
        for borrower in self._borrowers.values():
            borrower.leave()
        for lender in self._lenders.values():
            lender.leave()
