"""Graphs under asyncio: results, concurrency, limits, cancellation, failure, several loops."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ActorDiedError, RayCgraphCapacityExceeded, RayChannelError, RayTaskError
from ray.experimental.compiled_dag_ref import CompiledDAGFuture

from tests.runtime.helpers import DEADLINE, Actor, chain, eventually, fan_out, pass_through, running, start

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


async def result(driver: Any, *inputs: Any) -> Any:
    return await (await driver.execute_async(*inputs))


def test_one_output_and_several(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True) as driver:

        async def run() -> None:
            future = await driver.execute_async("hello")
            assert isinstance(future, CompiledDAGFuture)
            assert await future == "hello"

        asyncio.run(run())
    with running(fan_out("echo", "pair"), actors[:2], enable_asyncio=True) as driver:

        async def run() -> None:
            futures = await driver.execute_async(1)
            assert await asyncio.gather(*futures) == [1, (1, [1])]

        asyncio.run(run())


def test_sync_and_async_do_not_mix(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True) as driver:
        with pytest.raises(ValueError, match="Use execute_async if enable_asyncio=True"):
            driver.execute(1)
    with running(chain("echo"), actors[:1]) as driver:
        with pytest.raises(ValueError, match="Use execute if enable_asyncio=False"):
            asyncio.run(driver.execute_async(1))


def test_many_tasks_at_once_each_get_their_own_result(actors):
    with running(chain("echo", "echo"), actors[:2], enable_asyncio=True) as driver:

        async def one(number: int, limit: asyncio.Semaphore) -> None:
            async with limit:
                assert await result(driver, number) == number

        async def run() -> None:
            limit = asyncio.Semaphore(10)
            await asyncio.gather(*(one(number, limit) for number in range(500)))

        asyncio.run(run())


def test_a_future_can_be_awaited_once_and_not_copied(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True) as driver:

        async def run() -> None:
            future = await driver.execute_async(1)
            for copying in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(ValueError, match="cannot be"):
                    copying(future)
            assert await future == 1
            with pytest.raises(ValueError, match="only be awaited upon once"):
                await future

        asyncio.run(run())


def test_the_loop_runs_while_an_execution_does(actors, gate):
    with running(chain("apply"), actors[:1], enable_asyncio=True) as driver:

        async def run() -> None:
            future = await driver.execute_async(lambda _: pass_through(gate, "loop"))
            await gate.wait.remote("loop entered")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(future, 0.05)
            await gate.open.remote("loop")
            assert await asyncio.wait_for(future, DEADLINE) is None

        asyncio.run(run())


def test_cancelled_and_dropped_futures_release_their_place(actors, gate):
    with running(chain("apply"), actors[:1], enable_asyncio=True, max_inflight_executions=2) as driver:

        async def run() -> None:
            task = asyncio.create_task(result(driver, lambda _: pass_through(gate, "cancel")))
            await gate.wait.remote("cancel entered")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            gc.collect()
            await gate.open.remote("cancel")
            for number in range(10):
                await driver.execute_async(lambda _: None)
                gc.collect()
                assert await result(driver, lambda _, number=number: number) == number

        asyncio.run(run())


def test_cancelled_submissions_of_large_inputs_release_their_place(actors):
    large = np.zeros(1 << 18)
    with running(chain("echo"), actors[:1], enable_asyncio=True, max_inflight_executions=2) as driver:

        async def run() -> None:
            for _ in range(6):
                task = asyncio.create_task(driver.execute_async(large))
                await asyncio.sleep(0)  # it has begun, and waits for the helper thread
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert len(await result(driver, large)) == len(large)
            assert driver._queued == {}

        asyncio.run(run())


def test_max_inflight_executions(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True, max_inflight_executions=2) as driver:

        async def run() -> None:
            futures = [await driver.execute_async(i) for i in range(2)]
            with pytest.raises(RayCgraphCapacityExceeded, match="more than 2 in-flight"):
                await driver.execute_async(2)
            assert await asyncio.gather(*futures) == [0, 1]
            assert await result(driver, 3) == 3

        asyncio.run(run())


def test_application_errors_are_raised_by_await(actors):
    with running(fan_out("fail", "echo"), actors[:2], enable_asyncio=True) as driver:

        async def run() -> None:
            failed, fine = await driver.execute_async("k")
            with pytest.raises(KeyError) as caught:
                await failed
            assert isinstance(caught.value, RayTaskError)
            assert await fine == "k"
            with pytest.raises(TypeError, match="input of the graph"):
                await driver.execute_async(threading.Lock())
            with pytest.raises(ValueError, match="positional args"):
                await driver.execute_async()

        asyncio.run(run())


def test_large_inputs_and_results_keep_their_order(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True) as driver:

        async def run() -> None:
            sizes = [1, 1 << 21, 10, 1 << 22, 1000, 1, 1 << 21]
            futures = await asyncio.gather(*(driver.execute_async(np.full(size, i)) for i, size in enumerate(sizes)))
            arrays = await asyncio.gather(*futures)
            assert [(len(array), array[-1]) for array in arrays] == [(size, i) for i, size in enumerate(sizes)]

        asyncio.run(run())


def test_two_loops_in_two_threads(actors):
    with running(chain("echo"), actors[:1], enable_asyncio=True) as driver:
        failures: list[BaseException] = []

        def work(first: int) -> None:
            async def run() -> None:
                for number in range(first, first + 200):
                    assert await result(driver, number) == number

            try:
                asyncio.run(run())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_a_loop_that_closes_with_results_on_their_way(actors, gate):
    with running(chain("apply"), actors[:1], enable_asyncio=True) as driver:
        held: list[Any] = []

        async def leave() -> None:
            held.append(await driver.execute_async(lambda _: pass_through(gate, "closed loop")))

        asyncio.run(leave())
        ray.get(gate.open.remote("closed loop"))
        held.clear()
        gc.collect()
        assert asyncio.run(result(driver, lambda _: 1)) == 1


def test_death_of_an_actor_reaches_every_future():
    victim, survivor = Actor.remote(), Actor.remote()
    driver = start(chain("echo", "apply"), [survivor, victim], enable_asyncio=True)

    def block(_: Any) -> None:
        threading.Event().wait(DEADLINE)

    async def run() -> None:
        futures = [await driver.execute_async(block) for _ in range(3)]
        ray.kill(victim)
        for outcome in await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), DEADLINE):
            assert isinstance(outcome, ActorDiedError)
        with pytest.raises(ActorDiedError):
            await result(driver, 1)

    asyncio.run(run())
    driver.teardown()
    assert ray.get(survivor.echo.remote(1)) == 1


def test_teardown_wakes_those_who_wait(actors, gate):
    driver = start(chain("apply"), actors[:1], enable_asyncio=True)

    async def run() -> None:
        future = await driver.execute_async(lambda _: pass_through(gate, "teardown"))
        await gate.wait.remote("teardown entered")
        waiting = asyncio.ensure_future(_await(future))
        closing = asyncio.get_running_loop().run_in_executor(None, driver.teardown)
        with pytest.raises(RayChannelError, match="torn down"):
            await asyncio.wait_for(waiting, DEADLINE)
        await gate.open.remote("teardown")
        await closing
        for value in (1, bytes(1 << 21)):  # submitted by the loop, and by the helper thread
            with pytest.raises(RayChannelError, match="torn down"):
                await driver.execute_async(value)

    asyncio.run(run())


async def _await(future: Any) -> Any:
    return await future


def test_a_driver_that_nobody_holds_ends_with_its_threads(actors):
    driver = start(chain("echo"), actors[:1], enable_asyncio=True)
    graph = driver.get_id()
    assert asyncio.run(result(driver, 1)) == 1
    assert any(graph in thread.name for thread in threading.enumerate())
    del driver
    gc.collect()
    eventually(lambda: not any(graph in thread.name for thread in threading.enumerate()), "the threads end")
    eventually(lambda: ray.get(actors[0].threads.remote()) == [], "the loop ends")
