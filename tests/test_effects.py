"""
Outputs that are inputs, calls that take nothing, and calls whose results nobody uses, on real actors.
"""

from __future__ import annotations

import asyncio
import threading

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self):
        self.calls = []
        self.gate = threading.Event()

    def echo(self, value):
        return value

    def count(self, step=1):
        self.calls.append(step)
        return len(self.calls)

    def log(self, value):
        self.calls.append(value)
        return threading.Lock()  # what an effect returns need not be sendable

    @ray.method(num_returns=0)
    def log_nothing(self, value):
        self.calls.append(value)

    @ray.method(num_returns=2)
    def log_two(self, value):
        self.calls.append(value)
        return value, value

    def log_odd(self, value):
        if value % 2 == 0:
            raise ValueError(f"{value} is even")
        self.calls.append(value)

    def wait(self, value):
        self.gate.wait()
        return value

    def open(self):
        self.gate.set()

    def read_calls(self):
        return self.calls


def test_the_input_as_an_output():
    a = Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([inp, a.echo.bind(inp), inp])
    with cgc.compile(dag) as graph:
        value = {"k": [1]}
        first, echoed, again = ray.get(graph.execute(value))
        assert first is value
        assert again is value
        assert echoed == value
        refs = [graph.execute(i) for i in range(10)]
        assert [ray.get(ref[0]) for ref in refs] == list(range(10))
        assert [ray.get(ref[1]) for ref in refs] == list(range(10))


def test_parts_of_the_input_as_outputs():
    a = Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([inp.key, a.echo.bind(inp[0]), inp[1]])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute("zero", "one", key="k")) == ["k", "zero", "one"]


def test_the_same_node_as_output_twice():
    a = Worker.remote()
    with InputNode() as inp:
        x = a.echo.bind(inp)
        dag = MultiOutputNode([x, x, a.count.bind(x), x])
    with cgc.compile(dag) as graph:
        for i in range(3):
            assert ray.get(graph.execute(i)) == [i, i, i + 1, i]


def test_a_call_of_constants_runs_once_per_execution():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([a.count.bind(), b.count.bind("b"), b.echo.bind(inp)])
    with cgc.compile(dag, max_inflight_executions=4) as graph:
        for i in range(1, 4):
            assert ray.get(graph.execute(i)) == [i, i, i]
        refs = [graph.execute(i) for i in range(4, 8)]
        assert ray.get(refs[-1]) == [7, 7, 7]
        assert [len(calls) for calls in ray.get([a.read_calls.remote(), b.read_calls.remote()])] == [7, 7]


def test_an_actor_without_input_does_not_run_before_the_first_execution():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        dag = b.echo.bind([a.count.bind(5), inp])
    with cgc.compile(dag) as graph:
        started = ray.get(a.__ray_call__.remote(lambda self: [t.name for t in threading.enumerate()]))
        assert any(graph.get_id() in name for name in started)
        assert ray.get(a.read_calls.remote()) == []
        assert ray.get(graph.execute("x")) == [1, "x"]


def test_leaf_nodes_run_for_their_effect():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        x = a.echo.bind(inp)
        b.log.bind(x)
        b.log_nothing.bind(inp)
        a.log_two.bind(x)
        dag = a.echo.bind(x)
    with cgc.compile(dag, allow_leaf_nodes=True) as graph:
        assert ray.get([graph.execute(i) for i in range(4)]) == [0, 1, 2, 3]
        assert ray.get(b.read_calls.remote()) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert ray.get(a.read_calls.remote()) == [0, 1, 2, 3]


def test_the_error_of_a_leaf_is_raised_by_every_output():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        b.log_odd.bind(inp)
        dag = MultiOutputNode([a.echo.bind(inp), inp])
    with cgc.compile(dag, allow_leaf_nodes=True) as graph:
        assert ray.get(graph.execute(1)) == [1, 1]
        for ref in graph.execute(2):
            with pytest.raises(ValueError, match="2 is even") as caught:
                ray.get(ref)
            assert "log_odd" in str(caught.value)
        assert ray.get(graph.execute(3)) == [3, 3]


def test_outputs_wait_for_leaf_calls():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        b.wait.bind(inp)
        dag = a.echo.bind(inp)
    with cgc.compile(dag, allow_leaf_nodes=True) as graph:
        ref = graph.execute(1)
        with pytest.raises(ray.exceptions.RayChannelTimeoutError, match="wait"):
            ray.get(ref, timeout=0.05)
        ray.get(b.open.remote())
        assert ray.get(ref, timeout=60) == 1


def test_a_graph_of_effects_only():
    a = Worker.remote()
    with InputNode() as inp:
        a.log.bind(inp[0])
        dag = MultiOutputNode([inp[1]])
    with cgc.compile(dag, allow_leaf_nodes=True, max_inflight_executions=3) as graph:
        for i in range(10):
            assert ray.get(graph.execute(i, -i)) == [-i]
        for i in range(10):
            graph.execute(i, 0)  # refs that are dropped
        assert ray.get(graph.execute(10, 11)) == [11]
        assert ray.get(a.read_calls.remote()) == [*range(10), *range(11)]


def test_effects_with_asyncio():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        b.log_odd.bind(inp)
        dag = MultiOutputNode([a.echo.bind(inp), inp])

    async def run(graph):
        good = await graph.execute_async(1)
        assert [await future for future in good] == [1, 1]
        for future in await graph.execute_async(2):
            with pytest.raises(ValueError, match="2 is even"):
                await future
        assert await asyncio.gather(*await graph.execute_async(3)) == [3, 3]

    with cgc.compile(dag, allow_leaf_nodes=True, enable_asyncio=True) as graph:
        asyncio.run(run(graph))
    assert ray.get(b.read_calls.remote()) == [1, 3]


def test_a_leaf_that_dies_ends_the_graph():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        b.wait.bind(inp)
        dag = a.echo.bind(inp)
    with cgc.compile(dag, allow_leaf_nodes=True) as graph:
        ref = graph.execute(1)
        ray.kill(b)
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(ref, timeout=60)


def test_leaf_nodes_are_refused_unless_allowed():
    a = Worker.remote()
    with InputNode() as inp:
        a.log_nothing.bind(inp)
        dag = a.echo.bind(inp)
    with pytest.raises(cgc.GraphError, match=r"test_effects\.py:\d+: .*log_nothing is not used.*allow_leaf_nodes=True"):
        cgc.compile(dag)
