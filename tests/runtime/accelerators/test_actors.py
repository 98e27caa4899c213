"""Real actors with adversarial devices: the whole way from `cgc.compile` to the streams, in processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.runtime.accelerators import base
from cgc.runtime.program import DRIVER, Call, Program
from tests.runtime.accelerators.adversary import AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.machine import EXECUTIONS, ZOO, compiled, compute, expected, input_of
from tests.runtime.accelerators.post import driver_device
from tests.runtime.accelerators.world import World
from tests.runtime.core_peers import eventually

DEADLINE = 60.0
SEEDS = range(1, 1 + int(os.environ.get("CGC_TEST_SEEDS", "2")))
COUNT = 6
METHODS = sorted(
    {
        call.method
        for name in ZOO
        for each in compiled(name, False).values()
        for call in each.operations
        if isinstance(call, Call)
    }
)


class Arithmetic:
    """An actor of the zoo, by its name there."""

    world: World | None = None

    def reset(self, name: str, number: int, seed: int, counts: dict[str, int]) -> None:
        """Get a device in a new world; the old one stops."""
        if self.world is not None:
            self.world.stop()
        self.name = name
        self.counts = counts
        self.world = World(seed, autonomous=True)
        self.device = AdversarialDevice(self.world, number)
        base.register(self.device)
        base.assign("adversary", [str(number)])

    def make(self, value: float) -> Any:
        """An array on the device, in a value with something else."""
        return {"array": self.device.put(np.full((2, 2), float(value))), "text": "beside"}

    def make_large(self, value: float) -> Any:
        """An array that takes a segment of a channel."""
        return {"array": self.device.put(np.full((100, 100), float(value)))}

    def violations(self) -> list[str]:
        """Rules that were broken."""
        assert self.world is not None
        return self.world.violations

    def pinning(self) -> tuple[int, int, list[str]]:
        """Copies straight from and to channels, registrations now, and rules that were broken."""
        return self.device.straight, len(self.device.registered), self.world.violations if self.world else []

    def double(self, value: Any) -> Any:
        """Works for arrays of the device only."""
        assert isinstance(value["array"], AdversarialArray), value
        return {**value, "array": value["array"] * 2.0}

    def where(self, value: Any) -> str:
        return type(value["array"]).__name__


def _method(name: str) -> Any:
    def method(self: Arithmetic, *values: Any) -> Any:
        return compute(self.name, name, self.counts[name], values)

    method.__name__ = name
    return method


for _name in METHODS:
    setattr(Arithmetic, _name, _method(_name))


@pytest.fixture(scope="module")
def actors(ray_session: None) -> Iterator[list[Any]]:
    base.register(driver_device())
    made = [ray.remote(num_cpus=0)(Arithmetic).remote() for _ in range(COUNT)]
    yield made
    for actor in made:  # their worlds turn all the time
        ray.kill(actor)


def reset(actors: list[Any], counts: list[dict[str, int]], seed: int) -> None:
    ray.get([a.reset.remote(f"a{n}", n, seed + n, each) for n, (a, each) in enumerate(zip(actors, counts))])


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(actors: list[Any], name: str, streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class HintedInput(InputNode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.with_tensor_transport(device="gpu")

    zoo = sys.modules["zoo_graphs"]
    right = expected(name)
    on_paper = [program for actor, program in compiled(name, streams).items() if actor != DRIVER]
    counts = [_counts(program) for program in sorted(on_paper, key=lambda program: program.actor)]
    monkeypatch.setattr(zoo, "_actors", lambda count, _: actors[:count])
    monkeypatch.setattr(zoo, "InputNode", HintedInput)
    for seed in SEEDS:
        reset(actors, counts, COUNT * seed)
        run(name, streams, right)
        assert ray.get([actor.violations.remote() for actor in actors[: len(counts)]]) == [[]] * len(counts)


def run(name: str, streams: bool, right: list[list[np.ndarray]]) -> None:
    with cgc.compile(ZOO[name](), overlap_gpu_communication=streams) as graph:
        assert {program.device for actor, program in graph.programs.items() if actor != DRIVER} == {"adversary"}
        pending = [graph.execute(input_of(execution)) for execution in range(EXECUTIONS)]
        for refs, wanted in zip(pending, right, strict=True):
            arrived = ray.get(refs, timeout=DEADLINE)
            for value, each in zip(arrived if isinstance(refs, list) else [arrived], wanted, strict=True):
                np.testing.assert_array_equal(value, each)


def _counts(program: Program) -> dict[str, int]:
    return {call.method: len(call.into) for call in program.operations if isinstance(call, Call)}


@pytest.mark.parametrize(
    ("hint", "lands"),
    [
        ({}, "AdversarialArray"),
        ({"device": "gpu"}, "AdversarialArray"),
        ({"device": "cpu"}, "ndarray"),
        ({"device": "cpu", "transport": "shm"}, "ndarray"),
        ({"device": "gpu", "transport": "nccl"}, "AdversarialArray"),
    ],
)
def test_a_tensor_lands_where_the_hint_says(actors: list[Any], hint: dict[str, str], lands: str) -> None:
    reset(actors, [{}] * COUNT, seed=2)
    first, second = actors[:2]
    with InputNode() as inp:
        made = first.make.bind(inp)
        dag = second.where.bind(made.with_tensor_transport(**hint) if hint else made)
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1.0), timeout=DEADLINE) == lands


def test_shared_memory_takes_one_copy_and_gives_one_to_each_device(actors: list[Any]) -> None:
    reset(actors, [{}] * COUNT, seed=3)
    first, *others = actors[:4]
    with InputNode() as inp:
        made = first.make.bind(inp).with_tensor_transport("shm", device="gpu")
        dag = MultiOutputNode([other.double.bind(made) for other in others])
    with cgc.compile(dag) as graph:
        copies = {name: sum("copy" in str(o) for o in program.operations) for name, program in graph.programs.items()}
        assert sorted(copies.values()) == [0, 1, 1, 1, 1]
        for value in (1.0, 2.0, 3.0):
            for result in ray.get(graph.execute(value), timeout=DEADLINE):
                np.testing.assert_array_equal(result["array"], np.full((2, 2), 2 * value))
                assert result["text"] == "beside"


def test_an_error_travels_and_the_next_execution_is_right(actors: list[Any]) -> None:
    reset(actors, [{}] * COUNT, seed=4)
    first, second = actors[:2]
    with InputNode() as inp:
        made = first.make.bind(inp).with_tensor_transport("nccl")
        dag = second.double.bind(made)
    with cgc.compile(dag) as graph:
        for value in (1.0, "no number", 2.0):
            ref = graph.execute(value)
            if isinstance(value, str):
                with pytest.raises(Exception, match=r"could not convert string|invalid literal|no number"):
                    ray.get(ref, timeout=DEADLINE)
            else:
                np.testing.assert_array_equal(ray.get(ref, timeout=DEADLINE)["array"], np.full((2, 2), 2 * value))


def test_arrays_go_straight_from_device_to_channel_to_device(actors: list[Any]) -> None:
    reset(actors, [{}] * COUNT, seed=5)
    first, *others = actors[:3]
    with InputNode() as inp:
        plain = first.make_large.bind(inp)
        hinted = first.make_large.bind(inp).with_tensor_transport("shm", device="gpu")
        dag = MultiOutputNode([other.double.bind(each) for other in others for each in (plain, hinted)])
    with cgc.compile(dag) as graph:
        for value in range(20):
            for result in ray.get(graph.execute(float(value)), timeout=DEADLINE):
                np.testing.assert_array_equal(result["array"], np.full((100, 100), 2.0 * value))
        straight = [copies for copies, *_ in ray.get([actor.pinning.remote() for actor in (first, *others)])]
    assert straight == [40, 80, 80], "two off the first, two onto each other and two off it for the driver"

    def registrations() -> list[int]:
        found = ray.get([actor.pinning.remote() for actor in (first, *others)])
        assert [broken for *_, broken in found] == [[], [], []]
        return [number for _, number, _ in found]

    eventually(lambda: registrations() == [0, 0, 0], "the registrations have ended with the graph")
