"""
The interface to a kind of device.

Streams and events have the meaning that CUDA gave them: a stream runs what is queued on it in order, streams run
beside each other, and an event marks a point of one stream that other streams, or the host, can wait for. The methods
have torch's names, so that `torch.cuda.Stream` and `torch.cuda.Event` are implementations as they are.

Memory follows the rule of caching allocators. An array belongs to the stream that was current when it was made; once
the last reference is gone, its memory serves the next array of that stream. Whoever uses it on another stream says so
with `keep_for`, or the memory is used again too early.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ray.experimental.channel.communicator import Communicator

Array = Any
"""An array on a device: `torch.Tensor` for torch's devices."""


class Event(Protocol):
    """A point of a stream."""

    def query(self) -> bool:
        """True if everything before the point has run. Never blocks."""

    def synchronize(self) -> None:
        """Block the host until everything before the point has run. Other threads of the process go on."""


class Stream(Protocol):
    """A queue of work of one device."""

    def record_event(self) -> Event:
        """Mark the end of what is queued now."""

    def wait_event(self, event: Event) -> None:
        """Let everything that is queued from now on wait for `event`. The host does not wait."""


class SharedEvent(Protocol):
    """A point of a stream for which other processes can wait. It is made once and recorded again and again."""

    handle: bytes
    """What `Lending.open_event` takes."""

    def record(self) -> None:
        """Be the end of what is queued now on the current stream; who waits from now on waits for that."""


class PinnedMemory(Protocol):
    """Host memory that the device copies from and to by itself, which pageable memory does not allow."""

    view: memoryview
    """The memory as bytes, writable if it was made by `Accelerator.pinned`."""

    def release(self) -> None:
        """Give the memory back, or leave it to its owner. Only after every copy has completed. Idempotent."""


@runtime_checkable
class Accelerator(Protocol):
    """One kind of device, as seen by one process."""

    name: str
    """Device type as in `torch.device(name)`, e.g. `cuda`."""

    array_type: type
    """Class of its arrays."""

    def device(self) -> Any:
        """The device that Ray gave to this actor. Raises `RuntimeError` if it gave none."""

    def on_device(self) -> AbstractContextManager[Any]:
        """Make that device the current one of this thread."""

    def new_stream(self) -> Stream: ...
    def current_stream(self) -> Stream:
        """The stream on which this thread's computation is queued."""

    def on_stream(self, stream: Stream) -> AbstractContextManager[Any]:
        """Make `stream` this thread's current one."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """An array without values, belonging to the current stream."""

    def keep_for(self, array: Array, stream: Stream) -> None:
        """Do not use the array's memory again before what is queued on `stream` now has run."""

    def is_on_device(self, value: Any) -> bool:
        """True for dense arrays of this kind of device."""

    def is_on_host(self, value: Any) -> bool:
        """True for what corresponds to them on the host, by exact type: dense arrays that `host_memory` takes."""

    def contiguous(self, array: Array) -> Array:
        """An array, of the device or the host, with its elements in order: itself, or a copy on the current stream."""

    def host_memory(self, array: Any) -> memoryview:
        """The bytes of a contiguous array of the host."""

    def host_array(self, memory: PinnedMemory, shape: Sequence[int], dtype: Any) -> Any:
        """Pinned memory, which is kept, as an array of the host."""

    def pinned(self, nbytes: int) -> PinnedMemory:
        """New pinned memory."""

    def pin(self, view: memoryview) -> PinnedMemory:
        """
        Pin memory that exists, e.g. a channel's, until the result's `release`, which any thread may call.

        Raises RuntimeError where the device cannot; then callers copy once more. See `pages`.
        """

    def copy_in(self, target: Array, source: PinnedMemory, offset: int = 0) -> None:
        """Queue a copy of the source's bytes from `offset` on, as many as the target has, on the current stream."""

    def copy_out(self, target: PinnedMemory, source: Array, offset: int = 0) -> None:
        """Queue a copy of a contiguous array to the target's bytes from `offset` on, on the current stream."""

    def make_communicator(self, actors: Sequence[Any]) -> Communicator:
        """A communicator of the device's own kind, for `transport="accelerator"`: see `QueuedCommunicator`."""


class QueuedCommunicator(Protocol):
    """
    What communicators have beyond Ray's interface if their operations are queued on the current stream.

    Then Ray's collectives are queued, too. These it may have, besides:

        grouped()               a context manager: what is queued within is one operation, so that messages can cross
        broadcast(array, root)  queue a broadcast; without it, the root sends to one after the other
        check()                 raise `RayChannelError` if an operation that was queued has failed. It is called by any
                                thread: before each message to a channel in shared memory, so that no wrong number gets
                                to the driver, and every `groups.GUARD_INTERVAL` seconds. A failure ends the graph
        abort(reason)           end what is queued, and the waits of `initialize` too, so that events behind it happen;
                                from then on, `check` raises. It is called by any thread, and `destroy` in its place if
                                it is missing
    """

    def queue_send(self, array: Array, peer_rank: int) -> None:
        """Queue the send of a contiguous array."""

    def queue_recv(self, into: Array, peer_rank: int) -> None:
        """Queue the receive into a contiguous array."""


@dataclass(frozen=True, slots=True)
class Exported:
    """
    Where an array lies, for other processes.

    Attributes:
        memory: What `Lending.map_memory` takes; arrays that lie in one piece of memory have it in common.
        offset: Bytes from the begin of that piece.
        hold: What keeps the memory from being used for something else.
    """

    memory: bytes
    offset: int
    hold: object


class LentTo(Protocol):
    """What an array over another process's memory refers to until nothing needs that memory any more."""

    def keep_for(self, stream: Stream) -> None:
        """The memory is used by what is queued on `stream` now, too."""


@runtime_checkable
class Lending(Protocol):
    """What an `Accelerator` has besides if other processes of the node can open its arrays. See `lending`."""

    def export(self, array: Array) -> Exported | None:
        """Where a contiguous array lies; None if others cannot open that memory. Fast."""

    def map_memory(self, memory: bytes) -> Any:
        """Open a piece of another process's memory. Slow. Raises `RuntimeError` if that cannot be done."""

    def unmap_memory(self, mapping: Any) -> None:
        """Undo `map_memory`. Only when no array is over it any more."""

    def array_over(self, mapping: Any, offset: int, shape: Sequence[int], dtype: Any, loan: LentTo) -> Array:
        """
        An array over opened memory.

        It, and whatever shares its memory, refers to `loan`; a `keep_for` of one of them is a `keep_for` of that.
        """

    def duplicate(self, array: Array) -> Array:
        """A copy in memory of its own, on the current stream."""

    def new_shared_event(self) -> SharedEvent: ...
    def open_event(self, handle: bytes) -> Event:
        """The event of another process, for `Stream.wait_event` only. Slow."""
