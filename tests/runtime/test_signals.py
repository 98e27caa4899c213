"""Signals, forks and spawned processes, in drivers and in actors: whoever waits can be interrupted, and all goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.runtime.helpers import DEADLINE, Actor, Gate, chain, ctrl_c, eventually, fan_out, pass_through, running

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


@contextmanager
def occupied(driver: Any) -> Iterator[Any]:
    """A ref of an execution that goes on until the end of the block, where it is read."""
    gate = Gate.remote()
    ref = driver.execute(lambda _: pass_through(gate, "busy"))
    ray.get(gate.wait.remote("busy entered"))
    yield ref
    ray.get(gate.open.remote("busy"))
    assert ray.get(ref) is None


def test_ctrl_c_while_a_submission_waits_for_room():
    graph = chain("apply")
    graph.channels = [dataclasses.replace(channel, slots=1) for channel in graph.channels]
    with running(graph, [Actor.remote()], submit_timeout=-1, max_inflight_executions=8) as driver:
        with occupied(driver):
            second = driver.execute(lambda _: 2)
            with ctrl_c():
                driver.execute(lambda _: 3)
        assert ray.get(second) == 2
        assert ray.get([driver.execute(lambda _, n=n: n) for n in range(2)]) == [0, 1]


def test_ctrl_c_while_another_thread_reads():
    with running(chain("apply"), [Actor.remote()]) as driver:
        with occupied(driver) as first:
            second = driver.execute(lambda _: 2)
            values: list[Any] = []
            reader = threading.Thread(target=lambda: values.append(second.get(timeout=DEADLINE)))
            reader.start()
            eventually(driver._fetch_lock.locked, "the thread reads")
            with ctrl_c():
                first.get(timeout=DEADLINE)
        reader.join(DEADLINE)
        assert values == [2]


def test_ctrl_c_during_teardown():
    gate = Gate.remote()
    actor = Actor.remote()
    with running(chain("apply"), [actor]) as driver:
        ref = driver.execute(lambda _: pass_through(gate, "teardown"))
        ray.get(gate.wait.remote("teardown entered"))
        with ctrl_c():
            driver.teardown()
        ray.get(gate.open.remote("teardown"))
        driver.teardown()
        with pytest.raises(ray.exceptions.RayChannelError):
            ray.get(ref)
    eventually(lambda: ray.get(actor.threads.remote()) == [], "the loop ends")


def test_ctrl_c_in_the_destructor_of_a_ref_costs_no_place():
    """Python swallows it at the destructor's first instruction: the destructor does nothing then."""

    def lose(ref: Any) -> None:
        ref._ray_get_called = True  # for the destructor, as if it were not run

    with running(chain("echo"), [Actor.remote()], max_inflight_executions=3, max_buffered_results=3) as driver:
        for number in range(20):
            lose(driver.execute(number))
        kept = [driver.execute(number) for number in range(3)]
        with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded):
            driver.execute(4)
        assert ray.get(kept) == [0, 1, 2]
    with running(fan_out("echo", "echo"), [Actor.remote(), Actor.remote()], max_buffered_results=2) as driver:
        for number in range(20):
            first, second = driver.execute(number)
            assert ray.get(first) == number
            lose(second)


def test_ctrl_c_while_a_result_is_awaited():
    gate = Gate.remote()
    with running(chain("apply"), [Actor.remote()], enable_asyncio=True) as driver:

        async def wait(function: Callable[[Any], Any]) -> Any:
            return await (await driver.execute_async(function))

        with ctrl_c(0.3):
            asyncio.run(wait(lambda _: pass_through(gate, "await")))
        ray.get(gate.open.remote("await"))
        assert asyncio.run(wait(lambda _: "after")) == "after"


def test_signals_in_an_actor_run_its_handlers_and_spoil_nothing():
    actor = Actor.remote()

    def count(actor: Any) -> None:
        actor.signals = 0

        def handler(*_: Any) -> None:
            actor.signals += 1

        signal.signal(signal.SIGUSR1, handler)

    ray.get(actor.apply.remote(count))
    with running(chain("echo"), [actor]) as driver:
        pid = driver.infos["a0"].pid
        done = threading.Event()

        def bombard() -> None:
            while not done.wait(0.0005):
                os.kill(pid, signal.SIGUSR1)

        thread = threading.Thread(target=bombard)
        thread.start()
        try:
            assert [ray.get(driver.execute(n)) for n in range(2000)] == list(range(2000))
        finally:
            done.set()
            thread.join()
    assert ray.get(actor.apply.remote(lambda actor: actor.signals)) > 0


def test_processes_that_a_method_starts():
    def start_processes(_: Any) -> list[Any]:
        done = subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True, check=True)
        child = os.fork()
        if not child:
            os._exit(7)
        return [done.stdout, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    with running(chain("apply"), [Actor.remote()]) as driver:
        for _ in range(2):
            assert ray.get(driver.execute(start_processes)) == ["child\n", 7]
        assert ray.get(driver.execute(lambda _: 1)) == 1


def test_spawned_processes_of_the_driver():
    with running(chain("echo"), [Actor.remote()]) as driver:
        ref = driver.execute("pending")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(os.getpid) != os.getpid()
            for own in (ref, driver):
                with pytest.raises((ValueError, TypeError), match=r"cannot be pickled|cannot pickle"):
                    pool.apply(repr, (own,))
        assert ray.get(ref) == "pending"
        assert ray.get(driver.execute(1)) == 1


def test_faulthandler_shows_the_graphs_thread_of_an_actor(tmp_path):
    target = tmp_path / "stacks"
    gate, actor = Gate.remote(), Actor.remote()

    def enable(actor: Any) -> None:
        actor.stacks = open(target, "w")
        faulthandler.register(signal.SIGUSR2, file=actor.stacks, all_threads=True)

    def the_method_of_the_graph(_: Any) -> None:
        pass_through(gate, "stacks")

    ray.get(actor.apply.remote(enable))
    with running(chain("apply"), [actor]) as driver:
        ref = driver.execute(the_method_of_the_graph)
        ray.get(gate.wait.remote("stacks entered"))
        os.kill(driver.infos["a0"].pid, signal.SIGUSR2)
        eventually(lambda: "in the_method_of_the_graph" in target.read_text(), "the stacks are written")
        ray.get(gate.open.remote("stacks"))
        assert ray.get(ref) is None


def test_faulthandler_of_a_driver_that_crashes(tmp_path):
    code = (
        "import ctypes, faulthandler, ray\n"
        "from tests.runtime.helpers import Actor, chain, start\n"
        f"ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False, configure_logging=False)\n"
        "faulthandler.enable()\n"
        "driver = start(chain('echo'), [Actor.remote()])\n"
        "assert ray.get(driver.execute(1)) == 1\n"
        "def crash(): ctypes.string_at(0)\n"
        "crash()\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=Path.cwd())
    assert process.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in process.stderr
    assert "in crash" in process.stderr
