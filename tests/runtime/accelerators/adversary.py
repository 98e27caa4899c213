"""
A device that does everything as badly as the rules of streams allow, so that what breaks them shows as wrong numbers.

- Streams are in-order queues. What runs next is drawn by lot among the streams whose first task is not waiting for an
  event; a stream may be starved for long. Nothing runs when it is queued.
- Memory is poison (every byte 0xFF: NaN, or -1) when it is allocated, while something is being copied into it, and from
  the moment that its last reference is gone, except for streams that `keep_for` protects it from. Freed memory serves
  the next array of the stream that it belongs to, at once.
- The host's end of an asynchronous copy is poison until the copy has run; the source is read when the copy runs.
- A copy from or to memory that is not pinned is an error, when it is queued and when it runs; so is memory that is
  unmapped while it is pinned. Errors on streams and on threads of others are kept in the world's `violations`.

Streams and their lots are in `world`.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.runtime.accelerators.combining import Combine
from tests.runtime.accelerators.world import AdversarialStream, Block, Meeting, Task, Together, World

POISON = 0xFF


class AdversarialArray:
    """An array on an adversarial device. Arithmetic is queued on the current stream of its device."""

    def __init__(
        self, device: AdversarialDevice, block: Block, shape: tuple[int, ...], dtype: Any, home: AdversarialStream
    ) -> None:
        self.device = device
        self.block = block
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.kept_for: list[AdversarialStream] = []
        self.loan: Any = None
        if block.is_own:
            weakref.finalize(self, device.free, block, home, self.kept_for)

    @property
    def nbytes(self) -> int:
        return self.block.octets.size

    def view(self) -> np.ndarray[Any, Any]:
        """What is in the memory now: for tasks, and for the host after it has waited."""
        return self.block.octets.view(self.dtype).reshape(self.shape)

    def __add__(self, other: Any) -> AdversarialArray:
        return self.device.compute(np.add, self, other)

    def __mul__(self, other: Any) -> AdversarialArray:
        return self.device.compute(np.multiply, self, other)


class HostBuffer:
    """Pinned memory."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.octets = np.frombuffer(view, np.uint8)

    def release(self) -> None:
        self.octets = np.empty(0, np.uint8)


class RegisteredBuffer(HostBuffer):
    """Memory of somebody else that was pinned as it was found."""

    def __init__(self, device: AdversarialDevice, view: memoryview) -> None:
        super().__init__(view.cast("B"))
        self._device = device
        self._address = int(self.octets.ctypes.data)
        self._mapping = mapping_at(self._address)
        assert self._mapping, "memory that is not mapped cannot be pinned"
        self.released = False
        self.copies = 0
        with device.world.lock:
            device.registered.append(self)

    def check(self) -> None:
        """Raise AssertionError if a copy cannot be from or to this memory now."""
        assert not self.released, "a copy from or to pages that are not registered any more"
        assert mapping_at(self._address) == self._mapping, "memory was unmapped while it was registered"

    def release(self) -> None:
        with self._device.world.lock:
            if self.released:
                return
            with self._device.world.judged():
                assert self.copies == 0, "a registration has ended while a copy was under way"
                self.check()
            self.released = True
            self._device.registered.remove(self)
        super().release()


def mapping_at(address: int) -> tuple[str, ...]:
    """What the system says is mapped at an address: bounds, rights, offset, device and inode; nothing if nothing is."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            first, _, end = fields[0].partition("-")
            if int(first, 16) <= address < int(end, 16):
                return fields[1], f"{int(fields[2], 16) + address - int(first, 16):x}", *fields[3:5]
    return ()


class AdversarialDevice:
    """One device of a world, with the interface of `Accelerator`."""

    name = "adversary"
    array_type = AdversarialArray

    def __init__(self, world: World, number: int = 0) -> None:
        self.world = world
        self.number = number
        self._default = AdversarialStream(world, "compute")
        self._of_thread = threading.local()
        self._pool: dict[tuple[AdversarialStream, int], list[Block]] = {}
        self.registered: list[RegisteredBuffer] = []
        self.straight = 0  # copies from and to memory of somebody else
        self.can_pin = True
        self.communicators: list[Any] = []  # those that it has joined, and is joining
        self.dies_when_joining = False

    @property
    def _current(self) -> AdversarialStream:
        return getattr(self._of_thread, "stream", self._default)

    # The interface.

    def device(self) -> int:
        return self.number

    @contextmanager
    def on_device(self) -> Iterator[None]:
        yield

    def new_stream(self) -> AdversarialStream:
        return AdversarialStream(self.world, f"stream {len(self.world.streams)}")

    def current_stream(self) -> AdversarialStream:
        return self._current

    @contextmanager
    def on_stream(self, stream: AdversarialStream) -> Iterator[None]:
        before, self._of_thread.stream = self._current, stream
        try:
            yield
        finally:
            self._of_thread.stream = before

    def empty(self, shape: Sequence[int], dtype: Any) -> AdversarialArray:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        home = self._current
        with self.world.lock:
            free = self._pool.get((home, nbytes))
            block = free.pop() if free else self.allocate(nbytes)
        return AdversarialArray(self, block, tuple(shape), dtype, home)

    def keep_for(self, array: AdversarialArray, stream: AdversarialStream) -> None:
        if array.loan is not None:
            array.loan.keep_for(stream)
        array.kept_for.append(stream)

    def is_on_device(self, value: Any) -> bool:
        return isinstance(value, AdversarialArray)

    def is_on_host(self, value: Any) -> bool:
        return type(value) is np.ndarray

    def contiguous(self, array: Any) -> Any:
        return np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array

    def host_memory(self, array: np.ndarray[Any, Any]) -> memoryview:
        return memoryview(array.reshape(-1).view(np.uint8))

    def host_array(self, memory: HostBuffer, shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
        return np.frombuffer(memory.view, np.uint8).view(dtype).reshape(shape)

    def pinned(self, nbytes: int) -> HostBuffer:
        return HostBuffer(memoryview(bytearray(nbytes)))

    def pin(self, view: memoryview) -> HostBuffer:
        if not self.can_pin:
            raise RuntimeError("the limit on locked memory is reached")
        return RegisteredBuffer(self, view)

    def copy_in(self, target: AdversarialArray, source: HostBuffer, offset: int = 0) -> None:
        assert isinstance(source, HostBuffer), "a copy from memory that is not pinned"
        block = target.block
        piece = source.octets[offset : offset + block.octets.size]
        self._current.push(lambda: block.octets.fill(POISON))
        self._current.push(self._checked(source, lambda: _assign(block.octets, piece)))

    def copy_out(self, target: HostBuffer, source: AdversarialArray, offset: int = 0) -> None:
        assert isinstance(target, HostBuffer), "a copy to memory that is not pinned"
        block = source.block
        piece = target.octets[offset : offset + block.octets.size]
        piece.fill(POISON)
        self._current.push(self._checked(target, lambda: _assign(piece, block.octets)))

    def make_communicator(self, actors: Sequence[Any]) -> Any:
        from tests.runtime.accelerators.post import (
            PostCommunicator,  # needs Ray, which the devices of one process do not
        )

        return PostCommunicator(actors)

    # Beyond the interface.

    def allocate(self, nbytes: int) -> Block:
        """Memory that was not used before."""
        return Block(np.full(nbytes, POISON, np.uint8))

    def _checked(self, memory: HostBuffer, copy: Task) -> Task:
        """The copy, with a look at the memory before and when it runs if it is somebody else's."""
        if not isinstance(memory, RegisteredBuffer):
            return copy
        memory.check()
        with self.world.lock:
            memory.copies += 1
            self.straight += 1

        def checked() -> None:
            memory.copies -= 1
            with self.world.judged():
                memory.check()
                copy()

        return checked

    def put(self, values: np.ndarray[Any, Any]) -> AdversarialArray:
        """Host values on the device, as a user's program would bring them there."""
        array = self.empty(values.shape, values.dtype)
        self.copy_in(array, HostBuffer(memoryview(bytearray(np.ascontiguousarray(values).tobytes()))))
        return array

    def compute(self, function: Callable[..., Any], *operands: Any) -> AdversarialArray:
        """Queue `function` of arrays and numbers on the current stream."""
        first = next(operand for operand in operands if isinstance(operand, AdversarialArray))
        result = self.empty(first.shape, first.dtype)
        inputs = [_lazy(operand) for operand in operands]
        output = _lazy(result)
        self._current.push(lambda: _assign(output(), function(*(read() for read in inputs))))
        return result

    def send(self, array: AdversarialArray, peer: int) -> None:
        """Queue a send on the current stream: it completes together with the peer's receive."""
        meeting = self._meet((self.number, peer), sending=True)
        meeting.source = array.block
        self._queue(meeting)

    def receive(self, array: AdversarialArray, peer: int) -> None:
        meeting = self._meet((peer, self.number), sending=False)
        meeting.target = block = array.block
        self._current.push(lambda: block.octets.fill(POISON))
        self._queue(meeting)

    @contextmanager
    def grouped(self) -> Iterator[None]:
        """What is sent and received within is one task of the current stream."""
        self._of_thread.together = together = []
        try:
            yield
        finally:
            self._of_thread.together = None
            self._current.push(Together(together))

    def exchange(
        self, source: AdversarialArray, target: AdversarialArray, members: Sequence[int], combine: Combine
    ) -> None:
        """Queue a collective on the current stream: all members meet, and each combines what they have."""
        others = [member for member in members if member != self.number]
        parts = {member: self.empty(source.shape, source.dtype) for member in others}
        with self.grouped():
            for other in others:
                self.send(source, other)
                self.receive(parts[other], other)
        read = [_lazy(parts.get(member, source)) for member in members]
        write, octets = _lazy(target), target.block.octets
        if target.block is not source.block:
            self._current.push(lambda: octets.fill(POISON))
        self._current.push(lambda: _assign(write(), combine([each() for each in read])))

    def _queue(self, meeting: Meeting) -> None:
        together = getattr(self._of_thread, "together", None)
        if together is None:
            self._current.push(meeting)
        else:
            together.append(meeting)

    def read(self, array: AdversarialArray) -> np.ndarray[Any, Any]:
        """The values at the end of what is queued on the current stream."""
        values = np.empty(array.shape, array.dtype)
        block = array.block
        self._current.push(lambda: _assign(values.reshape(-1).view(np.uint8), block.octets))
        self._current.record_event().synchronize()
        return values

    def free(self, block: Block, home: AdversarialStream, kept_for: list[AdversarialStream]) -> None:
        """Let `home` use the memory again; streams that it is kept for get the time to end what they have queued."""
        with self.world.lock:
            events = [stream.record_event() for stream in kept_for if stream is not home]
            for event in events:
                home.wait_event(event)
            home.push(lambda: block.octets.fill(POISON))
            self._pool.setdefault((home, block.octets.size), []).append(block)

    def _meet(self, pair: tuple[int, int], sending: bool) -> Meeting:
        with self.world.lock:
            sends, receives = self.world.meetings.setdefault(pair, (deque(), deque()))
            own, others = (sends, receives) if sending else (receives, sends)
            if others:
                return others.popleft()
            meeting = Meeting()
            own.append(meeting)
            return meeting


def _lazy(operand: Any) -> Callable[[], Any]:
    """A way to read an operand when a task runs, which does not keep the array alive."""
    if not isinstance(operand, AdversarialArray):
        return lambda: operand
    block, shape, dtype = operand.block, operand.shape, operand.dtype
    return lambda: block.octets.view(dtype).reshape(shape)


def _assign(target: np.ndarray[Any, Any], values: Any) -> None:
    target[...] = values
