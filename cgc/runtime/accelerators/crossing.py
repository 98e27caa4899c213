"""
How the arrays of an actor cross between its device and the host: the actor's end of `shm` tensors, and `cgc.copy`.

Out: arrays anywhere in a value that is sent through host memory are copied beside the computation, all of them at once,
into memory that is reserved in the channel, from which they are sent as they are; the host waits, once for a message.
In: each array is copied to the device straight from the channel's memory, on a stream of its own; only what is queued
for computation later waits for it, and the channel has its memory back when the copy has completed.

Both need the channel's pages registered (`pages`). Where they are not, the arrays take one copy more, by way of pinned
memory.

An array arrives where it was made, on a device, if the receiver has one, and else on the host. What the user asks for
beyond that is a `cgc.copy` in the graph, done by `to_device` and `to_host`. On a channel that lends (see `lending`),
arrays stay where they are, and only those whose memory others cannot open cross.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from types import TracebackType
from typing import Any, Protocol

from cgc.runtime import _core, ray_internals, serialization
from cgc.runtime.accelerators import pages
from cgc.runtime.accelerators.interface import Accelerator, Array, PinnedMemory
from cgc.runtime.accelerators.transfers import Departure, Transfers
from cgc.runtime.handover import CARRIED
from cgc.runtime.task_errors import ErrorValue

Room = Callable[[int], "memoryview | None"]
"""Gives so many bytes of a channel, to be written once and sent; None where there are none now."""

_ALIGNMENT = 64
"""Bytes of which the places of arrays in reserved memory are multiples, as in the channel's own."""


@dataclass(slots=True)
class _Part:
    """A part of pinned memory, which somebody else releases."""

    view: memoryview

    def release(self) -> None: ...


class Crossing:
    """
    The crossing of one actor in one graph. For one thread, which enters it (`with`) where it pickles or unpickles.

    The accelerator is looked for when the first array is met: an actor with a device may never use it from here.
    """

    def __init__(self, find: Callable[[], Accelerator]) -> None:
        self._find = find
        self._transfers: Transfers | None = None
        self._leaving: list[Departure] = []
        self._left: dict[int, tuple[bytearray, Array]] = {}
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1
        _thread.crossing = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            _thread.crossing = None
            self.settle()

    def leave(self, array: Array) -> Any:
        """A buffer that stands for the array in a message, until `fetch` puts the array's bytes in its place."""
        stand_in = bytearray()
        self._left[id(stand_in)] = stand_in, self._started().accelerator.contiguous(array)
        return stand_in

    def fetch(self, buffers: Sequence[Any], room: Room | None = None) -> list[Any]:
        """The buffers of a message with those that `leave` gave replaced; may be read after `settle`."""
        places = {n: self._left[id(each.obj)] for n, each in enumerate(buffers) if self._is_stand_in(each)}
        memories = self._download([array for _, array in places.values()], room)
        self._left.clear()
        replaced = list(buffers)
        for number, memory in zip(places, memories, strict=True):
            replaced[number] = memory.view
        return replaced

    def settle(self) -> None:
        """Wait until everything that leaves has been copied."""
        while self._leaving:
            self._leaving.pop().wait()
        if self._transfers is not None:
            self._transfers.let_go()  # else what was reserved would stay so until the next transfer

    def enter(self, source: Any, shape: Sequence[int], dtype: Any) -> Array:
        """Begin to copy bytes of the host to a new array, for use on the current stream."""
        transfers = self._started()
        octets = memoryview(source).cast("B")
        place = pages.pinned(transfers.accelerator, octets)
        if place is not None:
            memory, offset = place
            return transfers.upload(memory, shape, dtype, offset, lease=octets).wait()
        staging = transfers.accelerator.pinned(octets.nbytes)
        staging.view[:] = octets
        return transfers.upload(staging, shape, dtype).wait()

    def to_host(self, value: Any, room: Room | None = None) -> Any:
        """The value with its arrays on the host, in memory of `room` if there is some."""
        accelerator = self._started().accelerator

        def move(arrays: Sequence[Array]) -> list[Any]:
            memories = self._download([accelerator.contiguous(array) for array in arrays], room)
            self.settle()
            return [
                _alike(accelerator.host_array(memory, tuple(array.shape), array.dtype), array)
                for memory, array in zip(memories, arrays, strict=True)
            ]

        # By exact type: a parameter of a module is pickled as one that has a tensor.
        return _move(value, lambda each: type(each) is accelerator.array_type and accelerator.is_on_device(each), move)

    def to_device(self, value: Any) -> Any:
        """The value with its arrays on the device."""
        accelerator = self._started().accelerator
        if type(value) is accelerator.array_type and accelerator.is_on_device(value):
            return value

        def move(arrays: Sequence[Any]) -> list[Array]:
            moved = []
            for array in arrays:
                source = accelerator.host_memory(accelerator.contiguous(array))
                moved.append(_alike(self.enter(source, tuple(array.shape), array.dtype), array))
            return moved

        # What is there already stays, and is not pickled either.
        return _move(value, accelerator.is_on_host, move, accelerator.is_on_device)

    @property
    def accelerator(self) -> Accelerator:
        """The actor's. Raises what `Accelerator.device` does if Ray has given it none."""
        return self._started().accelerator

    def let_go(self) -> None:
        """Give back the channels' memory that copies have done with. Never blocks."""
        if self._transfers is not None:
            self._transfers.let_go()

    def end(self) -> None:
        """Wait for all copies: their memory is unmapped soon."""
        if self._transfers is not None:
            self._transfers.drain()

    def _is_stand_in(self, buffer: Any) -> bool:
        return type(buffer) is memoryview and id(buffer.obj) in self._left

    def _download(self, arrays: Sequence[Array], room: Room | None) -> list[PinnedMemory]:
        """Begin to copy contiguous arrays to the host: into one piece of room, or else to pinned memory."""
        if not arrays:
            return []
        transfers = self._started()
        accelerator = transfers.accelerator
        starts = [0, *accumulate(_aligned(int(array.nbytes)) for array in arrays)]
        reserved = room(starts[-1]) if room is not None and pages.can_pin(accelerator) else None
        place = None if reserved is None else pages.pinned(accelerator, reserved)
        memories: list[PinnedMemory] = []
        for array, start in zip(arrays, starts):
            memory: PinnedMemory
            if place is None or reserved is None:
                memory = accelerator.pinned(int(array.nbytes))
                departure = transfers.download(array, memory)
            else:
                memory = _Part(reserved[start : start + int(array.nbytes)])
                departure = transfers.download(array, place[0], place[1] + start, lease=reserved)
            self._leaving.append(departure)
            memories.append(memory)
        return memories

    def _started(self) -> Transfers:
        if self._transfers is None:
            accelerator = self._find()
            accelerator.device()  # says why, if Ray has given none
            self._transfers = Transfers(accelerator)
        return self._transfers


class CrossingEncoder(serialization.Encoder):
    """An encoder for values with arrays of a device."""

    __slots__ = ("_crossing", "_inside", "_room")

    def __init__(self, crossing: Crossing, room: Room | None = None) -> None:
        """`room` is memory of the channel that the messages are for."""
        super().__init__()
        self._crossing = crossing
        self._room = room
        self._inside = False

    def encode(self, value: Any) -> serialization.Message:
        if self._inside:
            return super().encode(value)
        with self._crossing:
            kind, blob, buffers = super().encode(value)
            return kind, blob, self._crossing.fetch(buffers, self._room)

    def encode_many(
        self, values: Sequence[Any], replace: Callable[[int, Exception], ErrorValue]
    ) -> serialization.Message:
        with self._crossing:
            self._inside = True
            try:
                kind, blob, buffers = super().encode_many(values, replace)
            finally:
                self._inside = False
            return kind, blob, self._crossing.fetch(buffers, self._room)

    def end(self) -> None:
        """Let go of the channel: an encoder and its pickler refer to each other, and would keep it for long."""
        self._room = None


def room_of(writer: _core.Writer) -> Room:
    """Memory of the channel that `writer` writes to, as far as there is some at once."""

    def room(nbytes: int) -> memoryview | None:
        if nbytes < _core.memcpy_threshold():  # then it goes to the slot
            return None
        try:
            return writer.reserve(nbytes, 0.0)
        except (_core.ChannelTimeout, _core.ChannelClosed, MemoryError):  # the write says why
            return None

    return room


class Lends(Protocol):
    """The sending end of a channel that lends."""

    def lend(self, array: Array) -> tuple[bytes, int, tuple[int, ...], Any] | None:
        """What `Borrows.borrow` takes; None for an array that has to be copied."""


class Borrows(Protocol):
    """The receiving end of a channel that lends."""

    def borrow(self, memory: bytes, offset: int, shape: tuple[int, ...], dtype: Any) -> Array: ...


@contextmanager
def lending(lender: Lends | None) -> Iterator[None]:
    """Arrays that are pickled in this thread meanwhile are lent by `lender`."""
    before, _thread.lender = _thread.lender, lender
    try:
        yield
    finally:
        _thread.lender = before


@contextmanager
def borrowing(borrower: Borrows) -> Iterator[None]:
    """Arrays that are unpickled in this thread meanwhile may be lent to `borrower`."""
    before, _thread.borrower = _thread.borrower, borrower
    try:
        yield
    finally:
        _thread.borrower = before


def support(array_type: type, find: Callable[[], Accelerator]) -> None:
    """Let arrays of this type, of the device that `find` gives, be sent as those of torch's devices are."""
    serialization.REDUCERS.setdefault(array_type, lambda array: reduce_array(array, find))


def reduce_array(array: Array, find: Callable[[], Accelerator]) -> Any:
    """Pickle's reduction of an array, anywhere in a value; `find` gives its accelerator where no crossing has one."""
    if _thread.lender is not None:
        place = _thread.lender.lend(array)
        if place is not None:
            return _open_lent, (*place, bool(getattr(array, "requires_grad", False)))
    crossing = _thread.crossing
    if crossing is None:  # in the driver, or in an exception
        alone = Crossing(find)
        with alone:
            (octets,) = alone.fetch([memoryview(alone.leave(array))])
    else:
        octets = crossing.leave(array)
    return _arrive, (
        pickle.PickleBuffer(octets),
        tuple(array.shape),
        array.dtype,
        bool(getattr(array, "requires_grad", False)),
    )


def _arrive(octets: Any, shape: tuple[int, ...], dtype: Any, requires_grad: bool) -> Any:
    crossing = _thread.crossing
    array = serialization.rebuild(octets, dtype, shape) if crossing is None else crossing.enter(octets, shape, dtype)
    return array.requires_grad_() if requires_grad else array


def _open_lent(memory: bytes, offset: int, shape: tuple[int, ...], dtype: Any, requires_grad: bool) -> Array:
    borrower = _thread.borrower
    if borrower is None:
        raise RuntimeError("an array that is lent was sent on by other means than a channel that lends")
    array = borrower.borrow(memory, offset, shape, dtype)
    return array.requires_grad_() if requires_grad else array


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _alike(moved: Any, array: Any) -> Any:
    return moved.requires_grad_() if getattr(array, "requires_grad", False) else moved


def _move(
    value: Any,
    is_wanted: Callable[[Any], bool],
    move: Callable[[Sequence[Any]], list[Any]],
    is_kept: Callable[[Any], bool] = lambda _: False,
) -> Any:
    """The value with all arrays that are wanted replaced by what `move` makes of them, each once."""
    if is_wanted(value):
        return move([value])[0]
    blob, splitter = ray_internals.dumps_in_band(
        value, lambda *args, **kwargs: _Splitter(is_wanted, is_kept, *args, **kwargs), None
    )
    if not splitter.taken:
        return value
    return _Joiner(io.BytesIO(blob), move(splitter.taken), splitter.kept).load()


_KEPT = (*CARRIED, bytes, bytearray, str)
"""Classes of objects that stay the same object when a value is copied."""


class _Splitter(ray_internals.CloudPickler):  # type: ignore[misc]
    """
    Pickles a value without the arrays in it.

    Attributes:
        taken: The arrays, each once.
        kept: Other objects that need not be pickled to be in the copy.
    """

    def __init__(
        self, is_wanted: Callable[[Any], bool], is_kept: Callable[[Any], bool], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.taken: list[Any] = []
        self.kept: list[Any] = []
        self._is_wanted = is_wanted
        self._is_kept = is_kept
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> tuple[bool, int] | None:
        wanted = self._is_wanted(obj)
        if not wanted and not isinstance(obj, _KEPT) and not self._is_kept(obj):
            return None
        objects = self.taken if wanted else self.kept
        number = self._numbers.setdefault(id(obj), len(objects))
        if number == len(objects):
            objects.append(obj)
        return wanted, number


class _Joiner(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, moved: Sequence[Any], kept: Sequence[Any]) -> None:
        super().__init__(file)
        self._moved = moved
        self._kept = kept

    def persistent_load(self, pid: tuple[bool, int]) -> Any:
        wanted, number = pid
        return self._moved[number] if wanted else self._kept[number]


class _ThreadState(threading.local):
    crossing: Crossing | None = None
    lender: Lends | None = None
    borrower: Borrows | None = None


_thread = _ThreadState()
