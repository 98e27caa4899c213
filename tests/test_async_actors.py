"""
Graphs over actors with `async def` methods, with concurrency groups and with several threads.
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


@ray.remote(num_cpus=0, concurrency_groups={"io": 2})
class Server:
    """An async actor."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.log = []

    async def where(self, value):
        return value, threading.current_thread().name, id(asyncio.get_running_loop())

    @ray.method(concurrency_group="io")
    async def where_io(self, value):
        return value, threading.current_thread().name, id(asyncio.get_running_loop())

    def plain(self, value):
        return value + 1

    async def slow_if_even(self, value):
        self.log.append(("begin", value))
        for _ in range(20 if value % 2 == 0 else 1):
            await asyncio.sleep(0)
        self.log.append(("end", value))
        return value

    async def wait(self, value):
        await self.gate.wait()
        return value

    async def open(self):
        self.gate.set()

    async def read_log(self):
        return self.log

    async def fail(self, value):
        raise KeyError(value)

    async def exit(self, value):
        raise SystemExit(value)

    @ray.method(num_returns=2)
    async def split(self, value):
        return value, -value

    async def through(self, other, value):
        return await other.echo.remote(value)

    async def astream(self, value):
        yield value

    def stream(self, value):
        yield value


@ray.remote(num_cpus=0, max_concurrency=4, concurrency_groups={"one": 1})
class Threaded:
    """An actor with several threads."""

    def __init__(self):
        self.barrier = threading.Barrier(3)

    def meet(self, value):
        self.barrier.wait(60)
        return value

    @ray.method(concurrency_group="one")
    def echo(self, value):
        return value


def test_an_async_method_runs_on_the_actors_own_loop():
    server = Server.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([server.where.bind(inp), server.where_io.bind(inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1)) == ray.get([server.where.remote(1), server.where_io.remote(1)])


def test_async_and_plain_methods_of_one_actor():
    server = Server.remote()
    with InputNode() as inp:
        dag = server.plain.bind(server.slow_if_even.bind(server.plain.bind(inp)))
    with cgc.compile(dag) as graph:
        assert ray.get([graph.execute(i) for i in range(5)]) == [i + 2 for i in range(5)]


def test_pipelined_executions_keep_their_order():
    server, other = Server.remote(), Server.remote()
    with InputNode() as inp:
        dag = other.slow_if_even.bind(server.slow_if_even.bind(inp))
    with cgc.compile(dag) as graph:
        refs = [graph.execute(i) for i in range(8)]
        assert ray.get(refs) == list(range(8))
        for actor in (server, other):
            log = ray.get(actor.read_log.remote())
            assert log == [(what, i) for i in range(8) for what in ("begin", "end")]


def test_a_waiting_coroutine_of_the_graph_leaves_the_actor_free():
    server = Server.remote()
    with InputNode() as inp:
        dag = server.wait.bind(inp)
    with cgc.compile(dag) as graph:
        refs = [graph.execute(i) for i in range(3)]
        assert ray.get(server.plain.remote(1)) == 2
        with pytest.raises(ray.exceptions.RayChannelTimeoutError, match="wait"):
            ray.get(refs[0], timeout=0.05)
        ray.get(server.open.remote())
        assert ray.get(refs) == [0, 1, 2]


def test_several_results_and_awaiting_other_actors():
    server, threaded = Server.remote(), Threaded.remote()
    with InputNode() as inp:
        positive, negative = server.split.bind(inp)
        dag = MultiOutputNode([negative, positive, server.through.bind(threaded, inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(3)) == [-3, 3, 3]


def test_an_exception_of_a_coroutine_is_that_executions_error():
    server = Server.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([server.fail.bind(inp), server.plain.bind(inp)])
    with cgc.compile(dag) as graph:
        for _ in range(2):
            failed, good = graph.execute(1)
            assert ray.get(good) == 2
            with pytest.raises(KeyError) as caught:
                ray.get(failed)
            text = str(caught.value)
            assert "in fail" in text
            assert "Server.fail" in text
            assert "cgc/runtime" not in text


def test_an_async_method_may_end_its_actor():
    server = Server.remote()
    with InputNode() as inp:
        dag = server.exit.bind(inp)
    with cgc.compile(dag) as graph:
        with pytest.raises(ray.exceptions.ActorDiedError, match=r"Server\.exit|exit_actor"):
            ray.get(graph.execute(0))


@pytest.mark.parametrize("method", ["stream", "astream"])
def test_generators_are_refused_when_compiling(method):
    """`bind` of a real actor's generator is an error of Ray's own, unless the user says how many results it has."""
    server = Server.remote()
    message = rf"test_async_actors\.py:\d+: Server\.{method} is a generator"
    with InputNode() as inp:
        dag = getattr(server, method).options(num_returns=1).bind(inp)
    with pytest.raises(RuntimeError, match=message):
        cgc.compile(dag)
    assert ray.get(server.plain.remote(1)) == 2
    with InputNode() as inp:
        dag = getattr(cgc.abstract_actor(Server), method).bind(inp)
    with pytest.raises(cgc.GraphError, match=message):
        cgc.lower(dag)


def test_an_actor_with_several_threads():
    """The graph's call meets two calls of Ray's own: all three run at once."""
    threaded = Threaded.remote()
    with InputNode() as inp:
        dag = threaded.echo.bind(threaded.meet.bind(inp))
    with cgc.compile(dag) as graph:
        calls = [threaded.meet.remote(i) for i in range(2)]
        assert ray.get(graph.execute(2), timeout=60) == 2
        assert ray.get(calls) == [0, 1]
