"""What collectives make of the participants' arrays, for the adversarial device's communicators, and on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from ray.experimental.util.types import ReduceOp

Combine = Callable[[Sequence[np.ndarray[Any, Any]]], np.ndarray[Any, Any]]
"""Makes one rank's result of the arrays of all ranks, in their order."""

_STEPS: dict[ReduceOp, Callable[..., Any]] = {
    ReduceOp.SUM: np.add,
    ReduceOp.PRODUCT: np.multiply,
    ReduceOp.MAX: np.maximum,
    ReduceOp.MIN: np.minimum,
}


def gathered(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate(parts)


def reduced(op: ReduceOp) -> Combine:
    """From the first rank to the last."""
    return lambda parts: reduce(_STEPS[op], parts)


def scattered(op: ReduceOp, rank: int) -> Combine:
    return lambda parts: np.split(reduce(_STEPS[op], parts), len(parts))[rank]
