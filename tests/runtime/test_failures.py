"""Deaths of actors and drivers, with real kills: who is told what, how fast, and what is left."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayChannelError

from cgc.runtime import worker
from tests.runtime.helpers import (
    DEADLINE,
    Actor,
    Gate,
    chain,
    eventually,
    fan_out,
    pass_through,
    running,
    start,
)

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def sigkill(actor: Any) -> None:
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)


def segfault(actor: Any) -> None:
    os.kill(ray.get(actor.pid.remote()), signal.SIGSEGV)


def leave(actor: Any) -> None:
    actor.apply.remote(lambda _: os._exit(1))


def exit_actor(actor: Any) -> None:
    actor.apply.remote(lambda _: ray.actor.exit_actor())


CAUSES = {
    ray.kill: "killed by `ray.kill`",
    sigkill: "unexpected",
    segfault: "unexpected",
    leave: "exit",
    exit_actor: "exit_actor()",
}
"""What an error has to say of each kind of end."""


def until_it_raises(function: Callable[[], Any], deadline: float = DEADLINE) -> BaseException:
    """Call until it raises something; the exception."""
    begin = time.monotonic()
    while time.monotonic() - begin < deadline:
        try:
            function()
        except Exception as error:
            return error
    raise AssertionError(f"nothing was raised within {deadline} s")


@pytest.mark.parametrize("kill", [ray.kill, sigkill, segfault, leave, exit_actor], ids=lambda f: f.__name__)
def test_death_reaches_every_pending_ref_and_the_survivors_are_free(kill):
    name = f"victim of {kill.__name__}"
    gate, victim, survivor = Gate.remote(), Actor.options(name=name).remote(), Actor.remote()
    driver = start(chain("echo", "apply"), [survivor, victim])
    arrived = driver.execute(lambda _: "arrived")
    eventually(lambda: driver._outlets.outlets[0].ready(), "the first result")

    def block(_: Any) -> None:
        ray.get(gate.open.remote("blocking"))
        threading.Event().wait(DEADLINE)  # no Ray call: an actor that leaves waits for those

    pending = [driver.execute(block)]
    ray.get(gate.wait.remote("blocking"))
    pending += [driver.execute(lambda _: 1) for _ in range(3)]
    info = driver.infos["a1"]
    kill(victim)
    error = until_it_raises(lambda: ray.get(pending[0]))
    assert isinstance(error, ActorDiedError)
    who = f'@a1 (Actor "{info.name}", actor {info.actor_id}, pid {info.pid})'
    assert f"Actor {who} of compiled graph {driver.get_id()}, on node {info.node_ip} ({info.node_id})," in str(error)
    assert CAUSES[kill] in str(error)
    for ref in pending[1:]:
        error = until_it_raises(lambda ref=ref: ray.get(ref))
        assert isinstance(error, ActorDiedError)
    assert ray.get(arrived) == "arrived"
    with pytest.raises(ActorDiedError):
        driver.execute(1)
    driver.teardown()
    assert ray.get(survivor.echo.remote("alive")) == "alive"
    assert ray.get(survivor.threads.remote()) == []
    with running(chain("echo"), [survivor]) as again:
        assert ray.get(again.execute(1)) == 1


def test_a_blocked_get_wakes_at_once():
    gate, victim = Gate.remote(), Actor.remote()
    driver = start(chain("apply"), [victim])
    refs = [driver.execute(lambda _: pass_through(gate, "blocked"))]
    ray.get(gate.wait.remote("blocked entered"))
    pid = driver.infos["a0"].pid
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(ActorDiedError, match=f"pid {pid}"):
        ray.get(refs[0], timeout=DEADLINE)
    driver.teardown()


@pytest.mark.parametrize("ending", ["death", "teardown"])
def test_refs_that_are_kept_do_not_hide_that_the_graph_has_ended(ending):
    gate = Gate.remote()
    driver = start(chain("apply"), [Actor.remote()], max_inflight_executions=2)
    refs = [driver.execute(lambda _: pass_through(gate, "never")) for _ in range(2)]
    ray.get(gate.wait.remote("never entered"))
    if ending == "death":
        os.kill(driver.infos["a0"].pid, signal.SIGKILL)
        for ref in refs:
            with pytest.raises(ActorDiedError):
                ray.get(ref)
    else:
        ray.get(gate.open.remote("never"))
        driver.teardown()
    with pytest.raises(ActorDiedError if ending == "death" else RayChannelError):
        driver.execute(1)
    driver.teardown()


def test_the_reason_of_an_end_holds_nothing_of_those_who_were_told():
    class Held:
        pass

    def get_and_fail(ref: Any) -> weakref.ref[Held]:
        held = Held()
        try:
            ray.get(ref)
        except ActorDiedError:
            return weakref.ref(held)
        raise AssertionError("the actor is dead")

    with running(chain("echo"), [Actor.remote()]) as driver:
        os.kill(driver.infos["a0"].pid, signal.SIGKILL)
        eventually(lambda: driver._session.ended_untold, "the death is seen")
        held = get_and_fail(driver.execute(0))
        gc.collect()
        assert held() is None
        first, second = driver._session.failure(), driver._session.failure()
        assert first is not second
        assert str(first) == str(second)


def test_exit_actor_and_sys_exit_inside_a_method_of_the_graph():
    for leaving in (lambda _: ray.actor.exit_actor(), lambda _: sys.exit(3)):
        victim, survivor = Actor.remote(), Actor.remote()
        driver = start(fan_out("apply", "echo"), [victim, survivor])
        ray.get(driver.execute(lambda _: 1))
        ref, _ = driver.execute(leaving)
        with pytest.raises(ActorDiedError):
            ray.get(ref)
        driver.teardown()
        error = until_it_raises(lambda victim=victim: ray.get(victim.echo.remote(1)))
        assert isinstance(error, ActorDiedError)
        assert ray.get(survivor.echo.remote(1)) == 1


def test_a_restarted_actor_is_a_death_for_the_graph_and_can_be_used_again():
    actor = Actor.options(max_restarts=1, max_task_retries=-1).remote()
    driver = start(chain("echo"), [actor])
    os.kill(driver.infos["a0"].pid, signal.SIGKILL)
    error = until_it_raises(lambda: ray.get(driver.execute(1)))
    assert isinstance(error, ActorDiedError)
    assert "a0" in str(error)
    driver.teardown()
    with running(chain("echo"), [actor]) as again:
        assert ray.get(again.execute(1)) == 1


def test_a_failure_of_cgc_itself_in_a_worker_is_shown():
    actor, other = Actor.remote(), Actor.remote()
    driver = start(chain("echo", "echo"), [actor, other])
    graph = driver.get_id()
    assert ray.get(driver.execute(0)) == 0  # the threads have begun

    def sabotage(_: Any) -> None:
        (thread,) = (t for t in threading.enumerate() if t.name == f"cgc-{graph}-a0")
        raised = ctypes.py_object(GeneratorExit)  # no Exception: no value's error
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), raised)

    ray.get(actor.apply.remote(sabotage))
    error = until_it_raises(lambda: ray.get(driver.execute(1)))
    assert isinstance(error, RayChannelError)
    assert "cgc failed in the worker of actor @a0" in str(error)
    assert "GeneratorExit" in str(error)
    driver.teardown()
    with running(chain("echo", "echo"), [actor, other]) as again:
        assert ray.get(again.execute(1)) == 1


# Starting.


def test_a_dead_actor_at_the_start(kill_actor):
    alive, dead = Actor.remote(), Actor.remote()
    ray.get([alive.pid.remote(), dead.pid.remote()])
    kill_actor(dead)
    with pytest.raises(ActorDiedError, match=r"@a1 \(Actor, actor [0-9a-f]+\)"):
        start(chain("echo", "echo"), [alive, dead])
    assert ray.get(alive.threads.remote()) == []


def test_an_actor_whose_constructor_fails():
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("cannot be made")

    with pytest.raises(ActorDiedError, match="cannot be made"):
        start(chain("echo", "echo"), [Actor.remote(), Broken.remote()])


def test_an_actor_that_never_starts():
    with pytest.raises(GetTimeoutError, match=r"@a0 \(Actor"):
        start(chain("echo"), [Actor.options(resources={"nowhere": 1}).remote()], probe_timeout=0.2)


def test_a_worker_that_cannot_start_stops_the_others():
    actors = [Actor.remote(), Actor.remote()]
    with pytest.raises(RuntimeError, match=r"@a1 \(Actor, actor .*has no attribute 'no_such_method'"):
        start(chain("echo", "no_such_method"), actors)
    eventually(lambda: ray.get([a.threads.remote() for a in actors]) == [[], []], "no loop is left")
    with running(chain("echo", "echo"), actors) as driver:
        assert ray.get(driver.execute(1)) == 1


def test_generators_are_refused():
    @ray.remote
    class Modern:
        def stream(self, value: Any) -> Any:
            yield value

        async def astream(self, value: Any) -> Any:
            yield value

    for method in ("stream", "astream"):
        with pytest.raises(RuntimeError, match=rf"@a0 \(Modern, .*test.py:\d+: Modern.{method} is a generator"):
            start(chain(method), [Modern.remote()])


# The end of a graph, whoever ends it.


def test_teardown_is_bounded_and_names_the_late_actor(caplog, monkeypatch):
    monkeypatch.setattr(ray.dag.DAGContext.get_current(), "teardown_timeout", 0.3)
    gate, actor = Gate.remote(), Actor.remote()
    driver = start(chain("apply"), [actor])
    ref = driver.execute(lambda _: pass_through(gate, "teardown"))
    ray.get(gate.wait.remote("teardown entered"))
    with caplog.at_level("WARNING", logger="cgc"):
        driver.teardown()
    assert "@a0 (Actor, actor" in caplog.text
    assert "call apply" in caplog.text
    with pytest.raises(RayChannelError, match="torn down"):
        ray.get(ref)
    ray.get(gate.open.remote("teardown"))
    eventually(lambda: ray.get(actor.threads.remote()) == [], "the loop ends when the method returns")


def test_teardown_can_kill_the_actors():
    actor = Actor.remote()
    driver = start(chain("echo"), [actor])
    driver.teardown(kill_actors=True)
    error = until_it_raises(lambda: ray.get(actor.echo.remote(1)))
    assert isinstance(error, ActorDiedError)


def test_teardown_while_others_get_and_execute():
    gate, actor = Gate.remote(), Actor.remote()
    driver = start(chain("apply"), [actor])
    ref = driver.execute(lambda _: pass_through(gate, "concurrent"))
    ray.get(gate.wait.remote("concurrent entered"))
    errors: list[BaseException] = []

    def blocked() -> None:
        errors.append(until_it_raises(lambda: ray.get(ref, timeout=DEADLINE)))

    thread = threading.Thread(target=blocked)
    thread.start()
    closing = threading.Thread(target=driver.teardown)
    closing.start()
    thread.join(DEADLINE)
    ray.get(gate.open.remote("concurrent"))
    closing.join(DEADLINE)
    assert isinstance(errors[0], RayChannelError)


def test_a_graph_that_nobody_holds_ends():
    actor = Actor.remote()
    driver = start(chain("echo"), [actor])
    ref = driver.execute(1)
    del driver
    assert ray.get(ref) == 1
    assert ray.get(actor.threads.remote()) != []
    del ref
    eventually(lambda: ray.get(actor.threads.remote()) == [], "the loop ends with the last reference")


DETACHED_DRIVER = """
import os, signal, sys, time
import ray
from tests.runtime.helpers import Actor, chain, start
ray.init(address={address!r}, namespace="watch", log_to_driver=False, configure_logging=False)
actor = Actor.options(name="survivor", lifetime="detached").remote()
driver = start(chain("echo"), [actor])
assert ray.get(driver.execute(1)) == 1
print("ready", flush=True)
{ending}
"""

ENDINGS = {
    "kill -9": "time.sleep(600)",
    "exit": "sys.exit(0)",
    "exception": "raise RuntimeError('the driver fails')",
    "ray.shutdown": "ray.shutdown()",
    "ref pending at exit": "ref = driver.execute(2); held = driver",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_the_driver_ends_the_loops(ending):
    address = ray.get_runtime_context().gcs_address
    code = DETACHED_DRIVER.format(address=address, ending=ENDINGS[ending])
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", process.communicate()[1]
        if ending == "kill -9":
            process.kill()
        process.wait(60)
        survivor = ray.get_actor("survivor", namespace="watch")
        eventually(lambda: ray.get(survivor.threads.remote()) == [], "the loop ends")
        maps = ray.get(survivor.apply.remote(lambda _: [m for m in open("/proc/self/maps") if "memfd:cgc" in m]))
        assert maps == []
        with running(chain("echo"), [survivor]) as driver:
            assert ray.get(driver.execute(1)) == 1
    finally:
        process.kill()
        process.communicate()
        ray.kill(ray.get_actor("survivor", namespace="watch"))


def test_descriptors_and_threads_do_not_pile_up():
    actor = Actor.remote()

    def usage(_: Any = None) -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(worker.running_graphs())

    def once() -> None:
        with running(chain("echo"), [actor]) as driver:
            ray.get(driver.execute(1))

    once()
    here, there = usage()[0], ray.get(actor.apply.remote(usage))[0]
    for _ in range(10):
        once()
    eventually(lambda: ray.get(actor.apply.remote(usage))[0] <= there + 1, "descriptors of the actor")
    eventually(lambda: usage()[0] <= here + 1, "descriptors of the driver")
