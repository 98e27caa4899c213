"""
Reductions of tensors within one process, in rank order: what gloo or NCCL have no kernel for, or define differently.

The rules are NumPy's and torch's: integers wrap, `bool` adds as "or" and multiplies as "and", NaN wins in MIN and MAX.
AVG of integers is cut towards zero, as NCCL does; AVG of half precision is computed in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ray.experimental.util.types import ReduceOp

Exchange = Callable[[torch.Tensor, torch.Tensor], None]

_NATIVE_SUMS = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64}
)
_NATIVE_EXTREMES = frozenset({torch.int8, torch.uint8, torch.int32, torch.int64})
_NATIVE_AVERAGES = frozenset({torch.float32, torch.float64})

_STEPS: dict[ReduceOp, Callable[..., torch.Tensor]] = {
    ReduceOp.SUM: torch.add,
    ReduceOp.AVG: torch.add,
    ReduceOp.PRODUCT: torch.mul,
    ReduceOp.MAX: torch.maximum,
    ReduceOp.MIN: torch.minimum,
}


def check_reduction(dtype: Any, op: ReduceOp) -> None:
    """Raise `TypeError` if `op` means nothing for `dtype`, which is torch's or, for other devices' arrays, NumPy's."""
    is_complex = dtype.is_complex if isinstance(dtype, torch.dtype) else dtype.kind == "c"
    is_bool = dtype is torch.bool if isinstance(dtype, torch.dtype) else dtype.kind == "b"
    if is_complex and op in (ReduceOp.MIN, ReduceOp.MAX):
        raise TypeError(f"{op.name} needs an order, and {dtype} has none; reduce the real and imaginary parts instead")
    if is_bool and op is ReduceOp.AVG:
        raise TypeError(f"AVG of {dtype} is not a truth value; convert the tensor to a floating-point dtype first")


def is_native(dtype: torch.dtype, op: ReduceOp) -> bool:
    """True if the kernels of gloo and NCCL give the result that `fold` would give, up to rounding."""
    if op in (ReduceOp.SUM, ReduceOp.PRODUCT):
        return dtype in _NATIVE_SUMS
    return dtype in (_NATIVE_AVERAGES if op is ReduceOp.AVG else _NATIVE_EXTREMES)


def fold(parts: Sequence[torch.Tensor], op: ReduceOp) -> torch.Tensor:
    """The reduction of `parts`, which have one shape and dtype, from the first to the last; a new tensor."""
    target = torch.empty_like(parts[0])
    fold_into(target, parts, op)
    return target


def fold_into(target: torch.Tensor, parts: Sequence[torch.Tensor], op: ReduceOp) -> None:
    """
    The same into a tensor of the parts' shape and dtype, which may be the first or the second part itself.

    Raises `TypeError` as `check_reduction`.
    """
    dtype = target.dtype
    check_reduction(dtype, op)
    wide = _wide(dtype) if op is ReduceOp.AVG else dtype
    total = target
    if wide != dtype:
        total, parts = torch.empty_like(target, dtype=wide), [part.to(wide) for part in parts]
    step = _STEPS[op]
    if len(parts) == 1:
        total.copy_(parts[0])
    else:
        step(parts[0], parts[1], out=total)
    for part in parts[2:]:
        step(total, part, out=total)
    if op is ReduceOp.AVG:
        rounding = None if dtype.is_floating_point or dtype.is_complex else "trunc"
        torch.div(total, len(parts), rounding_mode=rounding, out=total)
    if total is not target:
        target.copy_(total)


def folded_part(send: torch.Tensor, op: ReduceOp, ranks: int, exchange: Exchange) -> torch.Tensor:
    """
    This rank's part of the reduction of `send`, flat.

    `exchange(target, source)` gives part i of the flat `source` to rank i, and puts the parts that it gets from all
    ranks into `target`, in their order.
    """
    flat = send.contiguous().view(-1)
    if ranks == 1 or not flat.numel():
        return fold([flat], op)
    exchanged = torch.empty_like(flat)
    exchange(exchanged, flat)
    return fold(list(exchanged.view(ranks, -1)), op)


def fold_everywhere(send: torch.Tensor, op: ReduceOp, ranks: int, exchange: Exchange, gather: Exchange) -> torch.Tensor:
    """
    The reduction of `send` over all ranks, the same bits on each: every rank reduces one part, and all get all parts.

    `gather(target, source)` puts the flat `source` of all ranks into `target`, in their order.
    """
    part_size = -(-send.numel() // ranks)
    padded = send.new_zeros(part_size * ranks)
    padded[: send.numel()] = send.reshape(-1)
    gather(padded, folded_part(padded, op, ranks, exchange))
    return padded[: send.numel()].view(send.shape)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """A dtype in which the sum of some values of `dtype` does not overflow, where there is one."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype if dtype.is_floating_point or dtype.is_complex else torch.int64
