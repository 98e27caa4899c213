"""Communicators of devices that fail, and actors that die, in graphs of real actors with adversarial devices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import InputNode
from ray.exceptions import ActorDiedError, RayChannelError

import cgc
from cgc.runtime import worker
from cgc.runtime.accelerators import base
from cgc.runtime.communicators import groups
from tests.runtime.accelerators.post import driver_device
from tests.runtime.accelerators.test_actors import Arithmetic, reset
from tests.runtime.accelerators.world import Conditional
from tests.runtime.core_peers import eventually

DEADLINE = 60.0
SOON = 5.0
"""Seconds: far below every time-out, of the stand-ins' streams (20) and joining (30) and of nccl (60)."""


class Fragile(Arithmetic):
    """An actor whose device and communicators can be broken."""

    def break_communicator(self, reason: str, hangs: bool) -> None:
        self.device.communicators[-1].fail(reason, hangs=hangs)

    def let_the_guard_sleep(self) -> None:
        groups.GUARD_INTERVAL = DEADLINE

    def die_when_joining(self) -> None:
        self.device.dies_when_joining = True

    def make_and_freeze(self, value: float) -> Any:
        """An array that is announced, and never sent."""
        self.world.frozen = True  # type: ignore[union-attr]
        return self.make(value)

    def waits(self) -> bool:
        """Whether a stream waits for another actor."""
        assert self.world is not None
        with self.world.lock:
            heads = [stream.queue[0] for stream in self.world.streams if stream.queue]
        return any(isinstance(head, Conditional) and not head.ready() for head in heads)

    def graphs(self) -> list[str]:
        return worker.running_graphs()

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def actors(ray_session: None) -> Iterator[list[Any]]:
    base.register(driver_device())
    made = [ray.remote(num_cpus=0)(Fragile).remote() for _ in range(3)]
    reset(made, [{}] * len(made), seed=1)
    yield made
    for actor in made:
        ray.kill(actor)


def chain(first: Any, second: Any, method: str = "make", **options: Any) -> Any:
    with InputNode() as inp:
        made = getattr(first, method).bind(inp).with_tensor_transport("nccl")
        return cgc.compile(second.double.bind(made), **options)


def check_that_it_works(first: Any, second: Any) -> None:
    with chain(first, second) as graph:
        result = ray.get(graph.execute(2.0), timeout=DEADLINE)
        np.testing.assert_array_equal(result["array"], np.full((2, 2), 4.0))


def kill(actor: Any) -> float:
    """End its process; the time."""
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    return time.monotonic()


def assert_all_have_left(*survivors: Any) -> None:
    eventually(lambda: ray.get([each.graphs.remote() for each in survivors]) == [[]] * len(survivors), "all have left")


def test_what_a_communicator_has_spoiled_does_not_leave_the_actor(actors: list[Any]) -> None:
    first, second, _ = actors
    ray.get(second.let_the_guard_sleep.remote())
    with chain(first, second) as graph:
        assert ray.get(graph.execute(1.0), timeout=DEADLINE)["text"] == "beside"
        ray.get(second.break_communicator.remote("a link is down", hangs=False))
        with pytest.raises(RayChannelError, match="a link is down"):
            ray.get(graph.execute(1.0), timeout=DEADLINE)
        assert_all_have_left(first, second)
    check_that_it_works(first, second)


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
def test_who_hangs_in_a_communicator_that_has_failed_is_freed(actors: list[Any], streams: bool) -> None:
    first, second, _ = actors
    with chain(first, second, "make_and_freeze", overlap_gpu_communication=streams) as graph:
        ref = graph.execute(1.0)
        eventually(lambda: ray.get(second.waits.remote()), "the second actor receives")
        begin = time.monotonic()
        ray.get(second.break_communicator.remote("a link is down", hangs=True))
        with pytest.raises(RayChannelError, match="a link is down"):
            ray.get(ref, timeout=DEADLINE)
        assert_all_have_left(first, second)
        assert time.monotonic() - begin < SOON
    reset(actors, [{}] * len(actors), seed=2)
    check_that_it_works(first, second)


def test_a_failure_ends_a_graph_that_nobody_executes(actors: list[Any]) -> None:
    first, second, _ = actors
    with chain(first, second) as graph:
        ray.get(first.break_communicator.remote("a link is down", hangs=True))
        assert_all_have_left(first, second)
        with pytest.raises(RayChannelError, match="a link is down"):
            ray.get(graph.execute(1.0), timeout=DEADLINE)
    check_that_it_works(first, second)


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
def test_the_death_of_an_idle_actor_frees_the_others(actors: list[Any], streams: bool) -> None:
    first, second, third = actors
    with chain(first, second, overlap_gpu_communication=streams) as graph:
        assert ray.get(graph.execute(1.0), timeout=DEADLINE)["text"] == "beside"
        begin = kill(first)
        assert_all_have_left(second)
        assert time.monotonic() - begin < SOON
        with pytest.raises(ActorDiedError):
            ray.get(graph.execute(1.0), timeout=DEADLINE)
    check_that_it_works(third, second)


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
def test_the_death_of_a_sender_frees_the_receiver(actors: list[Any], streams: bool) -> None:
    first, second, third = actors
    with chain(first, second, "make_and_freeze", overlap_gpu_communication=streams) as graph:
        ref = graph.execute(1.0)
        eventually(lambda: ray.get(second.waits.remote()), "the second actor receives")
        begin = kill(first)
        with pytest.raises(ActorDiedError):
            ray.get(ref, timeout=DEADLINE)
        assert_all_have_left(second)
        assert time.monotonic() - begin < SOON
    check_that_it_works(third, second)


def test_the_death_of_an_actor_that_joins_frees_the_others(actors: list[Any]) -> None:
    first, second, third = actors
    ray.get(first.die_when_joining.remote())
    begin = time.monotonic()
    with pytest.raises(ActorDiedError):
        chain(first, second)
    assert_all_have_left(second)
    assert time.monotonic() - begin < SOON
    check_that_it_works(third, second)
