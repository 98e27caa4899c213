"""Messages that take turns on one channel, on real actors: large and small ones, kept and pipelined."""

import numpy as np
import pytest
import ray
from ray.dag import InputNode

import cgc
from cgc.runtime.program import Write

pytestmark = pytest.mark.usefixtures("ray_session")

HOPS = 8
IN_FLIGHT = 5


@ray.remote
class Keeper:
    """Adds one, and keeps what it was given, so that its memory is not free."""

    def __init__(self):
        self.kept = []

    def step(self, array, size):
        assert (array == array[0]).all(), "the array was overwritten while it travelled"
        self.kept = [*self.kept[-20:], (array, float(array[0]))]
        for kept, value in self.kept:
            assert (kept == value).all(), "a kept array was overwritten"
        return np.full(size, array[0] + 1)


def test_kept_and_pipelined_arrays_stay_what_they_are():
    actors = [Keeper.remote(), Keeper.remote()]
    sizes = [1, 10_000, 3, 200_000, 600, 50_000, 1, 1_000]
    with InputNode() as inp:
        node = inp
        for hop, size in enumerate(sizes):
            node = actors[hop % 2].step.bind(node, size)
    with cgc.compile(node, max_inflight_executions=IN_FLIGHT) as graph:
        for program in graph.programs.values():
            writes = [op.channel for op in program.operations if isinstance(op, Write)]
            assert len(set(writes)) < len(writes) or len(writes) == 1
        refs = []
        for number in range(60):
            if len(refs) == IN_FLIGHT:
                expected, ref = refs.pop(0)
                assert ray.get(ref)[0] == expected
            refs.append((number * 100.0 + len(sizes), graph.execute(np.full(7, number * 100.0))))
        for expected, ref in refs:
            assert ray.get(ref)[0] == expected


def test_errors_travel_on_a_shared_channel():
    actors = [Keeper.remote(), Keeper.remote()]
    with InputNode() as inp:
        node = inp
        for hop in range(HOPS):
            node = actors[hop % 2].step.bind(node, 5)
    with cgc.compile(node) as graph:
        with pytest.raises(AssertionError, match="overwritten while it travelled"):
            ray.get(graph.execute(np.arange(3.0)))
        assert ray.get(graph.execute(np.zeros(3)))[0] == HOPS
