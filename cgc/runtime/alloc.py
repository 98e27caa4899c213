"""
Arrays that are made where they will be sent from, so that sending them copies nothing.

A driver's `graph.alloc` and `cgc.alloc` in a method of an actor give an array in shared memory of the channel that
takes the input, or the result of the method. The writer of a channel knows the addresses that it has handed out, so
nothing marks such an array: sent as it is, as a tensor over it (`torch.from_numpy`) or somewhere in a value, it is not
copied.

What the array's memory is used for ends with the last reference to it, here and at all readers; so an array that is
never sent, sent twice, sent elsewhere (then it is copied like any other) or kept is no danger. What is written into it
after it was sent, its readers see: that is the price.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cgc.runtime import _core
from cgc.runtime.program import Call, Program, Write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Shape = int | Sequence[int]

MAX_KEPT = 8
"""Arrays in one channel that are alive at once, whether sent or not; more are ordinary ones."""


def alloc(shape: Shape, dtype: npt.DTypeLike = "float64") -> np.ndarray[Any, Any]:
    """
    An array without values for the result of the method that is running, like `numpy.empty`.

    In a method that a graph calls, and whose result goes to other actors or the driver through shared memory, it lies
    there already: returned, alone or in another value, it is not copied. Anywhere else it is an ordinary array. Do not
    write into it any more once the method has returned it.
    """
    home = _thread.home
    source = None if home is None else home.running()
    if source is not None:
        return source.array(shape, dtype)
    import numpy as np

    return np.empty(shape, dtype)


class Source:
    """Gives arrays in memory of one channel. For the thread that writes to it."""

    def __init__(self, writer: _core.Writer, slots: int) -> None:
        """`slots` are the channel's: each needs memory too, so that fewer arrays are given than there are."""
        self._writer = writer
        self._most = min(MAX_KEPT, max(1, slots - 1))
        self._given: list[weakref.ref[np.ndarray[Any, Any]]] = []

    def array(self, shape: Shape, dtype: npt.DTypeLike) -> np.ndarray[Any, Any]:
        """An array without values; an ordinary one if it is small, holds objects, or too many others are kept."""
        import numpy as np

        kind = np.dtype(dtype)
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod((kind.itemsize, *extents))
        if kind.hasobject or size < _core.memcpy_threshold():
            return np.empty(extents, kind)
        self._given = [given for given in self._given if given() is not None]
        if len(self._given) >= self._most:
            return np.empty(extents, kind)
        try:
            memory = self._writer.reserve(size, 0.0)
        except (_core.ChannelTimeout, MemoryError):
            return np.empty(extents, kind)
        whole = np.frombuffer(memory, kind)
        self._given.append(weakref.ref(whole))  # all that is made of it refers to it
        return whole.reshape(extents)


class Home:
    """Where the results of a program's calls go, asked while one of them runs."""

    def __init__(self, program: Program, writers: Mapping[str, _core.Writer], progress: memoryview) -> None:
        """`writers` by name of the channel; word 1 of `progress` is the number of the operation that runs."""
        self._progress = progress
        self._sources: dict[int, Source] = {}
        slots = {channel.name: channel.slots for channel in program.channels}
        sources = {name: Source(writer, slots[name]) for name, writer in writers.items()}
        for number, operation in enumerate(program.operations):
            if isinstance(operation, Call):
                taking = (each for each in program.operations[number:] if isinstance(each, Write))
                channels = [each.channel for each in taking if set(each.values) & set(operation.into)]
                found = next((sources[name] for name in channels if name in sources), None)
                if found is not None:
                    self._sources[number] = found

    def running(self) -> Source | None:
        """That of the channel which takes what the running call returns."""
        return self._sources.get(self._progress[1])

    def enter(self) -> None:
        """Let `alloc` in this thread know of this program."""
        _thread.home = self


class _ThreadState(threading.local):
    home: Home | None = None


_thread = _ThreadState()
