"""
Drivers in an event loop: `execute_async`, futures, their order, limits and errors.
"""

import asyncio
import copy
import pickle

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.compiled_dag_ref import CompiledDAGFuture


@pytest.fixture
def run(compiled):
    """
    Run a coroutine function that is given a function to compile with.

    Ray's graph belongs to the loop that compiled it, so compiling, running and teardown happen inside of one.
    """

    def run_in_loop(main):
        async def inside():
            graphs = []

            def compile_dag(dag, **options):
                graphs.append(compiled(dag, enable_asyncio=True, **options))
                return graphs[-1]

            try:
                return await asyncio.wait_for(main(compile_dag), 120)
            finally:
                for graph in graphs:
                    graph.teardown()

        return asyncio.run(inside())

    return run_in_loop


@pytest.fixture
def echo(workers):
    with InputNode() as inp:
        return workers[0].echo.bind(inp)


@pytest.fixture
def two_tags(workers):
    with InputNode() as inp:
        return MultiOutputNode([workers[0].tag.bind(inp), workers[1].tag.bind(inp)])


def test_two_awaits(run, echo):
    async def main(compile_dag):
        graph = compile_dag(echo)
        future = await graph.execute_async(1)
        assert isinstance(future, CompiledDAGFuture)
        assert str(future) == f"CompiledDAGFuture({graph.get_id()}, execution_index=0, channel_index=None)"
        return [await future] + [await (await graph.execute_async(i)) for i in range(2, 5)]

    assert run(main) == [1, 2, 3, 4]


def test_gather(run, echo):
    async def main(compile_dag):
        graph = compile_dag(echo, _max_inflight_executions=20)

        async def call(i):
            return await (await graph.execute_async(i))

        return await asyncio.gather(*[call(i) for i in range(20)])

    assert run(main) == list(range(20))


def test_other_tasks_of_the_loop_go_on_while_a_result_is_awaited(run, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.wait_for.bind(inp)

    async def main(compile_dag):
        graph = compile_dag(dag)
        future = await graph.execute_async("loop")

        async def release():
            await a.open.remote("loop")
            return "released"

        return await asyncio.gather(_result(future), release())

    assert run(main) == ["loop", "released"]


def test_several_outputs(run, two_tags):
    async def main(compile_dag):
        graph = compile_dag(two_tags)
        first, second = await graph.execute_async(0)
        assert [str(f).rpartition(", ")[2] for f in (first, second)] == ["channel_index=0)", "channel_index=1)"]
        results = [await second, await first]
        return results + list(await asyncio.gather(*await graph.execute_async(1)))

    assert run(main) == ["0>b", "0>a", "1>a", "1>b"]


def test_awaits_out_of_order(run, echo):
    async def main(compile_dag):
        graph = compile_dag(echo)
        futures = [await graph.execute_async(i) for i in range(6)]
        return [await futures[i] for i in (5, 0, 3, 1, 4, 2)]

    assert run(main) == [5, 0, 3, 1, 4, 2]


def test_positional_and_keyword_inputs(run, workers):
    with InputNode() as inp:
        dag = workers[0].add.bind(inp[0], inp.right)

    async def main(compile_dag):
        graph = compile_dag(dag)
        with pytest.raises(ValueError, match="must be called with kwarg `right`"):
            await graph.execute_async(1)
        with pytest.raises(ValueError, match="must be called with 1 positional args, got 0"):
            await graph.execute_async(right=1)
        return await (await graph.execute_async(1, right=2))

    assert run(main) == 3


def test_errors(run, workers, app_error):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].odd.bind(inp))

    async def main(compile_dag):
        graph = compile_dag(dag)
        futures = [await graph.execute_async(i) for i in range(4)]
        for i in (0, 2):
            with pytest.raises(ValueError, match=f"{i} is even") as caught:
                await futures[i]
            assert isinstance(caught.value, ray.exceptions.RayTaskError)
        return [await futures[i] for i in (1, 3)]

    assert run(main) == [1, 3]


def test_gather_returns_exceptions(run, workers):
    with InputNode() as inp:
        dag = workers[0].odd.bind(inp)

    async def main(compile_dag):
        graph = compile_dag(dag)
        futures = [await graph.execute_async(i) for i in range(4)]
        return await asyncio.gather(*[_result(future) for future in futures], return_exceptions=True)

    zero, one, two, three = run(main)
    assert (one, three) == (1, 3)
    assert isinstance(zero, ValueError)
    assert isinstance(two, ValueError)


def test_error_of_several_outputs(run, workers):
    with InputNode() as inp:
        dag = MultiOutputNode([workers[0].odd.bind(inp), workers[1].odd.bind(inp)])

    async def main(compile_dag):
        graph = compile_dag(dag)
        for future in await graph.execute_async(2):
            with pytest.raises(ValueError, match="2 is even"):
                await future
        return await asyncio.gather(*await graph.execute_async(3))

    assert run(main) == [3, 3]


def test_a_future_can_be_awaited_once(run, echo):
    async def main(compile_dag):
        future = await compile_dag(echo).execute_async(1)
        assert await future == 1
        with pytest.raises(ValueError, match="can only be awaited upon once, and it has already been"):
            await future

    run(main)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (copy.copy, "CompiledDAGFuture cannot be copied."),
        (copy.deepcopy, "CompiledDAGFuture cannot be deep copied."),
        (pickle.dumps, "CompiledDAGFuture cannot be pickled."),
    ],
)
def test_futures_are_not_copied(use, message, run, echo):
    async def main(compile_dag):
        future = await compile_dag(echo).execute_async(1)
        with pytest.raises(ValueError, match=message):
            use(future)
        return await future

    assert run(main) == 1


def test_futures_are_not_read_by_ray_get(run, echo):
    async def main(compile_dag):
        future = await compile_dag(echo).execute_async(1)
        with pytest.raises(ValueError, match=r"<class 'ray\.experimental\.compiled_dag_ref\.CompiledDAGFuture'>"):
            ray.get(future)
        return await future

    assert run(main) == 1


def test_inflight_limit(run, echo):
    async def main(compile_dag):
        graph = compile_dag(echo, _max_inflight_executions=2)
        futures = [await graph.execute_async(i) for i in range(2)]
        message = "can't have more than 2 in-flight executions, and you currently have 2 in-flight executions"
        with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded, match=message):
            await graph.execute_async(2)
        results = [await futures[0]]
        futures.append(await graph.execute_async(3))
        return results + [await future for future in futures[1:]]

    assert run(main) == [0, 1, 3]


def test_asyncio_graphs_are_not_executed_otherwise_and_the_reverse(run, compiled, echo, workers):
    async def main(compile_dag):
        graph = compile_dag(echo)
        with pytest.raises(ValueError, match="Use execute_async if enable_asyncio=True"):
            graph.execute(1)
        return await (await graph.execute_async(2))

    assert run(main) == 2
    with InputNode() as inp:
        graph = compiled(workers[0].echo.bind(inp))

    async def wrong():
        await graph.execute_async(1)

    with pytest.raises(ValueError, match="Use execute if enable_asyncio=False"):
        asyncio.run(wrong())
    assert ray.get(graph.execute(3)) == 3


def test_large_values(run, workers):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].echo.bind(inp))

    async def main(compile_dag):
        graph = compile_dag(dag)
        sizes = (10, 3_000_000, 10)
        futures = [await graph.execute_async(b"x" * size) for size in sizes]
        return [len(await future) for future in futures]

    assert run(main) == [10, 3_000_000, 10]


async def _result(future):
    return await future
