"""
Reductions of tensors within one process, in rank order: what gloo has no kernel for, or rounds differently.

The rules are NumPy's and torch's: integers wrap, `bool` adds as "or" and multiplies as "and", NaN wins in MIN and MAX.
AVG of integers is cut towards zero, as NCCL does; AVG of half precision is computed in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ray.experimental.util.types import ReduceOp

_NATIVE_SUMS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64}
)
_NATIVE_EXTREMES = frozenset({torch.int8, torch.uint8, torch.int32, torch.int64})
_NATIVE_AVERAGES = frozenset({torch.float32, torch.float64})

_STEPS: dict[ReduceOp, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    ReduceOp.SUM: torch.add,
    ReduceOp.AVG: torch.add,
    ReduceOp.PRODUCT: torch.mul,
    ReduceOp.MAX: torch.maximum,
    ReduceOp.MIN: torch.minimum,
}


def check_reduction(dtype: torch.dtype, op: ReduceOp) -> None:
    """Raise `TypeError` if `op` means nothing for `dtype`."""
    if dtype.is_complex and op in (ReduceOp.MIN, ReduceOp.MAX):
        raise TypeError(f"{op.name} needs an order, and {dtype} has none; reduce the real and imaginary parts instead")
    if dtype is torch.bool and op is ReduceOp.AVG:
        raise TypeError("AVG of torch.bool is not a truth value; convert the tensor to a floating-point dtype first")


def is_native(dtype: torch.dtype, op: ReduceOp) -> bool:
    """True if gloo's own kernels give the result that `fold` would give, up to rounding."""
    if op in (ReduceOp.SUM, ReduceOp.PRODUCT):
        return dtype in _NATIVE_SUMS
    return dtype in (_NATIVE_AVERAGES if op is ReduceOp.AVG else _NATIVE_EXTREMES)


def fold(parts: Sequence[torch.Tensor], op: ReduceOp) -> torch.Tensor:
    """The reduction of `parts`, which have one shape and dtype, from the first to the last; a new tensor."""
    dtype = parts[0].dtype
    check_reduction(dtype, op)
    wide = _wide(dtype) if op is ReduceOp.AVG else dtype
    step = _STEPS[op]
    total = parts[0].to(wide, copy=True)
    for part in parts[1:]:
        total = step(total, part.to(wide))
    if op is ReduceOp.AVG:
        rounding = None if dtype.is_floating_point or dtype.is_complex else "trunc"
        total = torch.div(total, len(parts), rounding_mode=rounding)
    return total.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """A dtype in which the sum of some values of `dtype` does not overflow, where there is one."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype if dtype.is_floating_point or dtype.is_complex else torch.int64
