"""
Whether anybody else can see a tensor's memory: if nobody can, a reduction may put its result there, without a copy. And
how to let somebody work on it who does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from cgc.runtime.communicators.landing import is_landed

MAX_LOANS = 16
"""Tensors over lent memory that are kept for the next time; they have no memory of their own."""

_CAN_LEND = hasattr(torch._C, "_construct_storage_from_data_pointer")

_IN_A_LIST = 2
"""What `sys.getrefcount(values[i])` gives if only the list refers to the object: the list, and the call itself."""


def is_only_here(values: Sequence[Any], position: int) -> bool:
    """
    True if `values` holds the only reference to a dense, contiguous tensor, and nothing else uses its memory.

    Whoever else could read or write it counts: variables, views, NumPy arrays, gradients of parameters, tensors that
    autograd has saved. False if that cannot be found out.
    """
    if sys.getrefcount(values[position]) > _IN_A_LIST:
        return False
    tensor = values[position]
    if type(tensor) is not torch.Tensor or tensor.requires_grad or not tensor.is_contiguous():
        return False
    if tensor.is_conj() or tensor.is_neg():
        return False
    own_memory = tensor.untyped_storage().resizable() or is_landed(tensor)  # else it is somebody's array
    return own_memory and _uses(tensor) == _USES_OF_ONE


class Loans:
    """
    The memory of tensors, lent to who works on it for a while and forgets it some time later.

    What is lent counts as no use of the memory and does not keep it alive: who lends it does, for as long as the work
    takes. Memory that comes round is lent as the same tensor again.
    """

    def __init__(self) -> None:
        self._lent: dict[tuple[int, int, torch.dtype], torch.Tensor] = {}

    def lend(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The memory of a contiguous tensor as a flat one of `dtype`; a view where torch offers nothing like that."""
        if not _CAN_LEND:
            return tensor.view(-1).view(dtype)
        key = tensor.data_ptr(), tensor.nbytes, dtype
        found = self._lent.get(key)
        if found is None:
            if len(self._lent) >= MAX_LOANS:
                del self._lent[next(iter(self._lent))]
            memory = torch._C._construct_storage_from_data_pointer(key[0], tensor.device, tensor.nbytes)
            found = torch.empty(0, dtype=dtype).set_(memory, 0, (tensor.nbytes // dtype.itemsize,))
            self._lent[key] = found
        return found


def _uses(tensor: torch.Tensor) -> tuple[int, int, int] | None:
    """How often a tensor and its memory are referred to, in C++ and Python, as far as torch tells."""
    try:
        storage = tensor.untyped_storage()
        in_cpp: int = torch._C._storage_Use_Count(storage._cdata)
        return tensor._use_count(), in_cpp, sys.getrefcount(storage)
    except AttributeError:
        return None


_USES_OF_ONE = _uses(torch.ones(1)) or ()
"""Of a tensor that nobody else has: torch's own references differ from release to release."""
