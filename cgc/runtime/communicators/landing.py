"""
Memory for tensors to arrive in, used again once nobody refers to them any more.

The first touch of new memory costs more than receiving into it: the allocator gives large blocks back to the system at
once, and each page comes anew, zeroed. A receiver that gets tensors of similar size again and again has its pages.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

REUSE_FROM = 256 * 1024
"""Bytes; smaller tensors are the allocator's business, which keeps their pages."""

MAX_BLOCKS = 8
"""Blocks per user that are kept, used and free ones together; beyond that, tensors are allocated as usual."""

PAGE = 4096
"""
Bytes; blocks begin with a page. malloc puts what is large 16 bytes behind the beginning of one, and torch 64: receiving
from TCP into memory 32 to 64 bytes behind it took half as long again for 16 MiB, on an AMD EPYC. The kernel copies from
pages of its own, in which the data begins near the start too, and the processor copies slowly to where the address
within the page is a little above that of the source.
"""

_FREE_REFERENCES = 2
"""What `sys.getrefcount(list[i])` gives at most when only the list refers to the object."""


_blocks_at: dict[int, weakref.ref[Any]] = {}
"""The block in which a tensor of a pool lies, by the tensor's address."""


def is_landed(tensor: torch.Tensor) -> bool:
    """True if the tensor's memory is that of a pool, and so of nobody who does not have the tensor."""
    block = _blocks_at.get(tensor.data_ptr())
    return block is not None and block() is not None


class LandingPool:
    """
    For all that one actor receives in a graph, in any thread: what one receive has left, the next one takes while it is
    still in the cache. A pool for each receive would need as many blocks as there are receives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._blocks: list[Any] = []
        self._taken_at: list[int] = []
        self._requests = 0
        self._last = 0

    def register(self) -> Callable[[Sequence[int], torch.dtype], torch.Tensor]:
        """`empty`, for an operation that calls it about once an execution."""
        self._users += 1
        return self.empty

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A CPU tensor without values. Its memory is used again when it and all its views are gone."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < REUSE_FROM:
            return torch.empty(tuple(shape), dtype=dtype)
        with self._lock:
            block = self._take(nbytes)
        if block is None:
            return torch.empty(tuple(shape), dtype=dtype)
        # Its storage refers to the array, so that the array's references tell its use; it is no view of another tensor,
        # which it would keep, and which would count as one more user of the memory.
        return torch.frombuffer(block, dtype=dtype, count=nbytes // dtype.itemsize).resize_(tuple(shape))

    def _take(self, nbytes: int) -> Any:
        """
        A free block of that size, made if necessary; None if there are too many in use.

        Of those that fit the smallest, and of these the one that was taken last: it is the warmest.
        """
        self._requests += 1
        blocks, taken_at, number = self._blocks, self._taken_at, self._last
        if number < len(blocks) and blocks[number].nbytes == nbytes and self._is_free(number):
            taken_at[number] = self._requests
            return blocks[number]
        fitting = [n for n in self._free() if nbytes <= blocks[n].nbytes <= 2 * nbytes]
        if fitting:
            number = min(fitting, key=lambda n: (blocks[n].nbytes, -taken_at[n]))
        else:
            self._forget_stale()
            if len(blocks) >= MAX_BLOCKS * max(1, self._users):
                return None
            number = len(blocks)
            blocks.append(_new_block(nbytes))
            taken_at.append(0)
        taken_at[number] = self._requests
        self._last = number
        return blocks[number]

    def _free(self) -> list[int]:
        return [number for number in range(len(self._blocks)) if self._is_free(number)]

    def _is_free(self, number: int) -> bool:
        # Another thread can only make a block free meanwhile: nobody gets at one that the list alone refers to.
        return sys.getrefcount(self._blocks[number]) <= _FREE_REFERENCES

    def _forget_stale(self) -> None:
        """Give back what the last execution did not need: the values have other sizes now."""
        for number in reversed(self._free()):
            if self._requests - self._taken_at[number] > max(1, self._users):
                del self._blocks[number], self._taken_at[number]


def _new_block(nbytes: int) -> Any:
    """An array without values, from the beginning of a page on."""
    whole = np.empty(nbytes + PAGE, np.uint8)
    start = -whole.ctypes.data % PAGE
    block = whole[start : start + nbytes]
    address = block.ctypes.data
    _blocks_at[address] = weakref.ref(block, lambda _: _blocks_at.pop(address, None))
    return block
