"""The host as an accelerator: one stream that is always finished, and copies that copy at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from ray.experimental.channel.communicator import Communicator

from cgc.runtime.accelerators.base import Event, PinnedMemory, Stream
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


class HostAccelerator:
    """See `Accelerator`: all methods are as trivial as they look."""

    name = "cpu"
    array_type = torch.Tensor

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

    def is_on_device(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout is torch.strided

    def is_on_host(self, value: Any) -> bool:
        return is_host_tensor(value)

    def contiguous(self, array: torch.Tensor) -> torch.Tensor:
        return contiguous_tensor(array)

    def host_memory(self, array: torch.Tensor) -> memoryview:
        return host_memory_of(array)

    def host_array(self, memory: PinnedMemory, shape: Sequence[int], dtype: Any) -> torch.Tensor:
        return host_tensor(memory.view, shape, dtype)

    def pinned(self, nbytes: int) -> PinnedMemory:
        return HostMemory(memoryview(bytearray(nbytes)))

    def pin(self, view: memoryview) -> PinnedMemory:
        return HostMemory(view.cast("B"))

    def copy_in(self, target: torch.Tensor, source: PinnedMemory, offset: int = 0) -> None:
        octets = _octets(target)
        octets.numpy()[:] = source.view[offset : offset + octets.numel()]

    def copy_out(self, target: PinnedMemory, source: torch.Tensor, offset: int = 0) -> None:
        octets = _octets(source)
        target.view[offset : offset + octets.numel()] = memoryview(octets.numpy())

    def make_communicator(self, actors: Sequence[Any]) -> Communicator:
        return GlooCommunicator(actors)


# What all devices of torch share: how tensors look on the host.


def is_host_tensor(value: Any) -> bool:
    """True for dense tensors of the host, and not for subclasses, e.g. parameters."""
    return type(value) is torch.Tensor and value.device.type == "cpu" and value.layout is torch.strided


def contiguous_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whose memory holds its elements, in order: the same object if it is one already."""
    return tensor.resolve_conj().resolve_neg().contiguous()


def host_memory_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor of the host."""
    return memoryview(_octets(tensor).numpy()) if tensor.numel() else memoryview(b"")


def host_tensor(view: memoryview, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Host memory as a tensor, which keeps it."""
    if not view.nbytes:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(view, dtype=dtype).view(tuple(shape))


def _octets(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(-1).view(torch.uint8)


ACCELERATOR = HostAccelerator()
