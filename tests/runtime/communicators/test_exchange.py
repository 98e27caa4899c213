"""Two actors that cross tensors as one group over gloo: values, sizes, promises, errors, deaths, teardown."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError, RayChannelError

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from cgc.runtime.program import Group
from tests.runtime.communicators.told_actors import DEADLINE, eventually_left

LARGE = 8 << 20
"""Bytes; no socket buffer has room for so many, so that neither side could send before the other one receives."""


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

    def measure(self, value: torch.Tensor) -> tuple[int, float, float]:
        """(elements, least, largest)"""
        return value.numel(), float(value.min()), float(value.max())

    def keys(self) -> tuple[str, ...]:
        from cgc.runtime.communicators.registry import REGISTRY

        return REGISTRY.keys


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


def compile_crossing(actors: list[Any], look: str = "look", **hint: Any) -> Any:
    """Driver → apply on both → what each makes to the other, as one group → look on both → driver."""
    a, b = actors
    with InputNode() as inp:
        x, y = (
            actor.apply.bind(inp[number]).with_tensor_transport(transport="accelerator", **hint)
            for number, actor in enumerate(actors)
        )
        dag = MultiOutputNode([getattr(a, look).bind(y), getattr(b, look).bind(x)])
    graph = cgc.compile(dag, default_communicator="gloo")
    for name in ("Actor_0", "Actor_1"):
        assert sum(isinstance(operation, Group) for operation in graph.programs[name].operations) == 1
    return graph


def get(refs: list[Any]) -> list[Any]:
    found: list[Any] = ray.get(refs, timeout=DEADLINE)
    return found


def told(value: Any) -> tuple[str, Any]:
    return "torch.int64", value


def fails(ref: Any, kind: type[Exception], text: str | None = None) -> None:
    with pytest.raises(kind, match=text):
        ray.get(ref, timeout=DEADLINE)


@pytest.mark.parametrize("promised", [False, True])
def test_large_tensors_cross(actors: list[Any], promised: bool) -> None:
    count = LARGE // 4
    with compile_crossing(actors, "measure", _static_shape=promised, _direct_return=promised) as graph:
        for step in range(SILENT_AFTER + 4):
            refs = graph.execute(
                lambda step=step: torch.full((count,), float(step)), lambda step=step: torch.full((count,), -step - 0.5)
            )
            assert get(refs) == [(count, -step - 0.5, -step - 0.5), (count, float(step), float(step))]


def test_each_direction_has_values_of_its_own(actors: list[Any]) -> None:
    """Several tensors, none, no elements, and shapes that change, in flight at once."""
    makes: list[tuple[Callable[[], Any], Any]] = [
        (lambda: torch.arange(3), told([0, 1, 2])),
        (lambda: {"x": torch.arange(2), "y": torch.arange(1)}, {"x": told([0, 1]), "y": told([0])}),
        (lambda: torch.empty(0, dtype=torch.int64), told([])),
        (lambda: "no tensor", "no tensor"),
        (lambda: torch.arange(1 << 18)[-1:], told([(1 << 18) - 1])),
    ]
    with compile_crossing(actors) as graph:
        pending = []
        for step in range(10):
            (one, first), (other, second) = makes[step % 5], makes[(3 * step + 1) % 5]
            pending.append((graph.execute(one, other), [second, first]))
        for refs, expected in pending:
            assert get(refs) == expected


@pytest.mark.parametrize("promised", [False, True])
def test_an_error_takes_the_place_of_its_value_alone(actors: list[Any], promised: bool) -> None:
    good, bad = (lambda: torch.arange(2)), (lambda: [][0])
    with compile_crossing(actors, _static_shape=promised, _direct_return=promised) as graph:
        for rounds in (1, SILENT_AFTER + 2):  # with and without a header before the tensors
            for _ in range(rounds):
                assert get(graph.execute(good, good)) == [told([0, 1])] * 2
            of_a, of_b = graph.execute(bad, good)
            assert ray.get(of_a, timeout=DEADLINE) == told([0, 1])
            fails(of_b, IndexError)
            of_a, of_b = graph.execute(good, bad)
            fails(of_a, IndexError)
            assert ray.get(of_b, timeout=DEADLINE) == told([0, 1])
            for ref in graph.execute(bad, bad):
                fails(ref, IndexError)
        assert get(graph.execute(good, good)) == [told([0, 1])] * 2


def test_a_value_that_cannot_be_sent_is_an_error_at_its_reader(actors: list[Any]) -> None:
    def unsendable() -> Any:
        import threading

        return {"x": torch.arange(2), "lock": threading.Lock()}

    with compile_crossing(actors) as graph:
        for _ in range(SILENT_AFTER + 2):
            of_a, of_b = graph.execute(unsendable, lambda: torch.arange(2))
            assert ray.get(of_a, timeout=DEADLINE) == told([0, 1])
            fails(of_b, TypeError, r"the result of call apply on @Actor_0 .*cannot be sent")
        assert get(graph.execute(lambda: torch.arange(1), lambda: torch.arange(2))) == [told([0, 1]), told([0])]


def test_a_broken_promise_is_an_error_of_one_direction(actors: list[Any]) -> None:
    good = lambda: torch.arange(2)  # noqa: E731
    with compile_crossing(actors, _static_shape=True, _direct_return=True) as graph:
        for _ in range(3):
            assert get(graph.execute(good, good)) == [told([0, 1])] * 2
            of_a, of_b = graph.execute(good, lambda: torch.arange(1 << 20))
            fails(of_a, ValueError, "promised to keep its shape")
            assert ray.get(of_b, timeout=DEADLINE) == told([0, 1])
        assert get(graph.execute(good, good)) == [told([0, 1])] * 2


@pytest.mark.parametrize("promised", [False, True])
def test_a_death_within_a_group_frees_the_other(actors: list[Any], promised: bool) -> None:
    """The victim dies while the other has begun the group and waits in it: in the ring, or in the communicator."""
    mortal = Actor.remote()
    good = lambda: torch.arange(2)  # noqa: E731
    with compile_crossing([actors[0], mortal], _static_shape=promised, _direct_return=promised) as graph:
        assert get(graph.execute(good, good)) == [told([0, 1])] * 2
        for ref in graph.execute(good, lambda: os._exit(1)):
            fails(ref, ActorDiedError)
    eventually_left(actors[0])
    with compile_crossing(actors) as graph:
        assert get(graph.execute(good, good)) == [told([0, 1])] * 2


@pytest.mark.parametrize("promised", [False, True])
def test_teardown_wakes_who_waits_in_a_group(actors: list[Any], promised: bool, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    good = lambda: torch.arange(2)  # noqa: E731

    def late() -> Any:
        while not gate.exists():
            time.sleep(0.01)
        return torch.arange(2)

    graph = compile_crossing(actors, _static_shape=promised, _direct_return=promised)
    assert get(graph.execute(good, good)) == [told([0, 1])] * 2
    refs = graph.execute(good, late)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(graph.teardown)  # which waits for the method that runs
        fails(refs[0], RayChannelError)
        gate.touch()
        ended.result(DEADLINE)
    for actor in actors:
        eventually_left(actor)
