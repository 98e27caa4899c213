"""
Tensors handed over between processes that see the same CUDA device, or peers of it: only a handle travels.

    sender:    handle = Lender().lend(tensor)         picklable, some 200 bytes, to be sent on a channel
    receiver:  loan = borrow(handle);  use loan.tensor on the current stream;  loan.give_back()
    sender:    lender.let_go()                        frees what all readers have given back

The handle has the event after which the memory may be read: the receiver's stream waits for it, no host does. The
sender keeps the tensor until every reader has given it back; how that is told is the caller's business, for example a
word of shared memory. torch counts the users of exported memory, too, but frees it when it next allocates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Handle:
    """
    What a receiver needs to see a tensor of another process.

    Attributes:
        memory: The exported block, as torch's storage describes it: device, handle, sizes and offsets in bytes.
        event: Exported event after which the memory may be read.
        number: Which loan of the channel this is, from 1; a reader that gives it back returns this number.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool
    memory: tuple[Any, ...]
    event: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Loan:
    """A tensor that belongs to another process, until `give_back`."""

    tensor: torch.Tensor
    number: int
    _say: Callable[[int], None]

    def give_back(self) -> None:
        """Wait until this process's current stream has done with the tensor, then tell its owner."""
        event = torch.cuda.Event()
        event.record()
        event.synchronize()
        self._say(self.number)


class Lender:
    """The sending end of one channel. One thread at a time."""

    def __init__(self, returned: Callable[[], int]) -> None:
        """`returned()` is the highest number that all readers have given back; readers give back in order."""
        self._returned = returned
        self._lent: deque[tuple[int, torch.Tensor, torch.cuda.Event]] = deque()
        self._number = 0

    def lend(self, tensor: torch.Tensor) -> Handle:
        """
        Export a tensor as it is after what is queued on the current stream. Its memory must not be written meanwhile.

        Raises:
            ValueError: The tensor is not a dense CUDA tensor.
        """
        if tensor.device.type != "cuda" or tensor.layout is not torch.strided:
            raise ValueError(f"CUDA IPC moves dense cuda tensors, got one on {tensor.device}")
        whole = tensor.detach().contiguous()
        event = torch.cuda.Event(enable_timing=False, interprocess=True)
        event.record()
        self._number += 1
        self._lent.append((self._number, whole, event))
        self.let_go()
        return Handle(
            shape=tuple(whole.shape),
            dtype=whole.dtype,
            requires_grad=tensor.requires_grad,
            memory=(whole.untyped_storage()._share_cuda_(), whole.storage_offset()),
            event=event.ipc_handle(),
            number=self._number,
        )

    def let_go(self) -> None:
        """Drop the tensors that all readers have given back. Never blocks."""
        returned = self._returned()
        while self._lent and self._lent[0][0] <= returned:
            self._lent.popleft()

    @property
    def lent(self) -> int:
        """Tensors that are still kept."""
        return len(self._lent)


def borrow(handle: Handle, say: Callable[[int], None]) -> Loan:
    """
    The tensor behind a handle, for use on the current stream; `say(number)` tells the owner that it is given back.

    Raises:
        RuntimeError: This process cannot see the owner's device.
    """
    shared, offset = handle.memory
    device = shared[0]
    torch.cuda.current_stream().wait_event(torch.cuda.Event.from_ipc_handle(torch.device("cuda", device), handle.event))
    storage = torch.UntypedStorage._new_shared_cuda(*shared)
    tensor = torch.empty(0, dtype=handle.dtype, device=storage.device).set_(storage, offset, handle.shape)
    return Loan(tensor.requires_grad_(handle.requires_grad), handle.number, say)
