"""
CUDA devices, by torch.cuda: streams, events and the allocator are torch's; NCCL comes from cupy.

Nothing here synchronises a device, and nothing copies from or to pageable memory.
"""

from __future__ import annotations

import contextlib
import mmap
import weakref
from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.experimental.channel.communicator import Communicator

from cgc.runtime.accelerators import cuda_ipc
from cgc.runtime.accelerators.interface import Event, Exported, LentTo, PinnedMemory, SharedEvent, Stream
from cgc.runtime.accelerators.torch_arrays import TorchArrays, octets_of
from cgc.runtime.read_only import hush_warning

_REGISTER_READ_ONLY = 0x08
"""`cudaHostRegisterReadOnly`: a channel's reader maps its memory without the right to write."""


class AllocatedMemory:
    """Pinned memory of torch's pool."""

    def __init__(self, nbytes: int) -> None:
        self._tensor: torch.Tensor | None = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        self.view = memoryview(self._tensor.numpy())

    def release(self) -> None:
        self.view = memoryview(b"")
        self._tensor = None


class RegisteredMemory:
    """Memory of somebody else, pinned page by page for as long as this object is not released."""

    def __init__(self, view: memoryview) -> None:
        self.view = view.cast("B")
        address = _address_of(self.view)
        self._start = address - address % mmap.PAGESIZE
        length = -(-(address + self.view.nbytes - self._start) // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = _REGISTER_READ_ONLY if self.view.readonly else 0
        try:
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(self._start, length, flags))
        except RuntimeError:
            _forget_last_error()
            raise
        self.release = weakref.finalize(self, _unregister, self._start)


class CudaAccelerator(TorchArrays):
    """See `Accelerator`."""

    name = "cuda"

    def __init__(self) -> None:
        self._loans: weakref.WeakValueDictionary[int, LentTo] = weakref.WeakValueDictionary()

    def device(self) -> torch.device:
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"no CUDA device is visible to this actor (torch {torch.__version__}): create it with "
                ".options(num_gpus=1) on a node that has one"
            )
        if not ray.get_gpu_ids():
            raise RuntimeError("Ray gave this actor no GPU: create it with .options(num_gpus=1)")
        return torch.device("cuda", 0)  # Ray shows an actor only its own devices, the first of them as number 0

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        context: contextlib.AbstractContextManager[Any] = torch.cuda.device(self.device())
        return context

    def new_stream(self) -> Stream:
        stream: Stream = torch.cuda.Stream()
        return stream

    def current_stream(self) -> Stream:
        stream: Stream = torch.cuda.current_stream()
        return stream

    def on_stream(self, stream: Stream) -> contextlib.AbstractContextManager[Any]:
        context: contextlib.AbstractContextManager[Any] = torch.cuda.stream(stream)
        return context

    def empty(self, shape: Sequence[int], dtype: Any) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device="cuda")

    def keep_for(self, array: torch.Tensor, stream: Stream) -> None:
        array.record_stream(stream)  # does nothing for memory of other processes
        loan = self._loans.get(array.untyped_storage().data_ptr()) if self._loans else None
        if loan is not None:
            loan.keep_for(stream)

    def export(self, array: torch.Tensor) -> Exported | None:
        return cuda_ipc.export(array)

    def map_memory(self, memory: bytes) -> int:
        return cuda_ipc.map_memory(memory)

    def unmap_memory(self, mapping: int) -> None:
        cuda_ipc.unmap_memory(mapping)

    def array_over(self, mapping: int, offset: int, shape: Sequence[int], dtype: Any, loan: LentTo) -> torch.Tensor:
        tensor = cuda_ipc.tensor_over(mapping, offset, shape, dtype, loan)
        self._loans[tensor.untyped_storage().data_ptr()] = loan
        return tensor

    def duplicate(self, array: torch.Tensor) -> torch.Tensor:
        return array.clone()

    def new_shared_event(self) -> SharedEvent:
        return cuda_ipc.IpcEvent()

    def open_event(self, handle: bytes) -> Event:
        event: Event = torch.cuda.Event.from_ipc_handle(self.device(), handle)
        return event

    def pinned(self, nbytes: int) -> PinnedMemory:
        return AllocatedMemory(nbytes)

    def pin(self, view: memoryview) -> PinnedMemory:
        return RegisteredMemory(view)

    def copy_in(self, target: torch.Tensor, source: PinnedMemory, offset: int = 0) -> None:
        octets = octets_of(target)
        if octets.numel():
            octets.copy_(_host_tensor(source.view[offset : offset + octets.numel()]), non_blocking=True)

    def copy_out(self, target: PinnedMemory, source: torch.Tensor, offset: int = 0) -> None:
        octets = octets_of(source)
        if octets.numel():
            _host_tensor(target.view[offset : offset + octets.numel()]).copy_(octets, non_blocking=True)

    def make_communicator(self, actors: Sequence[Any]) -> Communicator:
        from cgc.runtime.communicators.nccl import NcclCommunicator

        return NcclCommunicator(actors)


def _host_tensor(view: memoryview) -> torch.Tensor:
    return torch.frombuffer(view, dtype=torch.uint8)


def _address_of(view: memoryview) -> int:
    """Where the bytes are; works for read-only memory, unlike `ctypes.from_buffer`."""
    return int(_host_tensor(view).data_ptr()) if view.nbytes else 0


def _forget_last_error() -> None:
    """
    Let torch meet the error of a failed call of the driver here, instead of after the user's next kernel.

    The runtime keeps it until somebody asks, as torch does after each launch.
    """
    with contextlib.suppress(RuntimeError):
        torch.zeros(1, device="cuda")


def _unregister(address: int) -> None:
    # At interpreter exit the context may be gone, and with it the registration.
    with contextlib.suppress(RuntimeError):
        torch.cuda.cudart().cudaHostUnregister(address)


hush_warning()

ACCELERATOR = CudaAccelerator()
