"""Graphs that outlive their actors: real kills, Ray's restarts, and other actors in the place of dead ones."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError, RayChannelError, RayChannelTimeoutError

import cgc
from cgc.runtime import async_restarting, recovery
from tests.runtime.helpers import DEADLINE, Actor, Gate, eventually, pass_through

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def restartable(count: int, restarts: int = 3) -> list[Any]:
    return [Actor.options(max_restarts=restarts).remote() for _ in range(count)]


def kill(actor: Any) -> None:
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)


@contextmanager
def compiled(build: Callable[..., Any], *actors: Any, **options: Any) -> Iterator[cgc.CompiledGraph]:
    with InputNode() as inp:
        dag = build(inp, *actors)
    with cgc.compile(dag, **options) as graph:
        yield graph


def echo(inp: Any, actor: Any) -> Any:
    return actor.echo.bind(inp)


def apply(inp: Any, actor: Any) -> Any:
    return actor.apply.bind(inp)


def chain(inp: Any, first: Any, second: Any) -> Any:
    return second.apply.bind(first.echo.bind(inp))


def fork(inp: Any, left: Any, right: Any) -> Any:
    return MultiOutputNode([left.echo.bind(inp), right.apply.bind(inp)])


def kept_inputs() -> list[Any]:
    """What graphs of asyncio keep in order to run it again."""
    executions = (each for each in gc.get_objects() if type(each) is async_restarting._Execution)
    return [execution.inputs for execution in executions if execution.inputs is not None]


RESTART = {"on_actor_death": "restart"}
AGAIN = {"on_actor_death": "restart", "idempotent": True}


# On actors that Ray restarts.


def test_unfinished_executions_run_again_and_deliver_their_values():
    gate = Gate.remote()
    first, second = restartable(2)

    def block(_: Any) -> str:
        ray.get(gate.open.remote("running"))
        ray.get(gate.wait.remote("go on"))
        return "blocked"

    with compiled(chain, first, second, **AGAIN) as graph:
        arrived = graph.execute(lambda _: "arrived")
        assert ray.get(graph.execute(lambda _: "read")) == "read"
        pending = [graph.execute(block), *(graph.execute(lambda _, n=n: n) for n in range(3))]
        ray.get(gate.wait.remote("running"))
        kill(second)
        ray.get(gate.open.remote("go on"))
        assert ray.get(pending) == ["blocked", 0, 1, 2]
        assert ray.get(arrived) == "arrived"
        assert ray.get(graph.execute(lambda _: "later")) == "later"


def test_without_idempotence_pending_refs_fail_and_later_executions_work():
    gate = Gate.remote()
    (actor,) = restartable(1)
    with compiled(apply, actor, **RESTART) as graph:
        arrived = graph.execute(lambda _: "arrived")
        refs = [graph.execute(lambda _: pass_through(gate, "lost")), graph.execute(lambda _: 1)]
        ray.get(gate.wait.remote("lost entered"))
        kill(actor)
        for ref in refs:
            with pytest.raises(ActorDiedError):
                ray.get(ref)
        assert ray.get(arrived) == "arrived"
        assert ray.get([graph.execute(lambda _, n=n: n) for n in range(5)]) == [0, 1, 2, 3, 4]


def test_the_same_graph_survives_several_deaths():
    actors = restartable(2)
    with compiled(fork, *actors, **AGAIN) as graph:
        identity = graph.get_id()
        for number in range(4):
            kill(actors[number % 2])
            refs = [graph.execute(lambda _: number) for _ in range(3)]
            assert [ray.get(left)(0) for left, _ in refs] == [number] * 3
            assert [ray.get(right) for _, right in refs] == [number] * 3
        assert graph.get_id() == identity
        assert not graph.is_teardown
    assert graph.is_teardown
    with pytest.raises(RayChannelError):
        graph.execute(1)


def test_outputs_that_were_read_are_not_delivered_again():
    gate = Gate.remote()
    left, right = restartable(2)
    with compiled(fork, left, right, **AGAIN) as graph:
        first, second = graph.execute(lambda _: pass_through(gate, "half"))
        assert callable(ray.get(first))
        ray.get(gate.wait.remote("half entered"))
        kill(right)
        ray.get(gate.open.remote("half"))
        assert ray.get(second, timeout=60) is None
        with pytest.raises(ValueError, match="only be called once"):
            ray.get(first)


def test_an_output_that_is_the_input_waits_for_leaf_calls_that_run_again():
    gate = Gate.remote()
    (actor,) = restartable(1)

    def block(_: Any) -> None:
        ray.get(gate.open.remote("running"))
        ray.get(gate.wait.remote("go on"))

    def effect(inp: Any, actor: Any) -> Any:
        actor.apply.bind(inp)
        return MultiOutputNode([inp, actor.echo.bind(inp)])

    with compiled(effect, actor, allow_leaf_nodes=True, **AGAIN) as graph:
        passed_on, echoed = graph.execute(block)
        ray.get(gate.wait.remote("running"))
        kill(actor)
        ray.get(gate.open.remote("go on"))
        assert ray.get(passed_on) is block
        assert callable(ray.get(echoed))


def test_as_many_unfinished_executions_as_may_be_in_flight():
    gate = Gate.remote()
    left, right = restartable(2)
    with compiled(fork, left, right, max_inflight_executions=2, **AGAIN) as graph:
        refs = [graph.execute(lambda _, n=n: (pass_through(gate, "crowd"), n)[1]) for n in range(2)]
        assert all(callable(ray.get(first)) for first, _ in refs)
        ray.get(gate.wait.remote("crowd entered"))
        kill(right)
        ray.get(gate.open.remote("crowd"))
        assert ray.get([second for _, second in refs], timeout=60) == [0, 1]


def test_remote_functions_get_other_hosts():
    @ray.remote
    def process(value: Any) -> tuple[Any, int]:
        return value, os.getpid()

    with compiled(lambda inp: process.bind(inp), **AGAIN) as graph:
        value, pid = ray.get(graph.execute(1))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: graph._driver._driver.has_died, "the death is seen")
        value, other = ray.get(graph.execute(2), timeout=60)
        assert value == 2
        assert other != pid


def test_an_actor_without_restarts_ends_the_graph_with_a_clear_error():
    alive, mortal = restartable(1)[0], Actor.remote()
    with compiled(chain, alive, mortal, **AGAIN) as graph:
        assert ray.get(graph.execute(lambda _: 1)) == 1
        kill(mortal)
        for _ in range(2):
            with pytest.raises(
                ActorDiedError, match=r"@Actor_1 \(Actor, actor \w+\) has died and has no restarts left"
            ):
                ray.get(graph.execute(lambda _: 1))
        with pytest.raises(ActorDiedError, match=r"recompile\(replace="):
            graph.execute(1)


def test_a_get_does_not_wait_longer_than_its_time_out():
    (actor,) = restartable(1)
    with compiled(echo, actor, **AGAIN) as graph:
        kill(actor)
        ref = graph.execute(1)
        eventually(lambda: graph._driver._driver.has_died, "the death is seen")
        with pytest.raises(RayChannelTimeoutError, match="being restarted after the death"):
            ref.get(timeout=0.01)
        assert ref.get(timeout=60) == 1


def test_inputs_and_threads_are_let_go():
    class Held:
        pass

    (actor,) = restartable(1)
    with compiled(echo, actor, **AGAIN) as graph:
        kill(actor)
        held = [graph.execute(Held()) for _ in range(3)]
        ray.get(held[0])
        del held
        assert ray.get(graph.execute(1)) == 1
        assert graph._driver._executions == {}
        assert not [thread for thread in threading.enumerate() if thread.name.endswith("-recovery")]
    del graph
    gc.collect()


def test_teardown_during_a_recovery():
    (actor,) = restartable(1)
    with compiled(echo, actor, **AGAIN) as graph:
        kill(actor)
        ref = graph.execute(1)
        eventually(lambda: graph._driver._driver.has_died, "the death is seen")
        with pytest.raises(RayChannelTimeoutError, match="being restarted"):
            ref.get(timeout=0.001)
    assert graph.is_teardown
    with pytest.raises((ActorDiedError, RayChannelError)):
        ref.get(timeout=DEADLINE)
    eventually(lambda: ray.get(actor.threads.remote()) == [], "no loop is left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_actor_death": "retry"}, "on_actor_death must be 'fail' or 'restart', got 'retry'"),
        ({"idempotent": True}, "needs on_actor_death='restart'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        cgc.CompileOptions(**options)


# With asyncio.


def test_awaited_executions_run_again():
    gate = Gate.remote()
    first, second = restartable(2)

    async def program(graph: cgc.CompiledGraph) -> None:
        assert await (await graph.execute_async(lambda _: "before")) == "before"
        pending = [await graph.execute_async(lambda _: pass_through(gate, "await"))]
        pending += [await graph.execute_async(lambda _, n=n: n) for n in range(3)]
        ray.get(gate.wait.remote("await entered"))
        kill(second)
        ray.get(gate.open.remote("await"))
        assert await asyncio.gather(*pending) == [None, 0, 1, 2]
        assert await (await graph.execute_async(lambda _: "later")) == "later"
        with pytest.raises(ValueError, match="only be awaited upon once"):
            await pending[0]
        with pytest.raises(KeyError):
            await (await graph.execute_async(lambda actor: actor.fail("of the user")))
        assert kept_inputs() == []

    with compiled(chain, first, second, enable_asyncio=True, **AGAIN) as graph:
        asyncio.run(program(graph))


def test_several_outputs_are_awaited_while_their_execution_runs_again():
    gate = Gate.remote()
    left, right = restartable(2)

    async def program(graph: cgc.CompiledGraph) -> None:
        first, second = await graph.execute_async(lambda _: pass_through(gate, "outputs"))
        tasks = [asyncio.ensure_future(_result(future)) for future in (first, second)]
        await asyncio.get_running_loop().run_in_executor(None, ray.get, gate.wait.remote("outputs entered"))
        kill(right)
        kill(left)
        ray.get(gate.open.remote("outputs"))
        value, nothing = await asyncio.gather(*tasks)
        assert callable(value)
        assert nothing is None

    with compiled(fork, left, right, enable_asyncio=True, **AGAIN) as graph:
        asyncio.run(program(graph))


def test_awaited_executions_fail_without_idempotence_and_later_ones_work():
    (actor,) = restartable(1)

    async def program(graph: cgc.CompiledGraph) -> None:
        future = await graph.execute_async(lambda _: threading.Event().wait(DEADLINE))
        kill(actor)
        with pytest.raises(ActorDiedError):
            await future
        assert await (await graph.execute_async(lambda _: 1)) == 1
        assert kept_inputs() == []

    with compiled(apply, actor, enable_asyncio=True, **RESTART) as graph:
        asyncio.run(program(graph))


def test_an_await_that_is_cancelled_during_a_recovery():
    (actor,) = restartable(1)

    async def program(graph: cgc.CompiledGraph) -> None:
        future = await graph.execute_async(1)
        kill(actor)
        await asyncio.get_running_loop().run_in_executor(
            None, eventually, lambda: graph._driver._driver.has_died, "the death is seen"
        )
        later = await graph.execute_async(2)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_result(later), 0.001)
        assert await later == 2
        assert await future == 1

    with compiled(echo, actor, enable_asyncio=True, **AGAIN) as graph:
        asyncio.run(program(graph))


def test_an_actor_without_restarts_is_told_to_who_awaits():
    mortal = Actor.remote()

    async def program(graph: cgc.CompiledGraph) -> None:
        future = await graph.execute_async(lambda _: threading.Event().wait(DEADLINE))
        kill(mortal)
        with pytest.raises(ActorDiedError, match="has no restarts left"):
            await future
        with pytest.raises(ActorDiedError, match="has no restarts left"):
            await graph.execute_async(1)

    with compiled(apply, mortal, enable_asyncio=True, **AGAIN) as graph:
        asyncio.run(program(graph))


async def _result(future: Any) -> Any:
    return await future


# On other actors.


def test_recompile_with_another_actor_in_the_place_of_a_dead_one(kill_actor):
    first, second, third = Actor.remote(1), Actor.remote(10), Actor.remote(100)

    def build(inp: Any, left: Any, right: Any) -> Any:
        return right.add.bind(left.add.bind(inp))

    with compiled(build, first, second) as old:
        assert ray.get(old.execute(0)) == 11
        pending = old.execute(0)
        kill_actor(second)
        with old.recompile(replace={second: third}) as graph:
            assert old.is_teardown
            assert ray.get(graph.execute(0)) == 101
            with pytest.raises(ActorDiedError):
                ray.get([pending, old.execute(0)])
            with graph.recompile(replace={third: Actor.remote(1000)}) as again:
                assert ray.get(again.execute(0)) == 1001


def test_recompile_on_the_same_actors():
    (actor,) = restartable(1)
    with compiled(echo, actor) as old:
        kill(actor)
        recovery.wait_until_alive({"echo": actor}, RayChannelError("killed"), time.monotonic() + DEADLINE)
        with old.recompile() as graph:
            assert ray.get(graph.execute(1)) == 1


def test_a_recompilation_that_is_refused_changes_nothing():
    actor, other, stranger = Actor.remote(), Actor.remote(), Gate.remote()
    with compiled(chain, actor, other) as graph:
        with pytest.raises(ValueError, match=r"is no actor of the graph; those are Actor\(Actor"):
            graph.recompile(replace={stranger: actor})
        with pytest.raises(ValueError, match="would take two places"):
            graph.recompile(replace={actor: other})
        with pytest.raises(TypeError, match="handle of an actor is needed"):
            graph.recompile(replace={actor: "other"})
        with pytest.raises(RuntimeError, match="has no attribute 'echo'"):
            graph.recompile(replace={actor: stranger})
        assert ray.get(graph.execute(lambda _: 1)) == 1
