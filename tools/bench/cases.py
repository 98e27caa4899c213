"""
The workloads of the benchmarks: small graphs, each in the form of a DAG and in the form of plain actor calls.

A case knows its actors, how they are bound into a DAG, how the same work is called on classic Ray, and what is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.dag import DAGNode, InputNode, MultiOutputNode

MIB = 1 << 20


class Echo:
    """Returns what it gets: all that is measured is the way there and back."""

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Case:
    """
    One workload.

    Attributes:
        name: Name on the command line and in the tables.
        title: What a reader of the table sees.
        actors: Number of actors.
        bind: From (actors, input) to the DAG, which is the same for Ray's Compiled Graph and cgc.
        remote: From (actors, payload) to the reference or references that classic Ray's calls return.
        payload: What one execution sends; called once.
        asyncio: Whether executions are awaited on an event loop.
    """

    name: str
    title: str
    actors: int
    bind: Callable[[Sequence[Any], Any], DAGNode]
    remote: Callable[[Sequence[Any], Any], Any]
    payload: Callable[[], Any] = field(default=lambda: "hello")
    asyncio: bool = False

    def start_actors(self) -> list[Any]:
        """Start fresh actors and wait until all of them answer."""
        actors = [ray.remote(num_cpus=0)(Echo).remote() for _ in range(self.actors)]
        ray.get([actor.pid.remote() for actor in actors])
        return actors

    def dag(self, actors: Sequence[Any]) -> DAGNode:
        """Bind the actors into the DAG of this case."""
        with InputNode() as inp:
            return self.bind(actors, inp)


def _bind_chain(actors: Sequence[Any], value: Any) -> Any:
    for actor in actors:
        value = actor.echo.bind(value)
    return value


def _call_chain(actors: Sequence[Any], value: Any) -> Any:
    for actor in actors:
        value = actor.echo.remote(value)
    return value


def _bind_fan_out(actors: Sequence[Any], value: Any) -> DAGNode:
    return MultiOutputNode([actor.echo.bind(value) for actor in actors])


def _call_fan_out(actors: Sequence[Any], value: Any) -> list[Any]:
    return [actor.echo.remote(value) for actor in actors]


def _alternating(calls: int, chain: Callable[[Sequence[Any], Any], Any]) -> Callable[[Sequence[Any], Any], Any]:
    return lambda actors, value: chain([actors[i % len(actors)] for i in range(calls)], value)


CASES = (
    Case("echo", "echo", 1, _bind_chain, _call_chain),
    Case("chain", "chain of 3", 3, _bind_chain, _call_chain),
    Case("fan-out", "fan-out to 3", 3, _bind_fan_out, _call_fan_out),
    Case("asyncio", "asyncio echo", 1, _bind_chain, _call_chain, asyncio=True),
    Case("numpy-1mib", "1 MiB NumPy echo", 1, _bind_chain, _call_chain, lambda: np.ones(MIB, np.uint8)),
    Case("numpy-64mib", "64 MiB NumPy echo", 1, _bind_chain, _call_chain, lambda: np.ones(64 * MIB, np.uint8)),
    Case("calls-200", "200 calls on 2 actors", 2, _alternating(200, _bind_chain), _alternating(200, _call_chain)),
)
CASE_BY_NAME = {case.name: case for case in CASES}
