"""Executing graphs with real actors: results, several graphs, memory, references, the end."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import RayChannelError
from ray.experimental.compiled_dag_ref import CompiledDAGRef

from cgc.runtime.program import DRIVER, Constant
from tests.runtime.helpers import (
    DEADLINE,
    SLOTS,
    Actor,
    GraphBuilder,
    chain,
    eventually,
    fan_out,
    pass_through,
    running,
    start,
)

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


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
    def mapped() -> set[str]:
        return {line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:cgc" in line}

    before = mapped()
    driver = start(chain("echo"), actors[:1])
    held = ray.get(driver.execute(np.arange(1 << 17)))
    unread = driver.execute(np.arange(1 << 17))
    eventually(lambda: driver._outlets.outlets[0].ready(), "the second result")
    driver.teardown()
    assert mapped() - before
    assert int(held[-1]) == int(ray.get(unread)[-1]) == (1 << 17) - 1
    del held
    assert mapped() <= before
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
