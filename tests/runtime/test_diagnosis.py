"""Who is late, and where in its code: by stacks of real actors that sleep, compute, hold the GIL, or are stopped."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
from ray.exceptions import RayChannelTimeoutError

from cgc.runtime.diagnosis import SHORTEST_WAIT, patience_after
from cgc.runtime.process_watch import process_state
from tests.runtime.helpers import DEADLINE, Actor, Gate, chain, eventually, pass_through, running

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def wait_in_the_users_code(gate: Any) -> None:
    pass_through(gate, "late")  # the line that a stack has to show


@contextmanager
def a_late_graph(*methods: str) -> Iterator[Any]:
    """A graph whose first actor is in `wait_in_the_users_code`, and a ref of it."""
    gate = Gate.remote()
    with running(chain(*methods), [Actor.remote() for _ in methods]) as driver:
        ref = driver.execute(lambda _: wait_in_the_users_code(gate))
        ray.get(gate.wait.remote("late entered"))
        try:
            yield driver, ref
        finally:
            ray.get(gate.open.remote("late"))
            ray.get(ref)


def test_a_time_out_shows_the_stack_of_the_late_actor_only():
    with a_late_graph("apply", "echo") as (_, ref):
        with pytest.raises(RayChannelTimeoutError) as caught:
            ref.get(timeout=SHORTEST_WAIT)
        text = str(caught.value)
        assert "Late: @a0 (Actor, actor" in text
        assert text.count("Stack of @") == 1
        assert "in wait_in_the_users_code\n" in text
        assert "# the line that a stack has to show" in text
        assert "threading.py" not in text.partition("in apply")[0], "frames of cgc come before the user's"


def test_polling_does_not_ask_for_stacks():
    with a_late_graph("apply") as (_, ref), pytest.raises(RayChannelTimeoutError) as caught:
        ref.get(timeout=0)
    assert "Late: @a0" in str(caught.value)
    assert "Stack of" not in str(caught.value)


def test_a_submission_that_finds_no_room_shows_the_stack():
    gate = Gate.remote()
    graph = chain("apply")
    graph.channels = [dataclasses.replace(channel, slots=1) for channel in graph.channels]
    with running(graph, [Actor.remote()], submit_timeout=SHORTEST_WAIT, max_inflight_executions=8) as driver:
        refs = [driver.execute(lambda _: wait_in_the_users_code(gate))]
        ray.get(gate.wait.remote("late entered"))
        with pytest.raises(RayChannelTimeoutError, match="in wait_in_the_users_code"):
            refs += [driver.execute(lambda _: 1) for _ in range(3)]
        ray.get(gate.open.remote("late"))
        ray.get(refs)


def test_status_at_any_time():
    with a_late_graph("apply", "echo") as (driver, _):
        without, (late, waiting) = driver.status(), driver.status(stacks=True)
    assert [status.stack for status in without] == ["", ""]
    assert "in wait_in_the_users_code" in late.stack
    assert str(late) == f"{late.head()}\n{late.stack}"
    assert (waiting.stack, str(waiting)) == ("", waiting.head())


def test_an_actor_that_cannot_answer_says_why():
    def hold_the_interpreter(_: Any) -> None:
        ctypes.PyDLL(None).usleep(int(1.5e6))  # PyDLL: the lock is kept meanwhile

    with running(chain("apply"), [Actor.remote()]) as driver:
        ref = driver.execute(hold_the_interpreter)
        eventually(lambda: driver.status()[0].activity == "calling", "the method runs")
        with pytest.raises(RayChannelTimeoutError, match=r"\(no stack: no answer within"):
            ref.get(timeout=SHORTEST_WAIT)
        ref.get(timeout=DEADLINE)


def test_a_stopped_process_is_told_and_goes_on_later():
    gate = Gate.remote()
    with running(chain("apply"), [Actor.remote()]) as driver:
        ref = driver.execute(lambda _: wait_in_the_users_code(gate))
        ray.get(gate.wait.remote("late entered"))
        pid = driver.infos["a0"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: process_state(pid) == "T", "the process is stopped")
            with pytest.raises(RayChannelTimeoutError, match="its process is stopped") as caught:
                ref.get(timeout=SHORTEST_WAIT)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert f"pid {pid}" in str(caught.value)
        ray.get(gate.open.remote("late"))
        assert ref.get(timeout=DEADLINE) is None
        assert ray.get(driver.execute(lambda _: "again")) == "again"


def test_stacks_do_not_hide_the_time_out_where_ray_cannot_be_asked(monkeypatch):
    def refuse(*_: Any) -> None:
        raise ray.exceptions.RaySystemError("shut down")

    with a_late_graph("apply") as (_, ref):
        with monkeypatch.context() as patch:
            patch.setattr("cgc.runtime.ray_internals.call_on_actor", refuse)
            with pytest.raises(RayChannelTimeoutError, match="Late: @a0"):
                ref.get(timeout=SHORTEST_WAIT)


def test_patience_is_bounded():
    assert patience_after(0) == patience_after(-1) == patience_after(0.1) == 0
    assert 0 < patience_after(1) <= 0.05
    assert patience_after(3600) == 0.5


def test_the_state_of_a_process():
    assert process_state(os.getpid()) in ("R", "S")
    process = os.posix_spawn("/bin/true", ["true"], {})
    eventually(lambda: process_state(process) == "Z", "the zombie of a process that has ended")
    os.waitpid(process, 0)
    assert process_state(process) == ""
