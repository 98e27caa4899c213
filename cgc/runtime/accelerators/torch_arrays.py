"""What all devices of torch share: how tensors are told apart, and how they look on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cgc.runtime.accelerators.interface import PinnedMemory


class TorchArrays:
    """The part of `Accelerator` that is about arrays, for a device whose arrays are tensors."""

    name: str
    array_type = torch.Tensor

    def is_on_device(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type == self.name and value.layout is torch.strided

    def is_on_host(self, value: Any) -> bool:
        # Not subclasses, e.g. parameters.
        return type(value) is torch.Tensor and value.device.type == "cpu" and value.layout is torch.strided

    def contiguous(self, array: torch.Tensor) -> torch.Tensor:
        return array.resolve_conj().resolve_neg().contiguous()

    def host_memory(self, array: torch.Tensor) -> memoryview:
        return memoryview(octets_of(array).numpy()) if array.numel() else memoryview(b"")

    def host_array(self, memory: PinnedMemory, shape: Sequence[int], dtype: Any) -> torch.Tensor:
        if not memory.view.nbytes:
            return torch.empty(tuple(shape), dtype=dtype)
        return torch.frombuffer(memory.view, dtype=dtype).view(tuple(shape))


def octets_of(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor, as a tensor over the same memory."""
    return tensor.detach().view(-1).view(torch.uint8)
