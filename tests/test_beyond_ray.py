"""
Where cgc does better than Ray's Compiled Graph: each test is a line of `docs/ray-differences.md`.
"""

from __future__ import annotations

import asyncio
import gc
import threading

import numpy as np
import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")

LIMIT = 8 << 20


@ray.remote
class Worker:
    def __init__(self):
        self.gate = threading.Event()

    def echo(self, value):
        return value

    def zeros(self, count):
        return np.zeros(count, dtype=np.uint8)

    def length(self, value):
        return len(value)

    def wait(self, value):
        self.gate.wait()
        return value

    def open(self):
        self.gate.set()

    def odd(self, value):
        if value % 2 == 0:
            raise ValueError(f"{value} is even")
        return value

    def fail_oddly(self, _):
        class OddError(Exception):
            def __init__(self, one, two):
                super().__init__(f"{one} and {two}")

        raise OddError("left", "right")


@pytest.fixture(scope="module")
def workers(ray_session):
    return [Worker.remote() for _ in range(2)]


def test_a_ref_can_be_read_again_after_a_time_out(workers):
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.wait.bind(inp)
    with cgc.compile(dag) as graph:
        ref = graph.execute("late")
        for timeout in (0, 0.05):
            with pytest.raises(ray.exceptions.RayChannelTimeoutError, match=r"(Late|Waiting): @"):
                ray.get(ref, timeout=timeout)
        ray.get(a.open.remote())
        assert ray.get(ref, timeout=30) == "late"


def test_a_ref_can_be_read_again_after_the_buffer_was_full(workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with cgc.compile(dag, max_buffered_results=1) as graph:
        refs = [graph.execute(i) for i in range(3)]
        with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded):
            ray.get(refs[2])
        assert ray.get(refs) == [0, 1, 2]
        assert ray.get(graph.execute(4)) == 4


def test_an_output_does_not_wait_for_another_ones_actor(workers):
    slow = Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([slow.wait.bind(inp), workers[0].echo.bind(inp)])
    with cgc.compile(dag) as graph:
        late, early = graph.execute(1)
        assert ray.get(early, timeout=30) == 1
        ray.get(slow.open.remote())
        assert ray.get(late, timeout=30) == 1


def test_an_output_does_not_wait_for_another_ones_actor_with_asyncio(workers):
    slow = Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([slow.wait.bind(inp), workers[0].echo.bind(inp)])

    async def run(graph):
        pairs = [await graph.execute_async(i) for i in range(3)]
        assert [await asyncio.wait_for(early, 30) for _, early in pairs] == [0, 1, 2]
        assert not any(late._fut.done() for late, _ in pairs)
        await slow.open.remote()
        assert [await asyncio.wait_for(late, 30) for late, _ in pairs] == [0, 1, 2]

    with cgc.compile(dag, enable_asyncio=True) as graph:
        asyncio.run(run(graph))


def test_an_error_spoils_only_the_outputs_that_depend_on_it(workers):
    a, b = workers
    with InputNode() as inp:
        odd = a.odd.bind(inp)
        dag = MultiOutputNode([b.echo.bind(odd), b.echo.bind(inp), a.echo.bind(inp)])
    with cgc.compile(dag) as graph:
        spoilt, *good = graph.execute(2)
        assert ray.get(good) == [2, 2]
        with pytest.raises(ValueError, match="2 is even"):
            ray.get(spoilt)


def test_a_value_that_is_too_large_spoils_only_itself(workers):
    """Three results of one actor travel in one message; the memory limit refuses one of them."""
    a, b = workers
    with InputNode() as inp:
        large = a.zeros.bind(inp)
        dag = MultiOutputNode([a.echo.bind(inp), large, a.length.bind(large), b.echo.bind(inp)])
    with cgc.compile(dag, max_channel_bytes=LIMIT) as graph:
        for size in (10, 2 * LIMIT, 20):
            first, zeros, length, last = graph.execute(size)
            assert ray.get([first, length, last]) == [size, size, size]
            if size > LIMIT:
                with pytest.raises(MemoryError, match=r"zeros.*shared memory"):
                    ray.get(zeros)
            else:
                assert ray.get(zeros).nbytes == size


def test_a_limit_that_can_never_hold_a_message_does_not_wait_for_views(workers):
    with InputNode() as inp:
        dag = workers[0].zeros.bind(inp)
    with cgc.compile(dag, max_channel_bytes=LIMIT) as graph:
        held = ray.get(graph.execute(LIMIT // 4))
        with pytest.raises(MemoryError, match="shared memory"):
            ray.get(graph.execute(2 * LIMIT), timeout=30)
        assert held.nbytes == LIMIT // 4


def test_an_exception_whose_class_cannot_be_rebuilt_is_still_an_error(workers):
    with InputNode() as inp:
        dag = workers[0].fail_oddly.bind(inp)
    with cgc.compile(dag) as graph:
        with pytest.raises(ray.exceptions.RayError, match="left and right"):
            ray.get(graph.execute(1))


def test_actors_are_free_when_the_graph_is_collected(workers):
    for i in range(3):
        with InputNode() as inp:
            graph = cgc.compile(workers[1].echo.bind(workers[0].echo.bind(inp)))
        assert ray.get(graph.execute(i)) == i
        del graph, inp
        gc.collect()


def test_results_may_be_held_while_the_graph_goes_on_and_after_it(workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with cgc.compile(dag, max_inflight_executions=1) as graph:
        held = [ray.get(graph.execute(np.full(1 << 17, i))) for i in range(40)]
    assert [int(array[-1]) for array in held] == list(range(40))


def test_one_actor_in_several_graphs_at_once(workers):
    graphs = []
    for _ in range(3):
        with InputNode() as inp:
            graphs.append(cgc.compile(workers[1].echo.bind(workers[0].echo.bind(inp))))
    refs = [graph.execute((number, i)) for i in range(5) for number, graph in enumerate(graphs)]
    assert ray.get(refs) == [(number, i) for i in range(5) for number in range(3)]
    for graph in graphs:
        graph.teardown()


def test_every_execution_after_a_death_tells_of_it(ray_session):
    """Three executions after a kill, of which nobody has heard yet: each of their refs has the reason."""
    dying, other = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([dying.echo.bind(inp), other.echo.bind(inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(0)) == [0, 0]
        ray.kill(dying)
        refs = [ref for i in range(3) for ref in graph.execute(i)]
        while refs:
            with pytest.raises(ray.exceptions.ActorDiedError):
                ray.get(refs.pop(0), timeout=30)
        with pytest.raises(ray.exceptions.ActorDiedError):
            graph.execute(4)
