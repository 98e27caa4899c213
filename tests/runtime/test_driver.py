"""Executing graphs with real actors: results, order, limits, time-outs, errors of the application."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import DAGContext
from ray.exceptions import RayCgraphCapacityExceeded, RayChannelError, RayChannelTimeoutError, RayTaskError
from ray.experimental.compiled_dag_ref import CompiledDAGRef

from cgc.runtime.program import DRIVER, Constant
from tests.runtime.helpers import (
    DEADLINE,
    SLOTS,
    Actor,
    Gate,
    GraphBuilder,
    chain,
    ctrl_c,
    eventually,
    fan_out,
    pass_through,
    running,
    start,
)

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    """Three actors for all tests of this file: each graph here leaves them as it found them."""
    return [Actor.remote() for _ in range(3)]


@pytest.fixture(scope="module")
def gate(ray_session: None) -> Any:
    return Gate.remote()


def test_echo_chain_and_fan_out(actors):
    with running(chain("echo"), actors[:1]) as driver:
        ref = driver.execute("hello")
        assert isinstance(ref, CompiledDAGRef)
        assert ray.get(ref) == "hello"
        assert driver.execute(2).get() == 2
    with running(chain("echo", "add", "echo"), actors) as driver:
        assert [ray.get(driver.execute(i)) for i in range(30)] == list(range(30))
    with running(fan_out("echo", "add", "pair"), actors) as driver:
        assert ray.get(driver.execute(1)) == [1, 1, (1, [1])]


def test_arguments_keywords_constants_and_several_results():
    graph = GraphBuilder()
    left, right = graph.input(0), graph.input("right")
    ((a, b),) = graph.send(DRIVER, [left, right], graph.actor("a0"))
    (total,) = graph.call("a0", "add", a, b, scale=Constant(10))
    first, second = graph.call("a0", "pair", total, results=2)
    ((x, y),) = graph.send("a0", [first, second], DRIVER)
    graph.output(y, x, x)
    with running(graph, [Actor.remote(bias=5)]) as driver:
        assert ray.get(driver.execute(1, right=2)) == [[35], 35, 35]
        with pytest.raises(ValueError, match="must be called with 1 positional args, got 0"):
            driver.execute(right=2)
        with pytest.raises(ValueError, match="must be called with kwarg `right`"):
            driver.execute(1)
        with pytest.raises(ValueError, match="no input of the name `wrong`"):
            driver.execute(1, right=2, wrong=3)
        assert ray.get(driver.execute(1, right=3)) == [[45], 45, 45]


def test_an_output_that_is_an_input(actors):
    graph = chain("echo")
    echoed = graph.operations[DRIVER][-1].values[0]
    graph.operations[DRIVER].pop()
    graph.output(0, echoed)
    with running(graph, actors[:1]) as driver:
        assert [ray.get(driver.execute(i)) for i in range(20)] == [[i, i] for i in range(20)]


def test_a_method_with_the_wrong_number_of_results(actors):
    graph = GraphBuilder()
    (received,) = graph.send(DRIVER, [graph.input()], graph.actor("a0"))
    results = graph.call("a0", "echo", *received, results=2)
    ((one, two),) = graph.send("a0", results, DRIVER)
    graph.output(one, two)
    with running(graph, actors[:1]) as driver:
        with pytest.raises(ValueError, match="Expected 2 outputs, but got 3 outputs"):
            ray.get(driver.execute((1, 2, 3)))
        assert ray.get(driver.execute((1, 2))) == [1, 2]


def test_one_graph_after_another_and_two_at_once_with_normal_calls_meanwhile(actors):
    actor = actors[0]
    for value in range(3):
        with running(chain("echo"), [actor]) as driver:
            assert ray.get(driver.execute(value)) == value
    with running(chain("echo"), [actor]) as one, running(chain("echo", "add"), actors[:2]) as two:
        refs = [(one.execute(i), two.execute(i)) for i in range(5)]
        assert ray.get(actor.echo.remote("normal")) == "normal"
        assert [(ray.get(a), ray.get(b)) for a, b in refs] == [(i, i) for i in range(5)]


def test_pipelining_upstream_takes_the_next_execution_while_downstream_works(actors, gate):
    with running(chain("echo", "apply"), actors[:2]) as driver:
        slow = driver.execute(lambda _: pass_through(gate, "pipeline"))
        ray.get(gate.wait.remote("pipeline entered"))
        quick = driver.execute(lambda _: "second")
        eventually(lambda: driver.status()[0].execution == 2, "the upstream actor waits for the third execution")
        assert driver.status()[1].activity == "calling"
        ray.get(gate.open.remote("pipeline"))
        assert ray.get([slow, quick]) == [None, "second"]


# Errors of the application.


def test_an_application_error_is_the_users_class_with_the_remote_traceback(actors):
    with running(chain("fail", "echo"), actors[:2]) as driver:
        for value in ("first", "second"):
            with pytest.raises(KeyError) as caught:
                ray.get(driver.execute(value))
            assert isinstance(caught.value, RayTaskError)
            assert caught.value.cause.args == (value,)
            text = str(caught.value)
            assert "in fail\n" in text
            assert "Actor.fail()" in text
            assert "link.py" not in text
            assert "test.py" in text


def test_an_error_reaches_the_outputs_that_depend_on_it_and_no_others(actors):
    graph = GraphBuilder()
    a0, a1 = graph.actor("a0"), graph.actor("a1")
    at_a0, at_a1 = graph.send(DRIVER, [graph.input()], a0, a1)
    (failed,) = graph.call(a0, "fail", *at_a0)
    (fine,) = graph.call(a0, "echo", *at_a0)
    ((failed_at_a1,),) = graph.send(a0, [failed], a1)
    (depends,) = graph.call(a1, "add", *at_a1, failed_at_a1)
    (independent,) = graph.call(a1, "echo", *at_a1)
    ((out_failed, out_fine),) = graph.send(a0, [failed, fine], DRIVER)
    ((out_depends, out_independent),) = graph.send(a1, [depends, independent], DRIVER)
    graph.output(out_failed, out_fine, out_depends, out_independent)
    with running(graph, actors[:2]) as driver:
        for _ in range(3):
            refs = driver.execute("x")
            assert ray.get([refs[1], refs[3]]) == ["x", "x"]
            for ref in (refs[0], refs[2]):
                with pytest.raises(KeyError):
                    ray.get(ref)


def test_values_that_cannot_be_sent_are_errors_of_that_execution(actors):
    graph = fan_out("apply", "echo")
    with running(graph, actors[:2]) as driver:
        bad, good = driver.execute(lambda _: threading.Lock())
        assert callable(ray.get(good))
        with pytest.raises(TypeError, match=r"call apply on @a0 \(test.py:\d+\).*_thread.lock") as caught:
            ray.get(bad)
        assert isinstance(caught.value, RayTaskError)
        assert 'File "' not in str(caught.value), "the way through cgc and the pickler tells the user nothing"
        with pytest.raises(TypeError, match=r"input of the graph, a _thread.lock"):
            driver.execute(threading.Lock())
        later, _ = driver.execute(lambda _: "later")
        assert ray.get(later) == "later"


class FailsToLoad:
    def __reduce__(self) -> Any:
        return _raise, ("broken state",)


def _raise(text: str) -> None:
    raise ValueError(text)


def test_errors_while_deserialising_are_errors_of_that_execution(actors):
    with running(chain("echo"), actors[:1]) as driver:
        with pytest.raises(ValueError, match="broken state") as caught:
            ray.get(driver.execute(FailsToLoad()))
        assert "r0 = read c0" in str(caught.value)
        assert ray.get(driver.execute(1)) == 1
    with running(chain("apply"), actors[:1]) as driver:
        with pytest.raises(ValueError, match="broken state"):
            ray.get(driver.execute(lambda _: FailsToLoad()))
        assert ray.get(driver.execute(lambda _: 1)) == 1


def test_a_raised_keyboard_interrupt_is_an_error_of_the_execution(actors):
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt("in the actor")

    with running(chain("apply"), actors[:1]) as driver:
        with pytest.raises(RayTaskError, match="KeyboardInterrupt: in the actor"):
            ray.get(driver.execute(interrupt))
        assert ray.get(driver.execute(lambda _: 1)) == 1


# Refs.


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


# Time-outs.


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


# Memory.


def test_results_held_by_the_user_do_not_block_later_executions(actors):
    with running(chain("echo"), actors[:1], max_inflight_executions=2) as driver:
        held = [ray.get(driver.execute(np.full(1 << 17, i))) for i in range(40)]
        assert [int(array[-1]) for array in held] == list(range(40))
        assert not any(array.flags.writeable for array in held)


def test_values_kept_by_an_actor_do_not_block_later_executions():
    actor = Actor.remote()
    with running(chain("keep"), [actor]) as driver:
        for i in range(30):
            ray.get(driver.execute(np.full(1 << 17, i)))
    assert [int(array[-1]) for array in ray.get(actor.kept_values.remote())] == list(range(30))


def test_no_shared_memory_left_is_an_error_of_that_execution(actors):
    with running(chain("apply"), actors[:1], max_channel_bytes=8 << 20) as driver:
        with pytest.raises(MemoryError, match="shared memory"):
            driver.execute(np.zeros(64 << 20, dtype=np.uint8))
        with pytest.raises(MemoryError, match="call apply on @a0"):
            ray.get(driver.execute(lambda _: np.zeros(64 << 20, dtype=np.uint8)))
        assert ray.get(driver.execute(lambda _: 1)) == 1


def test_two_threads_do_not_corrupt_each_other(actors):
    results: list[int] = []
    with running(chain("echo"), actors[:1], max_inflight_executions=10) as driver:

        def work(first: int) -> None:
            for i in range(first, first + 300):
                value = ray.get(driver.execute(i))
                assert value == i
                results.append(value)

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [1000 * n + i for n in range(4) for i in range(300)]


# References of Ray inside values.


def test_object_refs_and_actor_handles_travel(actors):
    other = Actor.remote(bias=100)
    with running(chain("echo", "apply"), actors[:2]) as driver:
        ref = ray.put(np.arange(100_000))

        def use(_: Any) -> tuple[int, int]:
            return int(ray.get(ref)[-1]), ray.get(other.add.remote(1))

        assert ray.get(driver.execute(use)) == (99_999, 101)
    with running(chain("echo"), actors[:1]) as driver:
        (received,) = ray.get(driver.execute([ray.put("kept by nobody else")]))
        assert ray.get(received) == "kept by nobody else"
        handle = ray.get(driver.execute({"actor": other}))["actor"]
        assert ray.get(handle.add.remote(2)) == 102


# The end.


def test_after_teardown(actors):
    driver = start(chain("echo"), actors[:1])
    unread = driver.execute(1)
    buffered, later = driver.execute(2), driver.execute(3)
    ray.get(later)
    driver.teardown()
    driver.teardown()
    assert driver.is_teardown
    with pytest.raises(RayChannelError, match="torn down"):
        driver.execute(1)
    assert ray.get(buffered) == 2
    assert ray.get(unread) == 1
    assert ray.get(actors[0].threads.remote()) == []


def test_teardown_gives_the_memory_back_although_the_driver_is_kept(actors):
    def mapped() -> list[str]:
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:cgc" in line]

    driver = start(chain("echo"), actors[:1])
    held = ray.get(driver.execute(np.arange(1 << 17)))
    unread = driver.execute(np.arange(1 << 17))
    eventually(lambda: driver._outlets.outlets[0].ready(), "the second result")
    driver.teardown()
    assert mapped()
    assert int(held[-1]) == int(ray.get(unread)[-1]) == (1 << 17) - 1
    del held
    assert mapped() == []
    assert driver.status() == []


def test_a_fork_of_the_driver_leaves_the_graph_alone(actors):
    with running(chain("echo"), actors[:1]) as driver:
        child = os.fork()
        if not child:
            driver._session.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert ray.get(driver.execute(1)) == 1


def test_refs_outlive_the_sender_s_own(actors):
    """The receiver is a holder in Ray's books, however it came to the reference."""
    other = Actor.remote(bias=100)
    ray.get(other.pid.remote())
    makers = {
        "put": lambda: ray.put(np.arange(200_000)),
        "small put": lambda: ray.put([1]),
        "task result": lambda: other.apply.remote(lambda _: np.arange(200_000)),
        "actor": lambda: Actor.remote(bias=7),
    }
    first, second = Actor.remote(), actors[1]
    for kind, make in makers.items():
        with running(chain("echo", "keep"), [first, second]) as driver:
            reference = make()
            ray.get(reference.pid.remote() if kind == "actor" else reference)
            count = ray.get(driver.execute([reference]))
            del reference
            for _ in range(3 * SLOTS):
                ray.get(driver.execute(None))

        def use(actor: Any, count: int = count, kind: str = kind) -> bool:
            (reference,) = actor.kept[count - 1]
            return ray.get(reference.add.remote(1) if kind == "actor" else reference, timeout=DEADLINE) is not None

        assert ray.get(second.apply.remote(use)), kind
    with running(chain("apply"), [first]) as driver:
        reference = ray.get(driver.execute(lambda _: {"k": ray.put(np.arange(200_000))}))["k"]
        for _ in range(3 * SLOTS):
            ray.get(driver.execute(lambda _: None))
        assert int(ray.get(reference, timeout=DEADLINE)[-1]) == 199_999
