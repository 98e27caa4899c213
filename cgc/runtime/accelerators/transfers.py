"""
Transfers of one actor between its device, host memory and its peers, beside the computation.

Five streams next to the one that computes: uploads, downloads, sends, receives, collectives. The rules that keep the
numbers right are all here, and are the same for every kind of device:

    what is moved in    the compute stream waits for the transfer's event before its first use, and the memory is kept
                        for the compute stream, because it belongs to the transfer's stream
    what is moved out   the transfer's stream waits for the computation that was queued before, and the memory is kept
                        for the transfer's stream, because it belongs to the compute stream
    host memory         is held until the event of the copy has happened; who reads it on the host waits for that event

The host waits only where it reads or reuses host memory, never for a whole device. A value that has been handed to a
send must not be written in place before the send has completed (`Departure.done`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cgc.runtime.accelerators.interface import Accelerator, Array, Event, PinnedMemory, Stream


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    An array that is on its way to this device.

    Attributes:
        array: It; for use only after `wait`.
    """

    array: Array
    _event: Event
    _accelerator: Accelerator

    def wait(self) -> Array:
        """The array, for use on the current stream: what is queued there from now on waits for the transfer."""
        stream = self._accelerator.current_stream()
        stream.wait_event(self._event)
        self._accelerator.keep_for(self.array, stream)
        return self.array


@dataclass(frozen=True, slots=True)
class Departure:
    """An array that is leaving this device."""

    _event: Event

    def done(self) -> bool:
        """True once the array may be written and the target may be read."""
        return self._event.query()

    def wait(self) -> None:
        """Block the host until `done`."""
        self._event.synchronize()

    def wait_on_device(self, stream: Stream) -> None:
        """Let what is queued on `stream` from now on wait until `done`."""
        stream.wait_event(self._event)


class Transfers:
    """
    See the module. For the thread that queues the computation, and one more that sends, receives and exchanges, with
    `ready` from the first.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._uploads = accelerator.new_stream()
        self._downloads = accelerator.new_stream()
        self._sends = accelerator.new_stream()
        self._receives = accelerator.new_stream()
        self._collectives = accelerator.new_stream()
        self._uploading: deque[tuple[Event, Any]] = deque()
        self._downloading: deque[tuple[Event, Any]] = deque()

    def upload(
        self, source: PinnedMemory, shape: Sequence[int], dtype: Any, offset: int = 0, lease: object = None
    ) -> Arrival:
        """Copy from host memory to a new array. `source` and `lease` are referred to until the copy has completed."""
        with self.accelerator.on_stream(self._uploads):
            array = self.accelerator.empty(shape, dtype)
            self.accelerator.copy_in(array, source, offset)
        event = self._uploads.record_event()
        self._uploading.append((event, (source, lease)))
        self.let_go()
        return Arrival(array, event, self.accelerator)

    def download(self, array: Array, target: PinnedMemory, offset: int = 0, lease: object = None) -> Departure:
        """
        Copy a contiguous array to host memory, which is valid after `Departure.wait`.

        `target` and `lease` are referred to until the copy has completed.
        """
        return self._depart(
            self._downloads, array, lambda: self.accelerator.copy_out(target, array, offset), holding=(target, lease)
        )

    def send(self, array: Array, start: Callable[[Array], None], ready: Event | None = None) -> Departure:
        """
        Send through a communicator: `start(array)` queues the send on the current stream.

        `ready` is the point from which the array may be read; without it, what is queued on this thread's stream now.
        """
        return self._depart(self._sends, array, lambda: start(array), ready=ready)

    def receive(self, shape: Sequence[int], dtype: Any, start: Callable[[Array], None]) -> Arrival:
        """Receive into a new array: `start(array)` queues the receive on the current stream."""
        with self.accelerator.on_stream(self._receives):
            array = self.accelerator.empty(shape, dtype)
            start(array)
        return Arrival(array, self._receives.record_event(), self.accelerator)

    def exchange(
        self, arrays: Sequence[Array], start: Callable[[], Sequence[Array]], ready: Event | None = None
    ) -> list[Arrival]:
        """
        A collective: `start()` makes the arrays of the results and queues it, all on the current stream.

        `arrays` are those that it reads, from `ready` on as with `send`.
        """
        self._collectives.wait_event(ready or self.accelerator.current_stream().record_event())
        with self.accelerator.on_stream(self._collectives):
            results = start()
            for array in arrays:
                self.accelerator.keep_for(array, self._collectives)
        event = self._collectives.record_event()
        return [Arrival(result, event, self.accelerator) for result in results]

    def let_go(self) -> None:
        """Release the host memory of copies that have completed. Never blocks."""
        for held in (self._uploading, self._downloading):  # each in the order of its stream
            while held and held[0][0].query():
                held.popleft()

    def drain(self) -> None:
        """Wait for all copies from and to host memory, e.g. before it is unmapped."""
        for held in (self._uploading, self._downloading):
            while held:
                held[0][0].synchronize()
                held.popleft()

    def _depart(
        self,
        stream: Stream,
        array: Array,
        start: Callable[[], None],
        holding: object = None,
        ready: Event | None = None,
    ) -> Departure:
        stream.wait_event(ready or self.accelerator.current_stream().record_event())
        with self.accelerator.on_stream(stream):
            start()
        self.accelerator.keep_for(array, stream)
        event = stream.record_event()
        if holding is not None:
            self._downloading.append((event, holding))
            self.let_go()
        return Departure(event)
