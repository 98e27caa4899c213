"""One value for three actors as one broadcast over gloo: values, promises, errors, streams, deaths."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from tests.runtime.communicators.told_actors import DEADLINE, eventually_left

PIPELINE = (
    "verify-graph,anchor-calls,infer-types,place-devices,pair-comm{broadcast},overlap-comm,allocate-channels,"
    "verify-schedule,emit-programs"
)
STREAMS = PIPELINE.replace("overlap-comm", "overlap-comm{streams}")


@ray.remote(num_cpus=0)
class Actor:
    """Does what it is told."""

    def apply(self, function: Callable[[], Any]) -> Any:
        return function()

    def look(self, value: Any) -> Any:
        """The value as the driver can compare it."""
        if isinstance(value, dict):
            return {key: self.look(item) for key, item in value.items()}
        return (str(value.dtype), value.tolist()) if isinstance(value, torch.Tensor) else value

    def keys(self) -> tuple[str, ...]:
        from cgc.runtime.communicators.registry import REGISTRY

        return REGISTRY.keys


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(4)]


def compile_broadcast(actors: list[Any], pipeline: str = PIPELINE, **hint: Any) -> Any:
    """Driver → apply on the first → look on all others → driver, the edges in the middle as one broadcast."""
    first, *others = actors
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport="accelerator", **hint)
        dag = MultiOutputNode([other.look.bind(value) for other in others])
    return cgc.compile(dag, default_communicator="gloo", pipeline=pipeline)


def get(refs: list[Any]) -> list[Any]:
    found: list[Any] = ray.get(refs, timeout=DEADLINE)
    return found


def test_the_sender_writes_once_in_a_communicator_of_exactly_the_ends(actors: list[Any]) -> None:
    with compile_broadcast(actors) as graph:
        program = graph.programs["Actor_0"]
        (sent,) = [channel for channel in program.channels if channel.communicator]
        assert sent.readers == ("Actor_1", "Actor_2", "Actor_3")
        (group,) = program.communicators
        assert group.actors == ("Actor_0", "Actor_1", "Actor_2", "Actor_3")


@pytest.mark.parametrize("static", [False, True])
def test_values_arrive_as_they_were(actors: list[Any], static: bool) -> None:
    with compile_broadcast(actors, _static_shape=static) as graph:
        for step in range(SILENT_AFTER + 4):
            refs = graph.execute(lambda step=step: torch.full((2, 3), step))
            assert get(refs) == [("torch.int64", [[step] * 3] * 2)] * 3


def test_shapes_may_change_and_values_have_several_tensors_or_none(actors: list[Any]) -> None:
    makes: list[tuple[Callable[[], Any], Any]] = [
        (lambda: torch.ones(3), ("torch.float32", [1.0] * 3)),
        (lambda: {"x": torch.zeros(2), "y": torch.arange(2)}, None),
        (lambda: torch.empty(0), ("torch.float32", [])),
        (lambda: "no tensor", "no tensor"),
        (lambda: torch.ones(1 << 18, requires_grad=True)[:1], ("torch.float32", [1.0])),
    ]
    with compile_broadcast(actors) as graph:
        pending = [(graph.execute(make), expected) for make, expected in makes * 2]
        for refs, expected in pending:
            told = get(refs)
            assert told == [expected or {"x": ("torch.float32", [0.0, 0.0]), "y": ("torch.int64", [0, 1])}] * 3


@pytest.mark.parametrize("pipeline", [PIPELINE, STREAMS])
@pytest.mark.parametrize("promised", [False, True])
def test_an_error_reaches_all_and_the_graph_goes_on(actors: list[Any], pipeline: str, promised: bool) -> None:
    with compile_broadcast(actors, pipeline, _static_shape=promised, _direct_return=promised) as graph:
        for _ in range(SILENT_AFTER + 2):  # with and without a header before the tensor
            assert get(graph.execute(lambda: torch.ones(2))) == [("torch.float32", [1.0, 1.0])] * 3
            for ref in graph.execute(lambda: [][0]):
                with pytest.raises(IndexError):
                    ray.get(ref, timeout=DEADLINE)
        for _ in range(SILENT_AFTER + 2):
            assert get(graph.execute(lambda: torch.ones(2))) == [("torch.float32", [1.0, 1.0])] * 3
        for ref in graph.execute(lambda: [][0]):
            with pytest.raises(IndexError):
                ray.get(ref, timeout=DEADLINE)
        assert get(graph.execute(lambda: torch.zeros(2))) == [("torch.float32", [0.0, 0.0])] * 3


def test_two_senders_share_one_communicator_on_streams(actors: list[Any]) -> None:
    """Each sends to all others, which take the broadcasts in one order because a single stream has them all."""
    with InputNode() as inp:
        values = [
            actor.apply.bind(inp[n]).with_tensor_transport(transport="accelerator")
            for n, actor in enumerate(actors[:2])
        ]
        told = [actor.look.bind(value) for value in values for actor in actors]
        dag = MultiOutputNode(told)
    with cgc.compile(dag, default_communicator="gloo", pipeline=STREAMS) as graph:
        assert {spec.name for program in graph.programs.values() for spec in program.communicators} == {"gloo0"}
        assert "on stream 3" in str(graph.programs["Actor_0"])
        pending = [graph.execute(lambda s=s: torch.tensor(s), lambda s=s: torch.tensor(-s)) for s in range(10)]
        for step, refs in enumerate(pending):
            assert [number for _, number in get(refs)] == [step] * 4 + [-step] * 4


@pytest.mark.parametrize("victim", [0, 2])
def test_a_death_frees_the_others(actors: list[Any], victim: int) -> None:
    mortal = [*actors]
    mortal[victim] = Actor.remote()
    others = [actor for actor in mortal if actor is not mortal[victim]]
    with compile_broadcast(mortal, _static_shape=True, _direct_return=True) as graph:
        assert len(get(graph.execute(lambda: torch.ones(2)))) == 3
        if victim == 0:
            refs = graph.execute(lambda: os._exit(1))
        else:
            ray.kill(mortal[victim])
            refs = graph.execute(lambda: torch.ones(2))
        with pytest.raises(ActorDiedError):
            ray.get(refs[1], timeout=DEADLINE)
    for actor in others:
        eventually_left(actor)
    with compile_broadcast(actors) as graph:
        assert get(graph.execute(lambda: torch.ones(1))) == [("torch.float32", [1.0])] * 3
