"""Errors of the application: which outputs they reach, what they say, and that the graph goes on."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import RayTaskError

from cgc.runtime.program import DRIVER
from tests.runtime.helpers import FailsToLoad, GraphBuilder, chain, fan_out, running

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


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


def test_no_shared_memory_left_is_an_error_of_that_execution(actors):
    with running(chain("apply"), actors[:1], max_channel_bytes=8 << 20) as driver:
        with pytest.raises(MemoryError, match="shared memory"):
            driver.execute(np.zeros(64 << 20, dtype=np.uint8))
        with pytest.raises(MemoryError, match="call apply on @a0"):
            ray.get(driver.execute(lambda _: np.zeros(64 << 20, dtype=np.uint8)))
        assert ray.get(driver.execute(lambda _: 1)) == 1
