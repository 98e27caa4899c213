"""
CUDA memory and events that other processes open: what `Lending` needs of CUDA. Nothing here synchronises a device.

Memory goes by the driver's own calls, which torch offers only together with a way of counting users that stalls the
reader's stream. They know allocations as a whole (torch's allocator cuts its blocks from such), so that a handle is
that of the allocation, with the number that the driver gave to it: another one at the same address has another number.
Events are torch's.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch

from cgc.runtime.accelerators.interface import Exported, LentTo

HANDLE_BYTES = 64

_LAZY_PEER_ACCESS = 1
"""`CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`: what lies on another device is read through it."""

_BUFFER_ID = 7
"""`CU_POINTER_ATTRIBUTE_BUFFER_ID`: a number that no other allocation of the process has had."""


class _Handle(ctypes.Structure):
    _fields_ = (("octets", ctypes.c_ubyte * HANDLE_BYTES),)


class IpcEvent:
    """See `base.SharedEvent`."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=False, interprocess=True)
        self._event.record()  # a handle is had of events that were used
        self.handle: bytes = self._event.ipc_handle()

    def record(self) -> None:
        self._event.record()


def export(tensor: torch.Tensor) -> Exported | None:
    """Where a contiguous tensor lies; None where its allocation has no handle, e.g. of `expandable_segments`."""
    if not tensor.numel():
        return None
    _enter_context()
    address = int(tensor.data_ptr())
    base, size, number, handle = ctypes.c_uint64(), ctypes.c_size_t(), ctypes.c_uint64(), _Handle()
    driver = _driver()
    failed = (
        driver.cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(address))
        or driver.cuPointerGetAttribute(ctypes.byref(number), _BUFFER_ID, base)
        or driver.cuIpcGetMemHandle(ctypes.byref(handle), base)
    )
    if failed:
        return None
    memory = bytes(handle.octets) + number.value.to_bytes(8, "little")
    return Exported(memory, address - base.value, tensor.detach())


def map_memory(memory: bytes) -> int:
    """The address of another process's allocation here. Raises `RuntimeError`."""
    _enter_context()
    handle = _Handle.from_buffer_copy(memory[:HANDLE_BYTES])
    address = ctypes.c_uint64()
    code = _driver().cuIpcOpenMemHandle_v2(ctypes.byref(address), handle, _LAZY_PEER_ACCESS)
    if code:
        raise RuntimeError(f"CUDA memory of another process cannot be opened (cuIpcOpenMemHandle: error {code})")
    return address.value


def unmap_memory(mapping: int) -> None:
    _enter_context()
    _driver().cuIpcCloseMemHandle(ctypes.c_uint64(mapping))


def tensor_over(mapping: int, offset: int, shape: Sequence[int], dtype: torch.dtype, loan: LentTo) -> torch.Tensor:
    """A tensor over opened memory, whose storage refers to `loan`."""
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    octets: torch.Tensor = torch.as_tensor(_Octets(mapping + offset, nbytes, loan), device="cuda")
    return octets.view(dtype).view(tuple(shape))


class _Octets:
    """Memory as torch takes it from others; torch refers to it for as long as the storage lives."""

    def __init__(self, address: int, nbytes: int, loan: LentTo) -> None:
        self._loan = loan
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _enter_context() -> None:
    """Make torch's context this thread's, if it has none yet."""
    driver, context = _driver(), ctypes.c_void_p()
    driver.cuCtxGetCurrent(ctypes.byref(context))
    if context.value is None:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), torch.cuda.current_device())
        driver.cuCtxSetCurrent(context)
