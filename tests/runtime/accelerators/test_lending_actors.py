"""Real actors that share one adversarial device: tensors are lent, held until they are given back, and freed then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.runtime.accelerators import base, lending
from cgc.runtime.accelerators.keeper import KEEPER
from tests.runtime.accelerators.adversary import AdversarialArray
from tests.runtime.accelerators.post import driver_device
from tests.runtime.accelerators.sharing import SharingDevice
from tests.runtime.accelerators.world import World

DEADLINE = 60.0
SHAPE = (3, 4)


class Half:
    """An actor with its process's view of the one device."""

    def __init__(self, seed: int) -> None:
        self.device = SharingDevice(World(seed, autonomous=True))
        base.register(self.device)
        base.assign("adversary", ["0"])
        self.kept: list[Any] = []

    def make(self, value: float) -> Any:
        return {"array": self.device.put(np.full(SHAPE, float(value))), "text": "beside", "more": [np.arange(3)]}

    def bare(self, value: float) -> Any:
        return self.device.put(np.full(SHAPE, float(value)))

    def double(self, value: Any) -> Any:
        if isinstance(value, AdversarialArray):
            return value * 2.0
        assert isinstance(value["array"], AdversarialArray), value
        return {**value, "array": value["array"] * 2.0}

    def is_lent(self, value: Any) -> bool:
        return value["array"].loan is not None

    def keep(self, value: Any) -> int:
        self.kept.append(value["array"])
        return len(self.kept)

    def read_kept(self) -> list[float]:
        """The values of what was kept, each read from the device."""
        found = []
        for array in self.kept:
            values = self.device.read(array)
            assert (values == values[0, 0]).all(), values
            found.append(float(values[0, 0]))
        return found

    def drop_kept(self) -> None:
        self.kept.clear()

    def churn(self) -> None:
        """Use all memory again that is free."""
        arrays = [self.device.put(np.full(SHAPE, -5.0)) for _ in range(50)]
        self.device.read(arrays[-1])

    def unfinished(self) -> int:
        return KEEPER.unfinished

    def openings(self) -> tuple[int, int]:
        return self.device.mapped, self.device.unmapped

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def halves(ray_session: None) -> Iterator[list[Any]]:
    base.register(driver_device())
    made = [ray.remote(num_cpus=0)(Half).remote(seed) for seed in range(3)]
    yield made
    for actor in made:  # their worlds turn all the time
        ray.kill(actor)


def until(actor: Any, unfinished: int) -> None:
    """Wait until an actor has so many ends of channels left from graphs that have ended."""
    deadline = time.monotonic() + DEADLINE
    while ray.get(actor.unfinished.remote(), timeout=DEADLINE) != unfinished:
        assert time.monotonic() < deadline, "what was lent is not given back"


def kept_by(owner: Any, reader: Any) -> Any:
    with InputNode() as inp:
        return reader.keep.bind(owner.make.bind(inp).with_tensor_transport())


def test_values_are_lent_to_several_readers_by_one_message(halves: list[Any]) -> None:
    first, *others = halves
    with InputNode() as inp:
        made = first.make.bind(inp).with_tensor_transport()
        bare = first.bare.bind(inp).with_tensor_transport()
        doubled = [other.double.bind(made) for other in others]
        dag = MultiOutputNode([*doubled, others[0].is_lent.bind(made), others[1].double.bind(bare)])
    with cgc.compile(dag) as graph:
        lent = {c for program in graph.programs.values() for c in program.channels if c.returns}
        assert sorted(len(channel.readers) for channel in lent) == [1, 2]
        for start in range(0, 60, 6):
            refs = [graph.execute(float(value)) for value in range(start, start + 6)]
            for value, each in enumerate(refs, start=start):
                one, two, is_lent, last = ray.get(each, timeout=DEADLINE)
                for result in (one["array"], two["array"], last):
                    np.testing.assert_array_equal(result, np.full(SHAPE, 2.0 * value))
                assert one["text"] == "beside"
                np.testing.assert_array_equal(one["more"][0], np.arange(3))
                assert is_lent
        mapped, _ = ray.get(others[0].openings.remote())
        assert mapped == 1
    for actor in halves:
        until(actor, 0)
    assert ray.get(others[0].openings.remote()) == (1, 1)


def test_an_error_travels_and_the_next_execution_is_right(halves: list[Any]) -> None:
    first, second, _ = halves
    with InputNode() as inp:
        dag = second.double.bind(first.make.bind(inp).with_tensor_transport())
    with cgc.compile(dag) as graph:
        for value in (1.0, "no number", 2.0):
            ref = graph.execute(value)
            if isinstance(value, str):
                with pytest.raises(ValueError, match="no number"):
                    ray.get(ref, timeout=DEADLINE)
            else:
                np.testing.assert_array_equal(ray.get(ref, timeout=DEADLINE)["array"], np.full(SHAPE, 2 * value))


def test_what_a_reader_keeps_stays_as_it_was_however_much(halves: list[Any]) -> None:
    owner, reader, _ = halves
    count = 3 * lending.MOST_KEPT
    with cgc.compile(kept_by(owner, reader)) as graph:
        for value in range(count):
            assert ray.get(graph.execute(float(value)), timeout=DEADLINE) == value + 1
        ray.get(owner.churn.remote())
        assert ray.get(reader.read_kept.remote(), timeout=DEADLINE) == [float(value) for value in range(count)]


def test_what_is_kept_beyond_the_end_of_the_graph_is_held_and_given_back_then(halves: list[Any]) -> None:
    owner, reader, _ = halves
    with cgc.compile(kept_by(owner, reader)) as graph:
        for value in range(5):
            ray.get(graph.execute(float(value)), timeout=DEADLINE)
    until(owner, 1)
    ray.get(owner.churn.remote())
    assert ray.get(reader.read_kept.remote(), timeout=DEADLINE) == [0.0, 1.0, 2.0, 3.0, 4.0]
    ray.get(reader.drop_kept.remote())
    until(reader, 0)
    until(owner, 0)
    with cgc.compile(kept_by(owner, reader)) as graph:  # and both can take part in another one
        assert ray.get(graph.execute(7.0), timeout=DEADLINE) == 1


def test_teardown_while_messages_are_under_way_gives_everything_back(halves: list[Any]) -> None:
    owner, reader, _ = halves
    with InputNode() as inp:
        dag = reader.double.bind(owner.make.bind(inp).with_tensor_transport())
    graph = cgc.compile(dag)
    refs = [graph.execute(float(value)) for value in range(8)]
    np.testing.assert_array_equal(ray.get(refs[0], timeout=DEADLINE)["array"], np.zeros(SHAPE))
    graph.teardown()
    until(reader, 0)
    until(owner, 0)


@pytest.mark.parametrize("dying", ["owner", "reader"])
def test_a_death_frees_what_was_lent(halves: list[Any], dying: str) -> None:
    owner, reader, other = halves
    graph = cgc.compile(kept_by(owner, reader))
    ray.get(graph.execute(1.0), timeout=DEADLINE)
    dead, alive = (owner, reader) if dying == "owner" else (reader, owner)
    os.kill(ray.get(dead.pid.remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(graph.execute(2.0), timeout=DEADLINE)
    graph.teardown()
    if dying == "owner":
        assert ray.get(alive.read_kept.remote(), timeout=DEADLINE) == [1.0]
        ray.get(alive.drop_kept.remote())
    until(alive, 0)
    again = kept_by(alive, other)
    with cgc.compile(again) as graph:
        assert ray.get(graph.execute(3.0), timeout=DEADLINE) == 1
        assert ray.get(other.read_kept.remote(), timeout=DEADLINE) == [3.0]
