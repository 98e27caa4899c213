"""Whether a tensor may be overwritten: only if nobody could tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce

import cgc
from cgc.runtime.communicators.landing import REUSE_FROM, LandingPool
from cgc.runtime.communicators.ownership import MAX_LOANS, Loans, is_only_here
from tests.runtime.communicators.told_actors import WAYS

DEADLINE = 60.0

kept: list[Any] = []


def held(make: Callable[[], tuple[torch.Tensor, Any]]) -> list[torch.Tensor]:
    """A list with the tensor; what else `make` gives stays alive."""
    tensor, other = make()
    kept.append(other)
    return [tensor]


def with_view() -> tuple[torch.Tensor, Any]:
    tensor = torch.ones(4)
    return tensor, tensor[:2]


def with_numpy() -> tuple[torch.Tensor, Any]:
    tensor = torch.ones(4)
    return tensor, tensor.numpy()


def over_numpy() -> tuple[torch.Tensor, Any]:
    array = np.ones(4)
    return torch.from_numpy(array), array


def saved_by_autograd() -> tuple[torch.Tensor, Any]:
    tensor = torch.ones(4)
    return tensor, torch.ones(4, requires_grad=True) * tensor


def gradient_of_a_parameter() -> tuple[torch.Tensor, Any]:
    parameter = torch.nn.Parameter(torch.ones(4))
    parameter.sum().backward()
    assert parameter.grad is not None
    return parameter.grad, parameter


def with_storage() -> tuple[torch.Tensor, Any]:
    tensor = torch.ones(4)
    return tensor, tensor.untyped_storage()


def with_dlpack() -> tuple[torch.Tensor, Any]:
    tensor = torch.ones(4)
    return tensor, torch.utils.dlpack.to_dlpack(tensor)


def landed_and_seen_by_numpy() -> tuple[torch.Tensor, Any]:
    tensor = LandingPool().empty((REUSE_FROM,), torch.uint8)
    return tensor, tensor.numpy()


def part_of_what_landed() -> tuple[torch.Tensor, Any]:
    tensor = LandingPool().empty((REUSE_FROM,), torch.uint8)
    return tensor[:100], tensor


def not_contiguous() -> tuple[torch.Tensor, Any]:
    return torch.ones(4, 2).t(), None


@pytest.mark.parametrize(
    "make",
    [
        with_view,
        with_numpy,
        over_numpy,
        saved_by_autograd,
        gradient_of_a_parameter,
        with_storage,
        with_dlpack,
        landed_and_seen_by_numpy,
        part_of_what_landed,
        not_contiguous,
        lambda: (torch.ones(4, requires_grad=True), None),
        lambda: (torch.nn.Parameter(torch.ones(4)), None),
        lambda: (torch.ones(4, dtype=torch.complex64).conj(), None),
        lambda: (np.ones(4), None),
    ],
)
def test_what_somebody_else_can_see_is_not_ours(make: Callable[[], tuple[torch.Tensor, Any]]) -> None:
    assert not is_only_here(held(make), 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(4),
        lambda: torch.ones(4, requires_grad=True).detach().clone(),
        lambda: torch.ones(2, 3) * 2,
        lambda: LandingPool().empty((REUSE_FROM,), torch.uint8),
    ],
)
def test_what_nobody_else_can_see_is_ours(make: Callable[[], torch.Tensor]) -> None:
    values = [make()]
    alone = is_only_here(values, 0)
    name = values[0]
    shared = is_only_here(values, 0)
    del name
    assert (alone, shared, is_only_here(values, 0)) == (True, False, True)


def test_lent_memory_is_the_same_and_not_in_use() -> None:
    loans, values = Loans(), [torch.tensor([[0, 1, 2], [3, 4, 5.0]])]
    flat = loans.lend(values[0], torch.float32)
    octets = loans.lend(values[0], torch.uint8)
    assert is_only_here(values, 0)
    assert loans.lend(values[0], torch.float32) is flat
    flat[4] = 7
    assert values[0].tolist() == [[0, 1, 2], [3, 7, 5]]
    assert octets.tolist() == list(values[0].numpy().tobytes())


def test_few_loans_are_kept() -> None:
    loans, others = Loans(), [torch.ones(n + 1) for n in range(MAX_LOANS)]
    first = loans.lend(others[0], torch.float32)
    for other in others:
        loans.lend(other, torch.float32)
    assert loans.lend(others[0], torch.float32) is first
    loans.lend(torch.ones(100), torch.float32)
    assert loans.lend(others[0], torch.float32) is not first


@ray.remote(num_cpus=0)
class Rank:
    def __init__(self) -> None:
        self.state = torch.ones(300_000)

    def fresh(self, value: float) -> torch.Tensor:
        made = torch.full((300_000,), value)
        self.address = made.data_ptr()
        return made

    def own(self, value: float) -> torch.Tensor:
        return self.state

    def is_in_place(self, total: torch.Tensor) -> tuple[bool, float]:
        return total.data_ptr() == self.address, float(total[-1])

    def look(self, total: torch.Tensor) -> tuple[float, float]:
        return float(total[-1]), float(self.state.sum()) / 300_000

    def sums(self, total: torch.Tensor, part: torch.Tensor) -> tuple[float, float]:
        return float(total[-1]), float(part[-1])


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_reduction_takes_memory_that_is_free_and_no_other(ray_session: None, way: str, streams: bool) -> None:
    ranks = [Rank.remote() for _ in range(2)]
    communicator = WAYS[way](ranks)
    with InputNode() as inp:
        fresh = [rank.fresh.bind(inp) for rank in ranks]
        used = [rank.fresh.bind(inp) for rank in ranks]
        own = [rank.own.bind(inp) for rank in ranks]
        totals = [allreduce.bind(parts, transport=communicator) for parts in (own, used, fresh)]
        outputs = [rank.look.bind(total) for rank, total in zip(ranks, totals[0], strict=True)]
        outputs += [rank.sums.bind(total, part) for rank, total, part in zip(ranks, totals[1], used, strict=True)]
        outputs += [rank.look.bind(total) for rank, total in zip(ranks, totals[2], strict=True)]
        dag = MultiOutputNode(outputs)
    with cgc.compile(dag, overlap_gpu_communication=streams) as graph:
        for value in (1.0, 2.0):
            results = ray.get(graph.execute(value), timeout=DEADLINE)
            assert results[:2] == [(2.0, 1.0)] * 2  # the actors' own tensor is as it was
            assert results[2:4] == [(2 * value, value)] * 2  # and so is one that is used afterwards
            assert results[4:] == [(2 * value, 1.0)] * 2
    with InputNode() as inp:
        totals = [allreduce.bind([rank.fresh.bind(inp) for rank in ranks], transport=communicator)]
        dag = MultiOutputNode([rank.is_in_place.bind(total) for rank, total in zip(ranks, totals[0], strict=True)])
    with cgc.compile(dag, overlap_gpu_communication=streams) as graph:
        for value in (1.0, 2.0):
            assert ray.get(graph.execute(value), timeout=DEADLINE) == [(True, 2 * value)] * 2
