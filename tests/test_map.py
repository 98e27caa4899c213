"""
`graph.map`: results in order, lazily taken inputs, exceptions of items and of inputs, an early end.
"""

from __future__ import annotations

import asyncio
import itertools
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
        self.calls.append(value)
        return value

    def add(self, left, right=0):
        return left + right

    def odd(self, value):
        if value % 2 == 0:
            raise ValueError(f"{value} is even")
        return value

    def wait(self, value):
        self.gate.wait()
        return value

    def open(self):
        self.gate.set()

    def read_calls(self):
        return self.calls


@pytest.fixture(scope="module")
def workers(ray_session):
    return [Worker.remote() for _ in range(2)]


@pytest.fixture(scope="module")
def chain(workers):
    with InputNode() as inp:
        return workers[1].echo.bind(workers[0].echo.bind(inp))


@pytest.fixture(scope="module")
def odd(workers):
    with InputNode() as inp:
        return workers[0].odd.bind(inp)


def collect(results):
    """Results and exceptions of all items."""
    collected = []
    while True:
        try:
            collected.append(next(results))
        except StopIteration:
            return collected
        except Exception as error:
            collected.append(type(getattr(error, "cause", error)))


async def collect_async(results):
    collected = []
    while True:
        try:
            collected.append(await results.__anext__())
        except StopAsyncIteration:
            return collected
        except Exception as error:
            collected.append(type(getattr(error, "cause", error)))


def test_results_come_in_order(chain):
    with cgc.compile(chain, max_inflight_executions=4) as graph:
        assert list(graph.map(range(50))) == list(range(50))
        assert list(graph.map([])) == []
        assert list(graph.map(iter("abc"), max_inflight=1)) == ["a", "b", "c"]


def test_several_inputs_and_several_outputs(workers):
    a, b = workers
    with InputNode() as inp:
        dag = MultiOutputNode([a.add.bind(inp[0], inp[1]), b.echo.bind(inp[1])])
    with cgc.compile(dag) as graph:
        assert list(graph.map([1, 2, 3], itertools.count(10))) == [[11, 10], [13, 11], [15, 12]]


@pytest.mark.parametrize("limit", [1, 3])
def test_inputs_are_taken_as_there_is_room(limit, chain):
    taken = []
    with cgc.compile(chain) as graph:
        results = graph.map((taken.append(i) or i for i in itertools.count()), max_inflight=limit)
        assert taken == []
        for i in range(5):
            assert next(results) == i
            assert len(taken) <= i + limit
        results.close()
        assert list(results) == []


def test_an_early_end_gives_up_what_is_in_flight(chain):
    with cgc.compile(chain, max_inflight_executions=3) as graph:
        for _ in range(4):
            for result in graph.map(itertools.count()):
                if result == 2:
                    break
        assert list(graph.map("xyz")) == ["x", "y", "z"]


def test_an_item_that_fails_raises_in_its_place(odd):
    with cgc.compile(odd, max_inflight_executions=3) as graph:
        assert collect(graph.map(range(6))) == [ValueError, 1, ValueError, 3, ValueError, 5]
        with pytest.raises(ValueError, match="0 is even"):
            list(graph.map(range(6)))


def test_an_item_that_cannot_be_sent_raises_in_its_place(chain):
    with cgc.compile(chain, max_inflight_executions=3) as graph:
        items = [1, threading.Lock(), 3]
        assert collect(graph.map(items)) == [1, TypeError, 3]
        assert collect(graph.map(items, items)) == [ValueError] * 3


def test_an_input_that_raises_ends_it_after_the_results_before(chain):
    def items():
        yield from range(3)
        raise KeyError("input")

    with cgc.compile(chain, max_inflight_executions=2) as graph:
        assert collect(graph.map(items())) == [0, 1, 2, KeyError]


def test_it_waits_for_room_that_others_take(chain):
    with cgc.compile(chain, max_inflight_executions=3) as graph:
        taken = [graph.execute("x") for _ in range(2)]
        results = graph.map(range(4))
        assert next(results) == 0
        taken.append(graph.execute("y"))
        assert next(results) == 1
        assert ray.get(taken) == ["x", "x", "y"]
        assert list(results) == [2, 3]
        taken = [graph.execute("x") for _ in range(3)]
        results = graph.map(range(2))
        with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded):
            next(results)
        assert ray.get(taken) == ["x"] * 3
        assert list(results) == [0, 1]


def test_a_time_out_can_be_waited_out():
    slow = Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([slow.echo.bind(inp), slow.wait.bind(inp)])
    with cgc.compile(dag) as graph:
        results = graph.map(range(2), timeout=0.05)
        for _ in range(2):
            with pytest.raises(ray.exceptions.RayChannelTimeoutError):
                next(results)
        ray.get(slow.open.remote())
        results._timeout = 60
        assert list(results) == [[0, 0], [1, 1]]


def test_a_death_is_raised_for_each_item_and_then_ends_it():
    dying = Worker.remote()
    with InputNode() as inp:
        dag = dying.wait.bind(inp)
    with cgc.compile(dag, max_inflight_executions=3) as graph:
        results = graph.map(itertools.count(), timeout=0.05)
        with pytest.raises(ray.exceptions.RayChannelTimeoutError):
            next(results)
        ray.kill(dying)
        results._timeout = 60
        collected = collect(results)
        assert 3 <= len(collected) <= 4
        assert all(issubclass(error, ray.exceptions.ActorDiedError) for error in collected)


def test_a_progress_bar(chain, capfd):
    with cgc.compile(chain, name="encode") as graph:
        assert list(graph.map([1, 2, 3], progress=True)) == [1, 2, 3]
        assert list(graph.map(iter([1, 2]), progress=True)) == [1, 2]
    shown = capfd.readouterr().err
    assert "encode" in shown
    assert "3/3" in shown


def test_what_map_needs(chain):
    with cgc.compile(chain) as graph:
        with pytest.raises(TypeError, match="needs an iterable"):
            graph.map()
        with pytest.raises(TypeError, match=r"not iterable|must support iteration"):
            graph.map(3)
        with pytest.raises(ValueError, match="max_inflight"):
            graph.map([1], max_inflight=0)


# Asyncio.


@pytest.fixture
def async_chain(chain):
    with cgc.compile(chain, enable_asyncio=True, max_inflight_executions=3) as graph:
        yield graph


def test_async_for_over_plain_and_asynchronous_inputs(async_chain):
    async def items(count):
        for i in range(count):
            await asyncio.sleep(0)
            yield i

    async def run():
        assert [result async for result in async_chain.map(range(20))] == list(range(20))
        assert [result async for result in async_chain.map(items(20))] == list(range(20))
        assert [result async for result in async_chain.map(items(0))] == []

    asyncio.run(run())


def test_a_result_is_not_held_back_by_an_input_that_is_late(async_chain):
    async def run():
        queue = asyncio.Queue()

        async def items():
            while (item := await queue.get()) is not None:
                yield item

        results = async_chain.map(items())
        for i in range(3):
            queue.put_nowait(i)
            assert await asyncio.wait_for(results.__anext__(), 30) == i
        queue.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await results.__anext__()

    asyncio.run(run())


def test_an_early_end_with_asyncio(async_chain):
    async def run():
        for _ in range(3):
            async for result in async_chain.map(itertools.count()):
                if result == 2:
                    break

        async def endless():
            yield 1
            await asyncio.Event().wait()

        async with async_chain.map(endless()) as results:
            assert await results.__anext__() == 1
        assert [result async for result in async_chain.map("xyz")] == ["x", "y", "z"]

    asyncio.run(run())


def test_exceptions_with_asyncio(odd):
    async def items():
        yield 1
        yield 2
        raise KeyError("input")

    with cgc.compile(odd, enable_asyncio=True, max_inflight_executions=3) as graph:
        assert asyncio.run(collect_async(graph.map(range(4)))) == [ValueError, 1, ValueError, 3]
        assert asyncio.run(collect_async(graph.map(items()))) == [1, ValueError, KeyError]


def test_a_time_out_with_asyncio_can_be_waited_out():
    slow = Worker.remote()
    with InputNode() as inp:
        dag = slow.wait.bind(inp)

    async def run(graph):
        results = graph.map(range(2), timeout=0.05)
        with pytest.raises(asyncio.TimeoutError):
            await results.__anext__()
        await slow.open.remote()
        results._timeout = 60
        assert [result async for result in results] == [0, 1]

    with cgc.compile(dag, enable_asyncio=True) as graph:
        asyncio.run(run(graph))
