"""Random graphs on real actors: what comes out is what the graph says, with executions pipelined."""

import dataclasses
import random
from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session")

NAMES = "abcd"
IN_FLIGHT = 5


@ray.remote
class Node:
    """Its results say who made them and from what."""

    def __init__(self, name):
        self.name = name

    def call(self, results, *args):
        made = [(self.name, number, args) for number in range(results)]
        return made[0] if results == 1 else tuple(made)


@ray.remote
class AsyncNode:
    """The same with a coroutine."""

    def __init__(self, name):
        self.name = name

    async def call(self, results, *args):
        made = [(self.name, number, args) for number in range(results)]
        return made[0] if results == 1 else tuple(made)


@ray.remote(num_cpus=0)
def function(results, *args):
    return ("function", 0, args)


@dataclasses.dataclass
class Box:
    value: Any
    label: str = "box"


@pytest.fixture(scope="module")
def actors():
    """Four actors by name."""
    return {name: Node.remote(name) for name in NAMES}


@pytest.fixture(scope="module")
def kinds(actors):
    """The same with coroutines, and a remote function."""
    return {**{name: AsyncNode.remote(name) for name in "ab"}, "c": actors["c"], "d": actors["d"], "function": function}


class _RandomGraph:
    """A graph, and its outputs as functions of the two inputs; `beyond` has what Ray's Compiled Graph refuses, too."""

    def __init__(self, seed, actors, beyond=False):
        self.rng = rng = random.Random(seed)
        self.actors = actors
        self.beyond = beyond
        self.by_part = rng.random() < 0.5
        with InputNode() as inp:
            inputs = [(inp[0], lambda x: x[0]), (inp.k, lambda x: x[1])] if self.by_part else [(inp, lambda x: x[0])]
            values = list(inputs)
            used = set()
            for number in range(rng.randint(len(inputs), 25)):
                taken = [number] if number < len(inputs) else [rng.randrange(len(values))]
                taken += [rng.randrange(len(values)) for _ in range(rng.randint(0, 2))]
                if beyond and number >= len(inputs) and rng.random() < 0.2:
                    taken = []
                used.update(taken)
                values += self._call([self._argument(*values[place]) for place in taken])
            outputs = [values[place] for place in range(len(inputs), len(values)) if place not in used]
            if beyond:
                outputs += rng.sample(values, 2)  # inputs among them, and values twice
            self.dag = MultiOutputNode([node for node, _ in outputs])
            self.functions = [function for _, function in outputs]

    def _argument(self, node, value):
        """The node, or a container with it."""
        wrap = self.rng.choice(WRAPS) if self.beyond else WRAPS[0]
        return wrap(node), lambda x: wrap(value(x))

    def _call(self, arguments):
        name, results = self.rng.choice(sorted(self.actors)), self.rng.choice([1, 1, 1, 2, 3])
        given = [argument for argument, _ in arguments]
        if name == "function":
            results, nodes = 1, self.actors[name].bind(1, *given)
        else:
            nodes = self.actors[name].call.options(num_returns=results).bind(results, *given)

        def result(number):
            return lambda x: (name, number, tuple(function(x) for _, function in arguments))

        return [(node, result(number)) for number, node in enumerate([nodes] if results == 1 else nodes)]

    def expected(self, x):
        return [function(x) for function in self.functions]

    def execute(self, graph, x):
        return graph.execute(x[0], k=x[1]) if self.by_part else graph.execute(x[0])


WRAPS = (
    lambda value: value,
    lambda value: [value, 0],
    lambda value: (1, value),
    lambda value: {"key": value},
    lambda value: Box([value]),
)


def _assert_results(random_graph, graph):
    for start in (0, IN_FLIGHT):
        inputs = [(number, str(number)) for number in range(start, start + IN_FLIGHT)]
        refs = [random_graph.execute(graph, x) for x in inputs]
        assert [[ray.get(ref) for ref in each] for each in refs] == [random_graph.expected(x) for x in inputs]


@pytest.mark.parametrize("seed", range(12))
def test_results_are_what_the_graph_says(seed, actors):
    random_graph = _RandomGraph(seed, actors)
    with cgc.compile(random_graph.dag, max_inflight_executions=IN_FLIGHT) as graph:
        _assert_results(random_graph, graph)


@pytest.mark.parametrize("seed", range(10))
def test_so_they_are_for_what_ray_refuses(seed, kinds):
    """Coroutines, remote functions, containers, calls of constants, and inputs as outputs."""
    random_graph = _RandomGraph(seed, kinds, beyond=True)
    with cgc.compile(random_graph.dag, max_inflight_executions=IN_FLIGHT, share_hosts=True) as graph:
        _assert_results(random_graph, graph)
