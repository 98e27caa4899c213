"""Reductions within one process, against NumPy."""

from __future__ import annotations

import pytest
import torch
from ray.experimental.util.types import ReduceOp

from cgc.runtime.communicators import fold
from tests.runtime.communicators.numpy_reference import DTYPES, as_numpy, assert_close, make, operations_of, reference


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_parts_are_reduced_as_numpy_does_it(dtype: torch.dtype, count: int) -> None:
    for op in operations_of(dtype):
        parts = [make(dtype, rank, 7) for rank in range(count)]
        before = [part.clone() for part in parts]
        result = fold.fold(parts, op)
        assert_close(as_numpy(result), reference([as_numpy(part) for part in before], op), dtype)
        assert all(map(torch.equal, parts, before)), "a part was written"
        for target, original in zip(parts[:2], before, strict=False):  # where the result may go
            fold.fold_into(target, parts, op)
            assert torch.equal(target, result), op
            target.copy_(original)


@pytest.mark.parametrize("op", [ReduceOp.MIN, ReduceOp.MAX])
def test_not_a_number_wins(op: ReduceOp) -> None:
    parts = [torch.tensor([1.0, float("nan")]), torch.tensor([float("nan"), 2.0]), torch.tensor([0.0, 0.0])]
    assert fold.fold(parts, op).isnan().all()


def test_averages_of_half_precision_do_not_overflow() -> None:
    assert fold.fold([torch.tensor([60_000.0], dtype=torch.float16)] * 3, ReduceOp.AVG).item() == 60_000.0


def test_averages_of_integers_are_cut_towards_zero() -> None:
    parts = [torch.tensor([7, -7], dtype=torch.int8), torch.tensor([0, 0], dtype=torch.int8)]
    assert fold.fold(parts, ReduceOp.AVG).tolist() == [3, -3]


@pytest.mark.parametrize(
    ("dtype", "op"),
    [(torch.complex64, ReduceOp.MIN), (torch.complex64, ReduceOp.MAX), (torch.bool, ReduceOp.AVG)],
)
def test_what_makes_no_sense_is_refused(dtype: torch.dtype, op: ReduceOp) -> None:
    with pytest.raises(TypeError, match=op.name):
        fold.fold([torch.zeros(2, dtype=dtype)] * 2, op)
