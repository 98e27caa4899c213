"""An actor is killed while the others are inside a collective, where nobody sees a ring any more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError
from ray.experimental.collective import allreduce

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from tests.runtime.communicators.socket_communicator import SocketCommunicator
from tests.runtime.communicators.told_actors import DEADLINE, WAYS, Actor, Gate, eventually_left

SOON = 20.0
"""Seconds; generous, and far less than any time-out of gloo."""

ALL_WAYS: dict[str, Callable[[list[Any]], Any]] = {**WAYS, "custom": SocketCommunicator}


@pytest.fixture(scope="module")
def survivors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


def compiled(actors: list[Any], transport: Any, streams: bool) -> Any:
    with InputNode() as inp:
        parts = [actor.apply.bind(inp[rank]) for rank, actor in enumerate(actors)]
        sums = allreduce.bind(parts, transport=transport)
        beside = [actor.apply.bind(inp[len(actors)]) for actor in actors]  # what a stream runs beside
        looks = [actor.look.bind(part) for actor, part in zip(actors, sums, strict=True)]
        return cgc.compile(MultiOutputNode([*looks, *beside]), overlap_gpu_communication=streams)


def sums_of(graph: Any, actors: list[Any]) -> list[Any]:
    parts = [lambda rank=rank: torch.full((2,), float(rank)) for rank, _ in enumerate(actors)]
    results = ray.get(graph.execute(*parts, lambda: None), timeout=DEADLINE)
    return [result[2] for result in results[: len(actors)]]


def wait_until_inside(graph: Any, numbers: list[int], execution: int, streams: bool) -> None:
    """Wait until these actors have nothing to do in the execution but to wait for the result of the collective."""
    operation = " = wait r" if streams else " = allreduce sum"
    deadline = time.monotonic() + DEADLINE
    while True:
        statuses = [graph.status()[number] for number in numbers]
        if all(status.execution == execution and operation in status.operation for status in statuses):
            return
        assert time.monotonic() < deadline, statuses
        time.sleep(0.01)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("way", ALL_WAYS)
def test_who_is_inside_a_collective_hears_of_a_death(survivors: list[Any], way: str, streams: bool) -> None:
    victim, gate = Actor.remote(), Gate.remote()
    actors = [*survivors, victim]
    pid = ray.get(victim.apply.remote(os.getpid))
    executions = SILENT_AFTER + 2  # from here on nobody is told who comes: they enter at once
    with compiled(actors, ALL_WAYS[way](actors), streams) as graph:
        assert ("on stream 3" in str(graph.programs["Actor_0"])) == streams
        for _ in range(executions):
            assert sums_of(graph, actors) == [[3.0, 3.0]] * 3
        entered = [lambda: torch.ones(2), lambda: torch.ones(2)]
        refs = graph.execute(*entered, lambda: ray.get(gate.wait.remote()), lambda: None)
        wait_until_inside(graph, [0, 1], executions, streams)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        for ref in refs:
            with pytest.raises(ActorDiedError):
                ray.get(ref, timeout=SOON)
        assert time.monotonic() - killed < SOON
    for actor in survivors:
        eventually_left(actor)
    with compiled(survivors, ALL_WAYS[way](survivors), streams) as again:
        for _ in range(executions):
            assert sums_of(again, survivors) == [[1.0, 1.0]] * 2
