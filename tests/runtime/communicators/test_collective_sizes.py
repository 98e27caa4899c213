"""Collectives of 1 byte to 256 MiB, over gloo and through shared memory, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allgather, allreduce, reducescatter

import cgc
from tests.runtime.communicators.told_actors import WAYS

DEADLINE = 120.0
BINDS: dict[str, Callable[..., Any]] = {
    "allreduce": allreduce.bind,
    "allgather": allgather.bind,
    "reducescatter": reducescatter.bind,
}
SIZES = [1, 100, 4_095, 65_537, 1 << 20, (1 << 20) + 1, 16 << 20]
"""Bytes of a part; an actor brings two, so that a reduction can be cut."""
LARGE = [32 << 20, 128 << 20]


def octets(size: int, rank: int) -> np.ndarray[Any, Any]:
    """Numbers of which a sum of two fits into a byte."""
    return np.resize(np.arange(rank, rank + 100, dtype=np.uint8), 2 * size)


@ray.remote(num_cpus=0)
class Rank:
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def part(self, size: int) -> torch.Tensor:
        return torch.from_numpy(octets(size, self.rank))

    def is_right(self, kind: str, size: int, result: torch.Tensor) -> bool:
        parts = [octets(size, rank) for rank in range(2)]
        right = np.concatenate(parts) if kind == "allgather" else parts[0] + parts[1]
        if kind == "reducescatter":
            right = right[self.rank * size : (self.rank + 1) * size]
        return np.array_equal(result.numpy(), right)


@pytest.fixture(scope="module")
def ranks(ray_session: None) -> list[Any]:
    return [Rank.remote(rank) for rank in range(2)]


def compile_collective(ranks: list[Any], way: str, kind: str) -> Any:
    with InputNode() as size:
        results = BINDS[kind]([rank.part.bind(size) for rank in ranks], transport=WAYS[way](ranks))
        looked = [rank.is_right.bind(kind, size, result) for rank, result in zip(ranks, results, strict=True)]
        return cgc.compile(MultiOutputNode(looked))


@pytest.mark.parametrize("kind", BINDS)
@pytest.mark.parametrize("way", WAYS)
def test_every_size(ranks: list[Any], way: str, kind: str) -> None:
    with compile_collective(ranks, way, kind) as graph:
        for size in [*SIZES, *reversed(SIZES)]:
            assert ray.get(graph.execute(size), timeout=DEADLINE) == [True, True], size


@pytest.mark.slow
@pytest.mark.parametrize("kind", BINDS)
@pytest.mark.parametrize("way", WAYS)
def test_large_tensors(ranks: list[Any], way: str, kind: str) -> None:
    with compile_collective(ranks, way, kind) as graph:
        for size in [*LARGE, *LARGE]:
            assert ray.get(graph.execute(size), timeout=DEADLINE) == [True, True], size
