"""Collectives that fall silent: nobody is told what everybody expects, and whatever else is brought is heard by all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allgather, allreduce, reducescatter

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from cgc.runtime.communicators.gloo import GlooCommunicator

RANKS = 3
DEADLINE = 60.0
EQUAL = SILENT_AFTER + 3
"""Executions after which a collective is silent, and has been so for some."""

Make = Callable[[], Any]


@ray.remote(num_cpus=0)
class Actor:
    def make(self, makes: list[Make], rank: int) -> Any:
        return makes[rank]()

    def look(self, *values: torch.Tensor) -> list[Any]:
        return [(str(value.dtype), value.tolist()) for value in values]


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(RANKS)]


def compile_collectives(actors: list[Any], *binds: Any, **options: Any) -> Any:
    """One collective after the other over what the actors make of the graph's inputs, and one look for each actor."""
    communicator = GlooCommunicator(actors)
    with InputNode() as inp:
        results = [
            bind([actor.make.bind(inp[number], rank) for rank, actor in enumerate(actors)], transport=communicator)
            for number, bind in enumerate(binds)
        ]
        looks = [actor.look.bind(*mine) for actor, mine in zip(actors, zip(*results, strict=True), strict=True)]
        return cgc.compile(MultiOutputNode(looks), **options)


def filled(*values: float, count: int = 3, dtype: torch.dtype = torch.float32) -> list[Make]:
    """What makes the tensor of each rank: `count` times its value."""
    return [lambda value=value: torch.full((count,), value, dtype=dtype) for value in values]


def fail() -> torch.Tensor:
    raise ValueError("spilt")


def results_of(refs: list[Any]) -> list[Any]:
    return ray.get(refs, timeout=DEADLINE)


def failures_of(refs: list[Any]) -> list[str]:
    told = []
    for ref in refs:
        with pytest.raises(Exception) as error:  # noqa: PT011  the caller looks at it
            ray.get(ref, timeout=DEADLINE)
        told.append(str(error.value))
    return told


def summed(total: float, count: int = 3, dtype: str = "torch.float32") -> list[Any]:
    """What all actors see."""
    return [[(dtype, [total] * count)]] * RANKS


@pytest.mark.parametrize("streams", [False, True])
def test_a_silent_collective_hears_of_all_that_is_not_expected(actors: list[Any], streams: bool) -> None:
    with compile_collectives(actors, allreduce.bind, overlap_gpu_communication=streams) as graph:
        for _ in range(2):
            for number in range(EQUAL):
                assert results_of(graph.execute(filled(1, 2, number))) == summed(3 + number)
            one_fails = [*filled(1, 2), fail]
            together = [graph.execute(makes) for makes in (one_fails, filled(1, 2, 3), [fail] * RANKS)]
            assert all("spilt" in told for told in failures_of(together[0]))
            assert results_of(together[1]) == summed(6)
            assert all("spilt" in told for told in failures_of(together[2]))

            for number in range(EQUAL):
                assert results_of(graph.execute(filled(1, 2, number))) == summed(3 + number)
            one_differs = [*filled(1, count=5), *filled(1, 1)]
            for told in failures_of(graph.execute(one_differs)):
                assert "@Actor_0 gives float32[5], @Actor_1 gives float32[3], @Actor_2 gives float32[3]" in told
            assert results_of(graph.execute(filled(1, 2, 3))) == summed(6)


def test_all_may_change_alike_at_any_time(actors: list[Any]) -> None:
    with compile_collectives(actors, allreduce.bind) as graph:
        for number in range(EQUAL):
            assert results_of(graph.execute(filled(1, 2, number))) == summed(3 + number)
        assert results_of(graph.execute(filled(1, 2, 3, count=2))) == summed(6, 2)
        assert results_of(graph.execute(filled(1, 2, 4))) == summed(7)
        for number in range(EQUAL):
            makes = filled(1, 2, number, count=4, dtype=torch.int64)
            assert results_of(graph.execute(makes)) == summed(3 + number, 4, "torch.int64")
        assert results_of(graph.execute(filled(1, 2, 3, count=0))) == summed(0, 0)


def test_silent_and_other_collectives_take_turns_on_the_rings(actors: list[Any]) -> None:
    """The first one is silent, the others change with each execution; executions are pipelined."""
    with compile_collectives(actors, allreduce.bind, allgather.bind, reducescatter.bind) as graph:
        for first in range(4 * EQUAL):
            count = 1 + first % 4
            inputs = filled(first, 1, 2), filled(0, 1, 2, count=count), filled(1, first, 2, count=RANKS * count)
            broken = first % 7 == 6 and first > EQUAL
            if broken:
                inputs = (inputs[0], [inputs[1][0], fail, inputs[1][2]], inputs[2])
            refs = graph.execute(*inputs)
            if broken:
                assert all("spilt" in told for told in failures_of(refs))
                continue
            total, gathered, scattered = results_of(refs)[0]
            assert total[1] == [3.0 + first] * 3
            assert gathered[1] == [float(rank) for rank in range(RANKS) for _ in range(count)]
            assert scattered[1] == [3.0 + first] * count
