"""Random graphs on real actors: what comes out is what the graph says, with executions pipelined."""

import random

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


@pytest.fixture(scope="module")
def actors():
    """Four actors by name."""
    return {name: Node.remote(name) for name in NAMES}


class _RandomGraph:
    """A graph, and its outputs as functions of the two inputs."""

    def __init__(self, seed, actors):
        rng = random.Random(seed)
        self.by_part = rng.random() < 0.5
        self.functions = []
        with InputNode() as inp:
            inputs = [(inp[0], lambda x: x[0]), (inp.k, lambda x: x[1])] if self.by_part else [(inp, lambda x: x[0])]
            values = list(inputs)
            used = set()
            for number in range(rng.randint(len(inputs), 25)):
                taken = [number] if number < len(inputs) else [rng.randrange(len(values))]
                taken += [rng.randrange(len(values)) for _ in range(rng.randint(0, 2))]
                used.update(taken)
                values += self._call(rng, actors, [values[place] for place in taken])
            outputs = [values[place] for place in range(len(inputs), len(values)) if place not in used]
            self.dag = MultiOutputNode([node for node, _ in outputs])
            self.functions = [function for _, function in outputs]

    @staticmethod
    def _call(rng, actors, arguments):
        name, results = rng.choice(NAMES), rng.choice([1, 1, 1, 2, 3])
        nodes = actors[name].call.options(num_returns=results).bind(results, *[node for node, _ in arguments])

        def result(number):
            return lambda x: (name, number, tuple(function(x) for _, function in arguments))

        return [(node, result(number)) for number, node in enumerate([nodes] if results == 1 else nodes)]

    def expected(self, x):
        return [function(x) for function in self.functions]

    def execute(self, graph, x):
        return graph.execute(x[0], k=x[1]) if self.by_part else graph.execute(x[0])


@pytest.mark.parametrize("seed", range(12))
def test_results_are_what_the_graph_says(seed, actors):
    random_graph = _RandomGraph(seed, actors)
    with cgc.compile(random_graph.dag, max_inflight_executions=IN_FLIGHT) as graph:
        for start in (0, IN_FLIGHT):
            inputs = [(number, str(number)) for number in range(start, start + IN_FLIGHT)]
            refs = [random_graph.execute(graph, x) for x in inputs]
            assert [[ray.get(ref) for ref in each] for each in refs] == [random_graph.expected(x) for x in inputs]
