"""
Ctrl-C in the destructors of refs and futures, where Python swallows it, and with it the rest of the destructor.

Whatever such a destructor did not get to do, no place among the executions in flight is lost.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from tests.runtime.helpers import DEADLINE, Actor

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory", "swallowed")

IN_FLIGHT = 2

OPTIONS = {
    "plain": {},
    "restart": {"on_actor_death": "restart"},
    "idempotent": {"on_actor_death": "restart", "idempotent": True},
}


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote(), Actor.remote()]


def two_outputs(actors: list[Any]) -> Any:
    with InputNode() as inp:
        return MultiOutputNode([actor.echo.bind(inp) for actor in actors])


def let_go(refs: list[Any], step: int) -> bool:
    """Empty the list, with a KeyboardInterrupt at the `step`-th bytecode that this runs; whether there are so many."""
    left = step

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        refs.clear()
    finally:
        sys.settrace(None)
    return left <= 0


@pytest.mark.parametrize("options", OPTIONS)
def test_an_interrupt_at_any_bytecode_of_a_refs_destructor_costs_no_place(actors, options):
    with cgc.compile(two_outputs(actors), max_inflight_executions=IN_FLIGHT, **OPTIONS[options]) as graph:
        step, interrupted, read = 0, True, []
        while interrupted:
            step += 1
            one_read = graph.execute(step)
            read = [ray.get(one_read[0], timeout=DEADLINE), one_read.pop(0)]  # which the user keeps
            refs = one_read + graph.execute(-step)
            del one_read
            interrupted = let_go(refs, step)
            again = [graph.execute(number) for number in range(IN_FLIGHT)]
            assert [ray.get(ref, timeout=DEADLINE) for refs in again for ref in refs] == [0, 0, 1, 1]
            assert read[0] == step
        assert step > 20


@pytest.mark.parametrize("options", OPTIONS)
def test_an_interrupt_at_any_bytecode_of_a_futures_destructor_costs_no_place(actors, options):
    async def program(graph: cgc.CompiledGraph) -> int:
        step, interrupted = 0, True
        while interrupted:
            step += 1
            futures = [future for number in range(IN_FLIGHT) for future in await graph.execute_async(number)]
            interrupted = let_go(futures, step)
            again = [future for number in range(IN_FLIGHT) for future in await graph.execute_async(number)]
            assert await asyncio.gather(*map(_result, again)) == [0, 0, 1, 1]
        return step

    dag = two_outputs(actors)
    with cgc.compile(dag, enable_asyncio=True, max_inflight_executions=IN_FLIGHT, **OPTIONS[options]) as graph:
        assert asyncio.run(program(graph)) > 20


def test_interrupts_at_any_moment_leave_a_graph_that_restarts_in_step(actors):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    moments, interrupts, number = random.Random(11), 0, 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with cgc.compile(two_outputs(actors), max_inflight_executions=IN_FLIGHT, **OPTIONS["idempotent"]) as graph:
            while interrupts < 300:
                last = number + 100  # the interrupt may come in a destructor
                try:
                    signal.setitimer(signal.ITIMER_REAL, moments.uniform(2e-5, 1e-3))
                    while number < last:
                        refs = []  # an older one that is kept would keep those from making room that come after it
                        number += 1
                        refs = graph.execute(number)
                        values = [ref.get(timeout=DEADLINE) for ref in refs[: moments.choice((1, 2))]]
                        assert set(values) == {number}
                except KeyboardInterrupt:
                    interrupts += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            del refs
            again = [graph.execute(number) for number in range(IN_FLIGHT)]
            assert [ray.get(ref, timeout=DEADLINE) for refs in again for ref in refs] == [0, 0, 1, 1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def _result(future: Any) -> Any:
    return await future
