"""
The interface to a kind of device, and the table of kinds.

Streams and events have the meaning that CUDA gave them: a stream runs what is queued on it in order, streams run
beside each other, and an event marks a point of one stream that other streams, or the host, can wait for. The methods
have torch's names, so that `torch.cuda.Stream` and `torch.cuda.Event` are implementations as they are.

Memory follows the rule of caching allocators. An array belongs to the stream that was current when it was made; once
the last reference is gone, its memory serves the next array of that stream. Whoever uses it on another stream says so
with `keep_for`, or the memory is used again too early.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

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
        """True for arrays of this kind of device."""

    def pinned(self, nbytes: int) -> PinnedMemory:
        """New pinned memory."""

    def pin(self, view: memoryview) -> PinnedMemory:
        """Pin memory that exists, e.g. a channel's, until the result's `release`."""

    def copy_in(self, target: Array, source: PinnedMemory, offset: int = 0) -> None:
        """Queue a copy of the source's bytes from `offset` on, as many as the target has, on the current stream."""

    def copy_out(self, target: PinnedMemory, source: Array, offset: int = 0) -> None:
        """Queue a copy of a contiguous array to the target's bytes from `offset` on, on the current stream."""

    def make_communicator(self, actors: Sequence[Any]) -> Communicator:
        """A communicator of the device's own kind, for `transport="accelerator"`."""


_KINDS: dict[str, str] = {"cpu": "cgc.runtime.accelerators.cpu", "cuda": "cgc.runtime.accelerators.cuda"}
"""Device type to the module that has `ACCELERATOR`."""

_found: dict[str, Accelerator] = {}


def register(accelerator: Accelerator) -> None:
    """Make a kind of device known to this process under its name; replaces one of the same name."""
    _found[accelerator.name] = accelerator


def find(name: str) -> Accelerator:
    """
    The kind of device called `name`.

    Raises:
        LookupError: There is none of that name.
        ImportError: Its library is not installed; the message names the extra to install.
    """
    if name not in _found:
        if name not in _KINDS:
            known = ", ".join(sorted({*_KINDS, *_found}))
            raise LookupError(f"no accelerator is called {name!r}; known: {known}, and what accelerators.register adds")
        register(importlib.import_module(_KINDS[name]).ACCELERATOR)
    return _found[name]
