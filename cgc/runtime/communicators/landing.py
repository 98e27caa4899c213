"""
Memory for tensors to arrive in, used again once nobody refers to them any more.

The first touch of new memory costs more than receiving into it: the allocator gives large blocks back to the system at
once, and each page comes anew, zeroed. A receiver that gets tensors of similar size again and again has its pages.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

REUSE_FROM = 256 * 1024
"""Bytes; smaller tensors are the allocator's business, which keeps their pages."""

MAX_BLOCKS = 8
"""Blocks that are kept, used and free ones together; beyond that, tensors are allocated as usual."""

ALIGNMENT = 64
"""Bytes, as torch's allocator."""

_FREE_REFERENCES = 2
"""What `sys.getrefcount(list[i])` gives at most when only the list refers to the object."""


_blocks_at: dict[int, weakref.ref[Any]] = {}
"""The block in which a tensor of a pool lies, by the tensor's address."""


def is_landed(tensor: torch.Tensor) -> bool:
    """True if the tensor's memory is that of a pool, and so of nobody who does not have the tensor."""
    block = _blocks_at.get(tensor.data_ptr())
    return block is not None and block() is not None


class LandingPool:
    """For one thread."""

    def __init__(self) -> None:
        self._blocks: list[Any] = []

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A CPU tensor without values. Its memory is used again when it and all its views are gone."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < REUSE_FROM:
            return torch.empty(tuple(shape), dtype=dtype)
        number = self._find(nbytes + ALIGNMENT)
        if number is None:
            return torch.empty(tuple(shape), dtype=dtype)
        block = self._blocks[number]
        start = -block.ctypes.data % ALIGNMENT
        # The tensor's storage refers to this view, and that to the block: so the block's references tell its use.
        octets = torch.from_numpy(block[start : start + nbytes])
        address = octets.data_ptr()
        if address not in _blocks_at:
            _blocks_at[address] = weakref.ref(block, lambda _: _blocks_at.pop(address, None))
        # Not a view of `octets`, which it would keep, and which would count as another user of the memory.
        return torch.empty(0, dtype=dtype).set_(octets.untyped_storage(), 0, tuple(shape))

    def _find(self, nbytes: int) -> int | None:
        """Number of a free block of that size, made if necessary; None if there are too many in use."""
        free = [n for n in range(len(self._blocks)) if sys.getrefcount(self._blocks[n]) <= _FREE_REFERENCES]
        for number in free:
            if nbytes <= self._blocks[number].nbytes <= 2 * nbytes:
                return number
        if free:  # none fits: the values have another size now
            self._blocks[free[0]] = np.empty(nbytes, np.uint8)
            return free[0]
        if len(self._blocks) >= MAX_BLOCKS:
            return None
        self._blocks.append(np.empty(nbytes, np.uint8))
        return len(self._blocks) - 1
