"""
Memory for tensors to arrive in, used again once nobody refers to them any more.

The first touch of new memory costs more than receiving into it: the allocator gives large blocks back to the system at
once, and each page comes anew, zeroed. A receiver that gets tensors of similar size again and again has its pages.
"""

from __future__ import annotations

import functools
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
"""What `sys.getrefcount(block.array)` gives if only the block refers to its array: the block, and the call itself."""

_memory_at: dict[int, weakref.ref[Any]] = {}
"""The memory in which a tensor of a pool lies, by the tensor's address."""


def is_landed(tensor: torch.Tensor) -> bool:
    """True if the tensor's memory is that of a pool, and so of nobody who does not have the tensor."""
    memory = _memory_at.get(tensor.data_ptr())
    return memory is not None and memory() is not None


class LandingPool:
    """
    For all that one actor receives in a graph, in any thread: what one receive has left, the next one takes while it is
    still in the cache. A pool for each receive would need as many blocks as there are receives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._blocks: list[_Block] = []
        self._requests = 0
        self._last: _Block | None = None

    def register(self) -> Callable[[Sequence[int], torch.dtype], torch.Tensor]:
        """`empty`, for an operation that calls it about once an execution."""
        self._users += 1
        return self.empty

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A CPU tensor without values. Its memory is used again when it and all its views are gone."""
        with self._lock:
            block = self._last
            if block is None or block.shape != shape or block.dtype is not dtype or not block.is_free:
                block = self._take(shape, dtype)
            if block is None:
                return torch.empty(tuple(shape), dtype=dtype)
            self._requests += 1
            block.taken_at = self._requests
            return block.tensor()

    def _take(self, shape: Sequence[int], dtype: torch.dtype) -> _Block | None:
        """
        A free block for such a tensor, made if necessary; None if it is too small for one, or too many are in use.

        Of those that fit the smallest, and of these the one that was taken last: it is the warmest.
        """
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < REUSE_FROM:
            return None
        fitting = [block for block in self._blocks if nbytes <= block.nbytes <= 2 * nbytes and block.is_free]
        if fitting:
            block = min(fitting, key=lambda block: (block.nbytes, -block.taken_at))
        else:
            self._forget_stale()
            if len(self._blocks) >= MAX_BLOCKS * max(1, self._users):
                return None
            block = _Block(nbytes)
            self._blocks.append(block)
        block.shape_as(tuple(shape), dtype)
        self._last = block
        return block

    def _forget_stale(self) -> None:
        """Give back what the last execution did not need: the values have other sizes now."""
        oldest = self._requests - max(1, self._users)
        self._blocks = [block for block in self._blocks if block.taken_at > oldest or not block.is_free]


class _Block:
    """
    Memory from the beginning of a page on, and the shape and dtype of the tensor that was put there last.

    A tensor's storage refers to the array that it was made of, so that the array's references tell its use. It is no
    view of another tensor, which it would keep, and which would count as one more user of the memory.
    """

    __slots__ = ("_memory", "array", "dtype", "nbytes", "shape", "taken_at")

    def __init__(self, nbytes: int) -> None:
        whole = np.empty(nbytes + PAGE, np.uint8)
        start = -whole.ctypes.data % PAGE
        self._memory = whole[start : start + nbytes]
        self.nbytes = nbytes
        self.taken_at = 0
        self.shape_as((nbytes,), torch.uint8)
        address = self._memory.ctypes.data
        _memory_at[address] = weakref.ref(whole, lambda _: _memory_at.pop(address, None))  # the base of all its arrays

    @property
    def is_free(self) -> bool:
        """Another thread can only make a block free meanwhile: nobody gets at an array that the block alone has."""
        return sys.getrefcount(self.array) <= _FREE_REFERENCES

    def shape_as(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """What the next tensors are like; of a free block only."""
        self.shape, self.dtype = shape, dtype
        used = self._memory[: math.prod(shape) * dtype.itemsize]
        same = numpy_dtype(dtype)
        self.array = used if same is None else used.view(same).reshape(shape)

    def tensor(self) -> torch.Tensor:
        """A new one. Where NumPy lacks the dtype this costs five times as much, because of `resize_`."""
        if self.array.shape == self.shape:
            return torch.from_numpy(self.array)
        return torch.frombuffer(self.array, dtype=self.dtype).resize_(self.shape)


@functools.cache
def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any] | None:
    """The same of NumPy's; None for what it lacks, like bfloat16."""
    try:
        same: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError:
        return None
    return same
