"""
From compile to teardown: actors that are used again, several graphs, drivers in actors and tasks.
"""

import gc
import threading

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode


@pytest.fixture
def echo(compiled, workers):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].echo.bind(inp))
    return compiled(dag)


def test_ids_differ_and_stay(compiled, workers):
    graphs = []
    for worker in workers[:2]:
        with InputNode() as inp:
            graphs.append(compiled(worker.echo.bind(inp)))
    first, second = graphs
    assert isinstance(first.get_id(), str)
    assert first.get_id() == first.get_id() != second.get_id()


def test_teardown_is_idempotent(echo):
    assert ray.get(echo.execute(1)) == 1
    assert not echo.is_teardown
    echo.teardown()
    assert echo.is_teardown
    echo.teardown()
    echo.teardown(kill_actors=False)
    assert echo.is_teardown


def test_teardown_before_the_first_execution(echo, workers):
    echo.teardown()
    assert ray.get(workers[0].echo.remote("free")) == "free"


def test_execute_after_teardown(echo):
    ref = echo.execute(1)
    echo.teardown()
    with pytest.raises(ray.exceptions.RayChannelError, match=r"Channel closed\."):
        ray.get(ref)
    with pytest.raises(ray.exceptions.RayChannelError, match=r"Channel closed\."):
        echo.execute(1)


def test_get_after_teardown_does_not_hang(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        graph = compiled(a.wait_for.bind(inp))
    ref = graph.execute("teardown")
    ray.get(a.open.remote("teardown"))
    graph.teardown()
    with pytest.raises(ray.exceptions.RayChannelError):
        ray.get(graph.execute("teardown"), timeout=10)
    del ref


def test_refs_dropped_after_teardown_are_harmless(echo, workers):
    refs = [echo.execute(i) for i in range(3)]
    echo.teardown()
    del refs
    gc.collect()
    assert ray.get(workers[0].echo.remote(1)) == 1


def test_normal_calls_while_the_actor_is_in_a_graph(echo, workers):
    for i in range(3):
        assert ray.get(echo.execute(i)) == i
        assert ray.get(workers[0].echo.remote(-i)) == -i


def test_actors_are_free_after_teardown(compiled, workers):
    a, b, *_ = workers
    for i in range(3):
        with InputNode() as inp:
            dag = b.tag.bind(a.tag.bind(inp)) if i % 2 else a.tag.bind(b.tag.bind(inp))
        graph = compiled(dag)
        assert ray.get(graph.execute(i)) == f"{i}>a>b" if i % 2 else f"{i}>b>a"
        graph.teardown()


def test_teardown_can_kill_the_actors(compiled, mortals):
    x, y, z = mortals
    with InputNode() as inp:
        dag = y.echo.bind(x.echo.bind(inp))
    graph = compiled(dag)
    assert ray.get(graph.execute(1)) == 1
    graph.teardown(kill_actors=True)
    for actor in (x, y):
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(actor.echo.remote(1), timeout=30)
    assert ray.get(z.echo.remote(1)) == 1


def test_several_graphs_in_one_driver(compiled, workers):
    graphs = []
    for worker in workers[:3]:
        with InputNode() as inp:
            graphs.append(compiled(worker.tag.bind(inp)))
    refs = [graph.execute(i) for i, graph in enumerate(graphs)]
    assert ray.get(refs[::-1]) == ["2>c", "1>b", "0>a"]
    graphs[1].teardown()
    assert ray.get([graphs[0].execute(3), graphs[2].execute(4)]) == ["3>a", "4>c"]


def test_result_of_one_graph_as_input_of_another(compiled, workers):
    graphs = []
    for worker in workers[:2]:
        with InputNode() as inp:
            graphs.append(compiled(worker.tag.bind(inp)))
    value = "v"
    for _ in range(3):
        for graph in graphs:
            value = ray.get(graph.execute(value))
    assert value == "v" + ">a>b" * 3


def test_same_dag_twice_is_refused(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    graph = compiled(dag)
    message = "It is not allowed to call `experimental_compile` on the same DAG object multiple times"
    with pytest.raises(ValueError, match=message):
        dag.experimental_compile()
    assert ray.get(graph.execute(1)) == 1
    graph.teardown()
    with pytest.raises(ValueError, match=message):
        dag.experimental_compile()


def test_driver_in_a_task(ray_session, implementation, workers):
    @ray.remote
    def drive(handles, install):
        import cgc

        cgc.install() if install else cgc.uninstall()
        with InputNode() as inp:
            dag = MultiOutputNode([handle.tag.bind(inp) for handle in handles])
        graph = dag.experimental_compile()
        results = [ray.get(graph.execute(i)) for i in range(3)]
        graph.teardown()
        return results, isinstance(graph, cgc.CompiledGraph)

    results, is_ours = ray.get(drive.remote(workers[:2], implementation == "cgc"))
    assert results == [[f"{i}>a", f"{i}>b"] for i in range(3)]
    assert is_ours == (implementation == "cgc")


def test_driver_in_an_actor(ray_session, implementation, workers):
    @ray.remote
    class Driver:
        def __init__(self, handles, install):
            import cgc

            cgc.install() if install else cgc.uninstall()
            with InputNode() as inp:
                dag = handles[1].tag.bind(handles[0].tag.bind(inp))
            self.graph = dag.experimental_compile()

        def run(self, value):
            return ray.get(self.graph.execute(value))

        def stop(self):
            self.graph.teardown()
            return self.graph.is_teardown

    driver = Driver.remote(workers[:2], implementation == "cgc")
    assert [ray.get(driver.run.remote(i)) for i in range(3)] == [f"{i}>a>b" for i in range(3)]
    assert ray.get(driver.stop.remote())
    assert ray.get(workers[0].tag.remote("free")) == "free>a"


def test_driver_in_an_async_actor(ray_session, implementation, workers):
    @ray.remote
    class Driver:
        async def start(self, handles, install):
            import cgc

            cgc.install() if install else cgc.uninstall()
            with InputNode() as inp:
                dag = handles[1].tag.bind(handles[0].tag.bind(inp))
            self.graph = dag.experimental_compile(enable_asyncio=True)

        async def run(self, value):
            return await (await self.graph.execute_async(value))

        async def stop(self):
            self.graph.teardown()

    driver = Driver.remote()
    ray.get(driver.start.remote(workers[:2], implementation == "cgc"))
    assert ray.get([driver.run.remote(i) for i in range(5)]) == [f"{i}>a>b" for i in range(5)]
    ray.get(driver.stop.remote())


def test_method_of_a_graph_that_uses_ray(compiled, workers):
    @ray.remote
    def double(x):
        return 2 * x

    def nested(value):
        actor_class = ray.remote(type("Adder", (), {"add": lambda self, x: x + 1}))
        adder = actor_class.remote()
        result = ray.get(adder.add.remote(ray.get(double.remote(value))))
        ray.kill(adder)
        return result

    with InputNode() as inp:
        dag = workers[0].call.bind(nested, inp)
    graph = compiled(dag)
    assert [ray.get(graph.execute(i)) for i in range(3)] == [1, 3, 5]


def test_the_driver_is_a_reader_in_several_places(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        first = a.tag.bind(inp)
        second = b.tag.bind(first)
        dag = MultiOutputNode([first, second, a.tag.bind(second)])
    graph = compiled(dag)
    assert ray.get(graph.execute(0)) == ["0>a", "0>a>b", "0>a>b>a"]


def test_execute_from_another_thread(compiled, workers):
    with InputNode() as inp:
        graph = compiled(workers[0].echo.bind(inp))
    results = []
    thread = threading.Thread(target=lambda: results.append(ray.get(graph.execute("thread"))))
    thread.start()
    thread.join(60)
    assert results == ["thread"]
    assert ray.get(graph.execute("main")) == "main"


def test_visualize_as_text(compiled, workers, capsys):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([b.tag.bind(a.echo.bind(inp)), a.tag.bind(inp)])
    graph = compiled(dag)
    drawing = graph.visualize(format="ascii")
    for text in ("Nodes Information", "Edges Information", "InputNode", "MultiOutputNode", "echo", "tag", "--->"):
        assert text in drawing
    graph.visualize(format="ascii", view=True)
    assert drawing in capsys.readouterr().out
    with pytest.raises(ValueError, match="'channel_details' are not compatible with 'ascii' format"):
        graph.visualize(format="ascii", channel_details=True)
    assert ray.get(graph.execute(1)) == ["1>b", "1>a"]
