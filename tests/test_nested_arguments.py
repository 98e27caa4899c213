"""
Nodes within lists, tuples, dicts, named tuples and dataclasses, on real actors.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


@dataclasses.dataclass
class Batch:
    left: Any
    right: Any = None
    label: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any
    scale: int = 2


class Pair(NamedTuple):
    one: Any
    two: Any


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self):
        self.seen = []

    def add(self, value, other=0):
        return value + other

    def show(self, *args, **kwargs):
        return args, kwargs

    def keep_and_change(self, values):
        values.append("changed")
        self.seen.append(values)
        return [list(seen) for seen in self.seen]

    def same(self, pair):
        return pair[0] is pair[1]

    def fail(self, value):
        raise KeyError(value)

    @ray.method(num_returns=2)
    def split(self, value):
        return value, -value


@pytest.fixture(scope="module")
def workers(ray_session):
    return [Worker.remote() for _ in range(2)]


def test_every_kind_of_container(workers):
    a, b = workers
    with InputNode() as inp:
        x, y = a.add.bind(inp, 1), b.add.bind(inp, 2)
        dag = a.show.bind([x, 0], (y,), {"x": x, 1: y}, batch=Batch(x, label="b"), frozen=Frozen(y), pair=Pair(1, x))
    with cgc.compile(dag) as graph:
        for i in range(3):
            x, y = i + 1, i + 2
            args, kwargs = ray.get(graph.execute(i))
            assert args == ([x, 0], (y,), {"x": x, 1: y})
            assert kwargs == {"batch": Batch(x, None, "b"), "frozen": Frozen(y, 2), "pair": Pair(1, x)}


def test_deep_nesting(workers):
    a, b = workers
    with InputNode() as inp:
        nested: Any = a.add.bind(inp)
        for level in range(12):
            nested = ([nested], (level, nested), {"k": nested}, Batch(nested))[level % 4]
        dag = b.show.bind(nested)
    with cgc.compile(dag) as graph:
        expected: Any = 7
        for level in range(12):
            expected = ([expected], (level, expected), {"k": expected}, Batch(expected))[level % 4]
        assert ray.get(graph.execute(7)) == ((expected,), {})


def test_the_same_node_twice_is_sent_once(workers):
    a, b = workers
    with InputNode() as inp:
        x = a.add.bind(inp)
        dag = b.same.bind([x, x])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(np.zeros(3)))
        assert len([op for op in graph.programs["driver"].operations if str(op).startswith("write")]) == 1


def test_parts_of_the_input_and_one_of_several_results(workers):
    a, b = workers
    with InputNode() as inp:
        _, negative = a.split.bind(inp[0])
        dag = MultiOutputNode([b.show.bind({"n": negative, "k": [inp.key]}), a.add.bind(inp.key)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(3, key=4)) == [(({"n": -3, "k": [4]},), {}), 4]


def test_each_execution_has_containers_of_its_own(workers):
    a, _ = workers
    with InputNode() as inp:
        dag = a.keep_and_change.bind([a.add.bind(inp), "constant"])
    with cgc.compile(dag) as graph:
        for i in range(3):
            assert ray.get(graph.execute(i)) == [[k, "constant", "changed"] for k in range(i + 1)]


def test_an_error_within_a_container_is_the_calls_error(workers):
    a, b = workers
    with InputNode() as inp:
        dag = MultiOutputNode([b.show.bind([{"x": a.fail.bind(inp)}]), b.show.bind([inp])])
    with cgc.compile(dag) as graph:
        failed, good = graph.execute("x")
        with pytest.raises(KeyError):
            ray.get(failed)
        assert ray.get(good) == ((["x"],), {})


def test_drawing_shows_nodes_within_containers(workers):
    a, b = workers
    with InputNode() as inp:
        dag = b.show.bind([a.add.bind(inp)], other={"k": inp})
    with cgc.compile(dag) as graph:
        assert graph.visualize(format="dot").count("->") == 4


def test_a_node_in_a_set_is_refused_and_nobody_is_touched(workers):
    a, b = workers
    with InputNode() as inp:
        dag = b.show.bind({a.add.bind(inp)})
    with pytest.raises(cgc.GraphError, match=r"test_nested_arguments\.py:\d+: Worker\.show: .*set with a node in it"):
        cgc.compile(dag)
    assert ray.get(b.add.remote(1)) == 1
