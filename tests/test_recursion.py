"""
Graphs within graphs: methods that compile and run graphs of their own, on other actors, on the same one, in tasks.
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
    def __init__(self, name=""):
        self.name = name
        self.calls = 0

    def echo(self, value):
        self.calls += 1
        return value

    def add(self, value, amount=1):
        return value + amount

    def create_and_ask(self, value):
        """Creates an actor, asks it, and ends it."""
        other = Worker.remote()
        try:
            return ray.get(other.add.remote(value))
        finally:
            ray.kill(other)

    def run_graph_over(self, actors, value):
        """Compiles and runs a graph of these actors, in the thread that runs this method."""
        with InputNode() as inp:
            node = inp
            for actor in actors:
                node = actor.add.bind(node)
        with cgc.compile(node) as graph:
            return ray.get([graph.execute(value + i) for i in range(3)])

    def run_graph_over_myself(self, value):
        return self.run_graph_over([ray.get_runtime_context().current_actor], value)

    def stream(self, value):
        yield value

    def compile_what_cannot_start(self, actor, value):
        with InputNode() as inp:
            dag = (actor or ray.get_runtime_context().current_actor).stream.options(num_returns=1).bind(inp)
        with cgc.compile(dag) as graph:
            return ray.get(graph.execute(value))

    def count(self):
        return self.calls


@ray.remote(num_cpus=0)
class Engine:
    """An actor whose methods run a graph of which it is a part."""

    def __init__(self, worker):
        self.worker = worker

    def start(self):
        me = ray.get_runtime_context().current_actor
        with InputNode() as inp:
            dag = me.finish.bind(self.worker.add.bind(me.prepare.bind(inp)))
        self.graph = cgc.compile(dag)

    def prepare(self, value):
        return value * 10

    def finish(self, value):
        return f"<{value}>"

    def step(self, value):
        return ray.get(self.graph.execute(value))

    def stop(self):
        self.graph.teardown()


@ray.remote(num_cpus=0)
class AsyncEngine:
    """The same with coroutines: one of the graph's methods runs on the loop that waits for the graph."""

    async def start(self, worker):
        me = ray.get_runtime_context().current_actor
        with InputNode() as inp:
            dag = me.finish.bind(worker.add.bind(inp))
        self.graph = cgc.compile(dag, enable_asyncio=True)

    async def finish(self, value):
        await asyncio.sleep(0)
        return f"<{value}>"

    async def step(self, value):
        return await (await self.graph.execute_async(value))

    async def stop(self):
        self.graph.teardown()


@ray.remote
def drive(workers, value):
    with InputNode() as inp:
        dag = MultiOutputNode([workers[0].add.bind(inp), triple.bind(workers[1].add.bind(inp))])
    with cgc.compile(dag) as graph:
        return ray.get(graph.execute(value))


@ray.remote
def triple(value):
    return 3 * value


@pytest.fixture(scope="module")
def workers(ray_session):
    return [Worker.remote(name) for name in "abc"]


def test_a_method_of_a_graph_creates_actors(workers):
    with InputNode() as inp:
        dag = workers[0].create_and_ask.bind(inp)
    with cgc.compile(dag) as graph:
        assert ray.get([graph.execute(i) for i in range(2)]) == [1, 2]


def test_a_method_of_a_graph_compiles_and_runs_a_graph(workers):
    a, b, c = workers
    with InputNode() as inp:
        dag = a.run_graph_over.bind([b, c], inp)
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(5)) == [7, 8, 9]
        assert ray.get(graph.execute(6)) == [8, 9, 10]


def test_an_inner_graph_over_actors_of_the_outer_one(workers):
    """The inner graph calls the actor that is running it, and one that the outer graph waits to call."""
    a, b, _ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([b.echo.bind(a.run_graph_over.bind([b, a, b], inp)), a.run_graph_over_myself.bind(inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1)) == [[4, 5, 6], [2, 3, 4]]


def test_an_error_of_an_inner_graph_is_the_calls_error(workers):
    a, b, _ = workers
    with InputNode() as inp:
        failing = [a.compile_what_cannot_start.bind(other, inp) for other in (b, None)]
        dag = MultiOutputNode([b.echo.bind(inp), *failing])
    with cgc.compile(dag) as graph:
        good, *failed = graph.execute(1)
        assert ray.get(good) == 1
        for ref in failed:
            with pytest.raises(RuntimeError, match=r"Worker\.stream is a generator"):
                ray.get(ref)


def test_an_actor_runs_a_graph_of_which_it_is_a_part(workers):
    engine = Engine.remote(workers[0])
    ray.get(engine.start.remote())
    assert ray.get([engine.step.remote(i) for i in range(3)]) == ["<1>", "<11>", "<21>"]
    ray.get(engine.stop.remote())
    assert ray.get(engine.finish.remote(0)) == "<0>"


def test_an_async_actor_runs_a_graph_of_which_it_is_a_part(workers):
    engine = AsyncEngine.remote()
    ray.get(engine.start.remote(workers[0]))
    assert ray.get([engine.step.remote(i) for i in range(5)]) == [f"<{i + 1}>" for i in range(5)]
    ray.get(engine.stop.remote())


def test_a_driver_in_a_task_with_functions_of_its_own(workers):
    assert ray.get(drive.remote(workers, 1)) == [2, 6]


def test_several_graphs_on_the_same_actors_under_load():
    """Four drivers' threads, each with a graph of its own over the same two actors, and Ray's own calls meanwhile."""
    a, b = Worker.remote(), Worker.remote()
    rounds, drivers = 200, 4
    graphs = []
    for number in range(drivers):
        with InputNode() as inp:
            x = a.echo.bind(inp)
            graphs.append(cgc.compile(MultiOutputNode([b.echo.bind(x), a.add.bind(b.echo.bind(inp), number)])))
    wrong = []

    def run(number):
        results = graphs[number].map(range(rounds))
        wrong.extend(result for i, result in enumerate(results) if result != [i, i + number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(drivers)]
    for thread in threads:
        thread.start()
    assert ray.get([actor.add.remote(i) for i in range(20) for actor in (a, b)]) == [
        i + 1 for i in range(20) for _ in "ab"
    ]
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)
    for graph in graphs:
        graph.teardown()
    assert ray.get([a.count.remote(), b.count.remote()]) == [drivers * rounds, 2 * drivers * rounds]
