"""Compiled graphs with collectives over gloo and through shared memory: values, errors, streams, deaths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError
from ray.experimental.channel.cpu_communicator import CPUCommunicator
from ray.experimental.collective import allgather, allreduce, reducescatter
from ray.experimental.util.types import ReduceOp

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator
from tests.runtime.communicators.told_actors import (
    DEADLINE,
    WAYS,
    Actor,
    Gate,
    compile_edge,
    eventually_left,
    failure,
    raise_value_error,
)

Way = Callable[[list[Any]], Any]


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Gives the `transport` of collectives of some actors."""
    return WAYS[request.param]


def compile_collective(actors: list[Any], bind: Callable[..., Any], transport: Any, **options: Any) -> Any:
    with InputNode() as inp:
        values = [actor.apply.bind(inp[rank]) for rank, actor in enumerate(actors)]
        results = bind(values, transport=transport, **options)
        return cgc.compile(MultiOutputNode([a.look.bind(r) for a, r in zip(actors, results, strict=True)]))


@pytest.mark.parametrize("op", list(ReduceOp))
def test_reductions_equal_numpy(actors: list[Any], way: Way, op: ReduceOp) -> None:
    left, right = torch.tensor([[1.0, 5.0], [2.0, 8.0]]), torch.tensor([[3.0, 2.0], [2.0, 4.0]])
    stacked = np.stack([left.numpy(), right.numpy()])
    names = {ReduceOp.SUM: "sum", ReduceOp.PRODUCT: "prod", ReduceOp.MAX: "max", ReduceOp.MIN: "min"}
    expected = getattr(stacked, names.get(op, "mean"))(0)
    transport = way(actors)
    with compile_collective(actors, allreduce.bind, transport, op=op) as graph:
        for result in ray.get(graph.execute(lambda: left, lambda: right)):
            assert result[2] == expected.tolist()
    with compile_collective(actors, reducescatter.bind, transport, op=op) as graph:
        results = ray.get(graph.execute(lambda: left, lambda: right))
        assert [result[2] for result in results] == [[expected[0].tolist()], [expected[1].tolist()]]


def test_allgather_joins_in_the_order_of_the_participants(actors: list[Any], way: Way) -> None:
    with compile_collective(actors, allgather.bind, way(actors)) as graph:
        for length in (1, 3):
            refs = graph.execute(lambda n=length: torch.zeros(n), lambda n=length: torch.ones(n))
            assert [result[2] for result in ray.get(refs)] == [[0.0] * length + [1.0] * length] * 2


def test_several_tensors_in_one_allreduce(actors: list[Any], way: Way) -> None:
    with InputNode() as inp:
        ones = [actor.apply.bind(inp[0]) for actor in actors]
        twos = [actor.apply.bind(inp[1]) for actor in actors]
        reduced = allreduce.bind([ones, twos], transport=way(actors))
        looked = [a.look.bind(t) for a, tensors in zip(actors, reduced, strict=True) for t in tensors]
        dag = MultiOutputNode(looked)
    with cgc.compile(dag) as graph:
        results = ray.get(graph.execute(lambda: torch.ones(2, 2), lambda: torch.full((3,), 2.0)))
        assert [result[2] for result in results] == [[[2.0, 2.0], [2.0, 2.0]], [4.0, 4.0, 4.0]] * 2


@pytest.mark.parametrize(
    ("bind", "left", "right", "text"),
    [
        (allreduce.bind, lambda: torch.ones(2), raise_value_error, "spilt"),
        (
            allreduce.bind,
            lambda: torch.ones(2),
            lambda: torch.ones(3),
            "tensors differ: @Actor_0 gives float32[2], @Actor_1 gives float32[3]",
        ),
        (allgather.bind, lambda: torch.ones(2), lambda: torch.ones(2).int(), "@Actor_1 gives int32[2]"),
        (allreduce.bind, lambda: "text", lambda: torch.ones(3), "takes tensors, and @Actor_0 gives a str"),
        (reducescatter.bind, lambda: torch.ones(3), lambda: torch.ones(3), "divisible by 2; @Actor_0 gives float32[3]"),
        (
            allreduce.bind,
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.eye(3),
            "dense tensors, and @Actor_0 gives a sparse_coo",
        ),
        (
            allreduce.bind,
            lambda: torch.nested.nested_tensor([torch.ones(2)]),
            lambda: torch.ones(2),
            "gives a nested one",
        ),
        (allgather.bind, lambda: torch.tensor(1), lambda: torch.tensor(1), "gives a scalar"),
    ],
)
def test_a_bad_part_of_a_collective_is_an_error_for_all(
    actors: list[Any], way: Way, bind: Any, left: Any, right: Any, text: str
) -> None:
    with compile_collective(actors, bind, way(actors)) as graph:
        for ref in graph.execute(left, right):
            assert text in str(failure(ref))
        good = graph.execute(lambda: torch.ones(2), lambda: torch.ones(2))
        assert [result[2][0] for result in ray.get(good)] in ([2.0, 2.0], [1.0, 1.0])


def test_a_reduction_that_makes_no_sense_is_told(actors: list[Any], way: Way) -> None:
    with compile_collective(actors, allreduce.bind, way(actors), op=ReduceOp.MAX) as graph:
        ref, _ = graph.execute(lambda: torch.tensor([1j]), lambda: torch.tensor([1j]))
        assert "MAX needs an order" in str(failure(ref))


def test_rays_own_communicator_works(actors: list[Any]) -> None:
    with compile_collective(actors, allreduce.bind, CPUCommunicator(2, actors)) as graph:
        refs = graph.execute(lambda: torch.ones(2), lambda: torch.full((2,), 2.0))
        assert [result[2] for result in ray.get(refs, timeout=DEADLINE)] == [[3.0, 3.0]] * 2


def test_a_death_inside_a_collective_frees_the_others(actors: list[Any], way: Way) -> None:
    survivor, victim = actors[0], Actor.remote()
    with compile_collective([survivor, victim], allreduce.bind, way([survivor, victim])) as graph:
        assert ray.get(graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)))[0][2] == [2.0]
        refs = graph.execute(lambda: torch.ones(1), lambda: __import__("os")._exit(1))
        assert isinstance(failure(refs[0]), ActorDiedError)
    eventually_left(survivor)
    partner = actors[1]
    with compile_edge([survivor, partner]) as graph:
        assert ray.get(graph.execute(lambda: torch.ones(1)))[2] == [1.0]


def test_one_communicator_serves_two_graphs_at_once(actors: list[Any]) -> None:
    communicator = GlooCommunicator(actors)
    outer = compile_collective(actors, allreduce.bind, communicator)
    with compile_collective(actors, allreduce.bind, communicator) as inner:
        pending = [graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)) for graph in (outer, inner) * 3]
        assert [ray.get(refs)[0][2] for refs in pending] == [[2.0]] * 6
    assert ray.get(outer.execute(lambda: torch.ones(1), lambda: torch.ones(1)))[0][2] == [2.0]
    outer.teardown()


def test_an_actor_computes_while_its_collective_waits_for_others(actors: list[Any], way: Way) -> None:
    """The second actor brings its part only when the first has gone on: by what happens, not by time."""
    first, second = actors
    with InputNode() as inp:
        parts = [first.apply.bind(inp[0]), second.apply.bind(inp[1])]
        sums = allreduce.bind(parts, transport=way(actors))
        beside = first.apply.bind(inp[2])
        joined = [first.look.bind([sums[0], sums[0]]), second.look.bind(sums[1])]
        dag = MultiOutputNode([*joined, beside])
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        assert "on stream 3" in str(graph.programs["Actor_0"])
        for number in range(3):
            gate = Gate.remote()
            refs = graph.execute(
                lambda: torch.ones(2),
                lambda gate=gate: (ray.get(gate.wait.remote()), torch.ones(2))[1],
                lambda gate=gate, number=number: (ray.get(gate.open.remote()), number)[1],
            )
            results = ray.get(refs, timeout=DEADLINE)
            assert [results[0][0][2], results[1][2], results[2]] == [[2.0, 2.0], [2.0, 2.0], number]
        refs = graph.execute(raise_value_error, lambda: torch.ones(2), lambda: 5)
        assert "spilt" in str(failure(refs[0]))
        assert "spilt" in str(failure(refs[1]))
        assert ray.get(refs[2], timeout=DEADLINE) == 5


def test_several_collectives_on_a_stream_keep_their_order(actors: list[Any], way: Way) -> None:
    transport = way(actors)
    with InputNode() as inp:
        sums = []
        for number in range(3):
            parts = [actor.apply.bind(inp[number]) for actor in actors]
            sums.append(allreduce.bind(parts, transport=transport))
        last = allgather.bind(
            [actor.make.bind(value) for actor, value in zip(actors, sums[0], strict=True)], transport=transport
        )
        dag = MultiOutputNode(
            [actor.look.bind(s) for each in (*sums, last) for actor, s in zip(actors, each, strict=True)]
        )
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        pending = [
            graph.execute(*(lambda n=n, step=step: torch.full((n + 1,), step) for n in range(3))) for step in range(5)
        ]
        for step, refs in enumerate(pending):
            results = [result[2] for result in ray.get(refs, timeout=DEADLINE)]
            wanted = [[2 * step] * (n + 1) for n in range(3)] + [[2 * step] * 2]
            assert results == [each for each in wanted for _ in actors]


def test_a_death_inside_a_collective_on_a_stream_is_told(actors: list[Any], way: Way) -> None:
    survivor, victim = actors[0], Actor.remote()
    with InputNode() as inp:
        parts = [survivor.apply.bind(inp[0]), victim.apply.bind(inp[1])]
        sums = allreduce.bind(parts, transport=way([survivor, victim]))
        beside = survivor.apply.bind(inp[0])
        dag = MultiOutputNode([survivor.look.bind(sums[0]), victim.look.bind(sums[1]), beside])
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        assert "on stream 3" in str(graph.programs["Actor_0"])
        assert ray.get(graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)), timeout=DEADLINE)[0][2] == [2.0]
        refs = graph.execute(lambda: torch.ones(1), lambda: __import__("os")._exit(1))
        assert isinstance(failure(refs[0]), ActorDiedError)
    eventually_left(survivor)
