"""
The adversarial device with memory and events that other processes can open: what CUDA IPC is to CUDA.

Memory comes in segments, each an anonymous shared file; arrays lie somewhere in one. Opening the same segment twice, or
closing it while an array is over it, is an error. An event of another process is waited for as it was last recorded
when the wait was queued.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgc.runtime.accelerators.base import Exported, LentTo
from tests.runtime.accelerators.adversary import POISON, AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.world import Block, World

SEGMENT = 1 << 16
EVENT_BYTES = 16


class Segment:
    """Shared memory of this process, given out from its begin to its end."""

    def __init__(self, nbytes: int) -> None:
        self.descriptor = os.memfd_create("adversary")
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, nbytes)
        self.octets = np.frombuffer(mmap.mmap(self.descriptor, nbytes), np.uint8)
        self.handle = f"/proc/{os.getpid()}/fd/{self.descriptor}".encode()
        self.used = 0

    def take(self, nbytes: int) -> tuple[int, np.ndarray[Any, Any]]:
        """The place of so many bytes that are not used yet, and those bytes."""
        place, self.used = self.used, self.used + -(-nbytes // 64) * 64
        return place, self.octets[place : place + nbytes]

    def has(self, nbytes: int) -> bool:
        return self.used + nbytes <= self.octets.size


class OwnBlock(Block):
    """Memory in a segment."""

    def __init__(self, segment: Segment, nbytes: int) -> None:
        self.segment = segment
        self.place, octets = segment.take(nbytes)
        octets.fill(POISON)
        super().__init__(octets)


class Mapping:
    """A segment of another process."""

    def __init__(self, handle: bytes) -> None:
        try:
            descriptor = os.open(handle, os.O_RDWR)
        except OSError as error:
            raise RuntimeError(f"the memory of a process that has ended cannot be opened: {error}") from error
        try:
            self.octets = np.frombuffer(mmap.mmap(descriptor, os.fstat(descriptor).st_size), np.uint8)
        finally:
            os.close(descriptor)
        self.handle = handle
        self.arrays: weakref.WeakSet[AdversarialArray] = weakref.WeakSet()


class Recorded:
    """A shared event as it was when a wait for it was queued."""

    def __init__(self, words: np.ndarray[Any, Any]) -> None:
        self._words = words
        self._wanted = int(words[0])

    @property
    def reached(self) -> bool:
        return int(self._words[1]) >= self._wanted


class OpenedEvent:
    """The end of a shared event in a process that waits: how often it was recorded, and how often reached."""

    def __init__(self, octets: np.ndarray[Any, Any]) -> None:
        self._words = octets.view(np.uint64)

    def now(self) -> Recorded:
        return Recorded(self._words)


class SharedEvent(OpenedEvent):
    """An event that other processes can open."""

    def __init__(self, device: SharingDevice) -> None:
        segment = device.segment_for(EVENT_BYTES)
        place, octets = segment.take(EVENT_BYTES)
        super().__init__(octets)
        octets.fill(0)
        self._device = device
        self.handle = segment.handle + b"@%d" % place

    def record(self) -> None:
        words = self._words
        words[0] += 1
        number = int(words[0])

        def reach() -> None:
            words[1] = number

        self._device.current_stream().push(reach)


class SharingDevice(AdversarialDevice):
    """
    One device as one process sees it, with the interface of `Lending`.

    Attributes:
        mapped: How often memory of others was opened.
        unmapped: How often it was closed.
    """

    def __init__(self, world: World, number: int = 0) -> None:
        super().__init__(world, number)
        self.mapped = 0
        self.unmapped = 0
        self._segment = Segment(SEGMENT)
        self._open: dict[bytes, Mapping] = {}
        self._events: dict[bytes, Mapping] = {}

    def segment_for(self, nbytes: int) -> Segment:
        if not self._segment.has(nbytes):
            self._segment = Segment(max(SEGMENT, nbytes))
        return self._segment

    def allocate(self, nbytes: int) -> Block:
        return OwnBlock(self.segment_for(nbytes), nbytes)

    def export(self, array: AdversarialArray) -> Exported | None:
        block = array.block
        return Exported(block.segment.handle, block.place, array) if isinstance(block, OwnBlock) else None

    def map_memory(self, memory: bytes) -> Mapping:
        assert memory not in self._open, "this memory is open already"
        self.mapped += 1
        mapping = self._open[memory] = Mapping(memory)
        return mapping

    def unmap_memory(self, mapping: Mapping) -> None:
        assert not mapping.arrays, "there are arrays over this memory"
        self.unmapped += 1
        del self._open[mapping.handle]

    def array_over(
        self, mapping: Mapping, offset: int, shape: Sequence[int], dtype: Any, loan: LentTo
    ) -> AdversarialArray:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        block = Block(mapping.octets[offset : offset + nbytes], is_own=False)
        array = AdversarialArray(self, block, tuple(shape), dtype, self.current_stream())
        array.loan = loan
        mapping.arrays.add(array)
        return array

    def duplicate(self, array: AdversarialArray) -> AdversarialArray:
        return self.compute(np.array, array)

    def new_shared_event(self) -> SharedEvent:
        return SharedEvent(self)

    def open_event(self, handle: bytes) -> OpenedEvent:
        memory, _, place = handle.rpartition(b"@")
        if memory not in self._events:
            self._events[memory] = Mapping(memory)
        start = int(place)
        return OpenedEvent(self._events[memory].octets[start : start + EVENT_BYTES])
