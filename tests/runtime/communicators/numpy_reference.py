"""What reductions of tensors have to give, as NumPy has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.experimental.util.types import ReduceOp

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
COMPLEX = [torch.complex64, torch.complex128]
DTYPES = [*FLOATS, *INTEGERS, *COMPLEX, torch.bool]
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-6, torch.complex64: 1e-6}
"""Relative; other dtypes have to be exact or nearly so."""


def make(dtype: torch.dtype, rank: int, count: int) -> torch.Tensor:
    """Values of a rank: small, signed where possible, the same in every process."""
    values = np.random.default_rng(rank).integers(-9, 10, (2, count))
    if dtype.is_complex:
        return torch.from_numpy(values[0] + 1j * values[1]).to(dtype)
    if dtype.is_floating_point:
        return torch.from_numpy(values[0] / 8).to(dtype)
    return torch.from_numpy(np.abs(values[0]) if dtype is torch.uint8 else values[0]).to(dtype)


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()


def reference(parts: list[np.ndarray[Any, Any]], op: ReduceOp) -> np.ndarray[Any, Any]:
    """NumPy's answer."""
    stacked = np.stack(parts)
    if op is ReduceOp.AVG and not np.issubdtype(stacked.dtype, np.inexact):
        return np.trunc(stacked.astype(np.int64).sum(0) / len(parts)).astype(stacked.dtype)
    if op is ReduceOp.AVG:
        return stacked.astype(np.result_type(stacked.dtype, np.float32)).mean(0)
    ufunc = {ReduceOp.SUM: np.add, ReduceOp.PRODUCT: np.multiply, ReduceOp.MIN: np.minimum, ReduceOp.MAX: np.maximum}
    return ufunc[op].reduce(stacked, 0, dtype=stacked.dtype)


def assert_close(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], dtype: torch.dtype) -> None:
    tolerance = TOLERANCE.get(dtype, 1e-14)
    np.testing.assert_allclose(actual.astype(expected.dtype), expected, rtol=tolerance, atol=tolerance * 10)


def operations_of(dtype: torch.dtype) -> list[ReduceOp]:
    if dtype.is_complex:
        return [ReduceOp.SUM, ReduceOp.PRODUCT, ReduceOp.AVG]
    return [op for op in ReduceOp if dtype is not torch.bool or op is not ReduceOp.AVG]
