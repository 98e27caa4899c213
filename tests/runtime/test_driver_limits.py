"""Refs, and what they keep in flight: limits, time-outs, interrupts."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import signal
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import DAGContext
from ray.exceptions import RayCgraphCapacityExceeded, RayChannelTimeoutError

from cgc.runtime.program import DRIVER
from tests.runtime.helpers import DEADLINE, GraphBuilder, chain, ctrl_c, fan_out, pass_through, running

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def test_a_ref_can_be_read_once_and_not_copied(actors):
    with running(chain("echo"), actors[:1]) as driver:
        ref = driver.execute(1)
        for copying in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(ValueError, match="cannot be"):
                copying(ref)
        assert ray.get(ref) == 1
        with pytest.raises(ValueError, match="only be called once"):
            ray.get(ref)
        with pytest.raises(TypeError, match="CompiledDAGRef"):
            ray.put(driver.execute(2))


def test_results_out_of_order(actors):
    with running(chain("echo"), actors[:1]) as driver:
        refs = [driver.execute(i) for i in range(10)]
        for number in (7, 2, 9, 0, 1, 8, 3, 4, 5, 6):
            assert ray.get(refs[number]) == number


def test_outputs_are_independent_of_each_other(actors, gate):
    with running(fan_out("echo", "apply"), actors[:2]) as driver:
        pairs = [driver.execute(lambda _, i=i: pass_through(gate, str(i))) for i in range(4)]
        for quick, _ in pairs:
            assert callable(ray.get(quick, timeout=DEADLINE))
        for i, (_, slow) in enumerate(pairs):
            with pytest.raises(RayChannelTimeoutError):
                ray.get(slow, timeout=0)
            ray.get(gate.open.remote(str(i)))
            assert ray.get(slow, timeout=DEADLINE) is None


def test_dropped_refs_release_their_place(actors):
    with running(chain("echo"), actors[:1], max_inflight_executions=2) as driver:
        for i in range(20):
            driver.execute(i)
        kept = driver.execute("kept")
        for i in range(5):
            driver.execute(i)
            driver.execute(i) if i % 2 else None
            assert ray.get(kept) == "kept" if not i else True
        assert ray.get(driver.execute("last")) == "last"
        assert len(driver._outlets.records) == 0


def test_a_dropped_output_frees_its_value(actors):
    with running(fan_out("echo", "echo"), actors[:2]) as driver:
        refs = driver.execute(np.zeros(10))
        assert ray.get(refs[0]).shape == (10,)
        del refs
        gc.collect()
        assert ray.get(driver.execute(1)) == [1, 1]
        assert not driver._outlets.records


def test_max_inflight_executions(actors):
    with running(chain("echo"), actors[:1], max_inflight_executions=3) as driver:
        refs = [driver.execute(i) for i in range(3)]
        with pytest.raises(RayCgraphCapacityExceeded, match=r"more than 3 in-flight.*currently have 3"):
            driver.execute(3)
        assert ray.get(refs[0]) == 0
        refs.append(driver.execute(3))
        with pytest.raises(RayCgraphCapacityExceeded):
            driver.execute(4)
        assert ray.get(refs[1:]) == [1, 2, 3]


def test_max_buffered_results(actors):
    with running(chain("echo"), actors[:1], max_buffered_results=2) as driver:
        one, two, three, four = (driver.execute(i) for i in range(1, 5))
        assert ray.get(two) == 2
        with pytest.raises(RayCgraphCapacityExceeded, match="more than 2 buffered results, and you currently have 2"):
            ray.get(four)
        assert ray.get(one) == 1
        assert ray.get(four) == 4
        assert ray.get(three) == 3


def test_context_gives_the_defaults(actors, gate):
    context = DAGContext.get_current()
    before = context.max_inflight_executions, context.get_timeout
    context.max_inflight_executions, context.get_timeout = 1, 0
    try:
        with running(chain("apply"), actors[:1]) as driver:
            ref = driver.execute(lambda _: pass_through(gate, "context"))
            with pytest.raises(RayCgraphCapacityExceeded):
                driver.execute(1)
            with pytest.raises(RayChannelTimeoutError, match="RAY_CGRAPH_get_timeout which is currently 0"):
                ray.get(ref)
            ray.get(gate.open.remote("context"))
            assert ray.get(ref, timeout=-1) is None
    finally:
        context.max_inflight_executions, context.get_timeout = before


def test_a_time_out_names_the_late_actor_and_the_ref_is_readable_later(actors, gate):
    with running(chain("echo", "apply"), actors[:2]) as driver:
        ref = driver.execute(lambda _: pass_through(gate, "late"))
        ray.get(gate.wait.remote("late entered"))
        with pytest.raises(RayChannelTimeoutError) as caught:
            ray.get(ref, timeout=0.05)
        late, waiting = str(caught.value).split("Waiting:")
        assert "@a1 (Actor, actor " in late
        assert "calling in execution 0" in late
        assert "call apply(r0)" in late
        assert "@a0 (Actor, actor " in waiting
        assert "read c0 from @driver" in waiting
        ray.get(gate.open.remote("late"))
        assert ray.get(ref, timeout=DEADLINE) is None


def test_a_time_out_in_the_middle_of_several_results(actors, gate):
    with running(fan_out("apply", "echo"), actors[:2]) as driver:
        first, second = driver.execute(lambda _: pass_through(gate, "middle"))
        with pytest.raises(RayChannelTimeoutError):
            ray.get([second, first], timeout=0.05)
        ray.get(gate.open.remote("middle"))
        assert ray.get(first, timeout=DEADLINE) is None


def test_a_submission_that_finds_no_room(actors, gate):
    """The writer's ring is smaller than the in-flight limit, which the compiler never emits."""
    graph = chain("apply")
    graph.channels = [c.__class__(c.name, c.index, c.kind, c.writer, c.readers, 1, 64) for c in graph.channels]
    with running(graph, actors[:1], submit_timeout=0.05) as driver:
        refs = [driver.execute(lambda _: pass_through(gate, "no room"))]
        ray.get(gate.wait.remote("no room entered"))
        with pytest.raises(RayChannelTimeoutError, match=r"submit_timeout which is currently 0.05.*call apply"):
            refs.extend(driver.execute(lambda _: 1) for _ in range(10))
        ray.get(gate.open.remote("no room"))
        assert ray.get(refs, timeout=DEADLINE) == [None, *[1] * (len(refs) - 1)]
        assert ray.get(driver.execute(lambda _: 2)) == 2


def test_a_submission_that_is_cut_short_is_completed_later(actors, gate):
    """Two input channels, one of which is full: the execution counts, its refs are never handed out."""
    graph = GraphBuilder()
    left, right = graph.input(0), graph.input(1)
    (at_a0,) = graph.send(DRIVER, [left], graph.actor("a0"))
    graph.slots = 1
    (at_a1,) = graph.send(DRIVER, [right], graph.actor("a1"))
    graph.slots = 16
    ((one,),) = graph.send("a0", graph.call("a0", "echo", *at_a0), DRIVER)
    ((two,),) = graph.send("a1", graph.call("a1", "apply", *at_a1), DRIVER)
    graph.output(one, two)
    with running(graph, actors[:2], submit_timeout=0.05) as driver:
        refs = [driver.execute(0, lambda _: pass_through(gate, "cut short"))]
        ray.get(gate.wait.remote("cut short entered"))
        with pytest.raises(RayChannelTimeoutError):
            refs.extend(driver.execute(i, lambda _, i=i: i) for i in range(1, 5))
        ray.get(gate.open.remote("cut short"))
        assert ray.get(refs[0], timeout=DEADLINE) == [0, None]
        values = [ray.get(pair, timeout=DEADLINE) for pair in refs[1:]]
        assert values == [[i, i] for i in range(1, len(refs))]
        assert ray.get(driver.execute("x", lambda _: "y"), timeout=DEADLINE) == ["x", "y"]


def test_get_can_be_interrupted_and_the_graph_goes_on(actors, gate):
    with running(chain("apply"), actors[:1]) as driver:
        ref = driver.execute(lambda _: pass_through(gate, "interrupt"))
        ray.get(gate.wait.remote("interrupt entered"))
        with ctrl_c():
            ray.get(ref, timeout=DEADLINE)
        ray.get(gate.open.remote("interrupt"))
        assert ray.get(ref) is None
        assert ray.get(driver.execute(lambda _: 1)) == 1


@pytest.mark.usefixtures("swallowed")
def test_interrupts_at_any_moment_leave_the_graph_in_step(actors):
    """Ctrl-C hundreds of times, at random moments of a hot loop: no hang, no wrong value, no place lost."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    random_moments = random.Random(7)
    interrupts = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with running(fan_out("echo", "echo"), actors[:2], max_inflight_executions=4) as driver:
            number = 0
            while interrupts < 300:
                last = number + 100  # the interrupt may come in a destructor, where Python swallows it
                try:
                    signal.setitimer(signal.ITIMER_REAL, random_moments.uniform(2e-5, 1e-3))
                    while number < last:
                        number += 1
                        refs = driver.execute(number)
                        assert [ref.get(timeout=DEADLINE) for ref in refs] == [number, number]
                except KeyboardInterrupt:
                    interrupts += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            del refs
            assert [ray.get(ref, timeout=DEADLINE) for i in range(8) for ref in driver.execute(i)] == [
                i for i in range(8) for _ in range(2)
            ]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
