"""The host as an accelerator: one stream that is always finished, and copies that copy at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from ray.experimental.channel.communicator import Communicator

from cgc.runtime.accelerators.interface import Event, PinnedMemory, Stream
from cgc.runtime.accelerators.torch_arrays import TorchArrays, octets_of
from cgc.runtime.communicators.gloo import GlooCommunicator


class HostStream:
    """Work that is done when it is queued. It is its own event."""

    def record_event(self) -> HostStream:
        return self

    def wait_event(self, event: Event) -> None:
        event.synchronize()

    def query(self) -> bool:
        return True

    def synchronize(self) -> None: ...


class HostMemory:
    """Memory of the process, which needs no pinning."""

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def release(self) -> None: ...


class HostAccelerator(TorchArrays):
    """See `Accelerator`: all methods are as trivial as they look."""

    name = "cpu"

    def __init__(self) -> None:
        self._stream = HostStream()

    def device(self) -> torch.device:
        return torch.device("cpu")

    def on_device(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def new_stream(self) -> Stream:
        return self._stream

    def current_stream(self) -> Stream:
        return self._stream

    def on_stream(self, stream: Stream) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def empty(self, shape: Sequence[int], dtype: Any) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def keep_for(self, array: torch.Tensor, stream: Stream) -> None: ...

    def pinned(self, nbytes: int) -> PinnedMemory:
        return HostMemory(memoryview(bytearray(nbytes)))

    def pin(self, view: memoryview) -> PinnedMemory:
        return HostMemory(view.cast("B"))

    def copy_in(self, target: torch.Tensor, source: PinnedMemory, offset: int = 0) -> None:
        octets = octets_of(target)
        octets.numpy()[:] = source.view[offset : offset + octets.numel()]

    def copy_out(self, target: PinnedMemory, source: torch.Tensor, offset: int = 0) -> None:
        octets = octets_of(source)
        target.view[offset : offset + octets.numel()] = memoryview(octets.numpy())

    def make_communicator(self, actors: Sequence[Any]) -> Communicator:
        return GlooCommunicator(actors)


ACCELERATOR = HostAccelerator()
