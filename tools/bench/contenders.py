"""
What a benchmark compares: the same case on classic Ray, on Ray's Compiled Graph and on cgc.

A contender has actors of its own and stays compiled while the others are measured. Its processes are stopped meanwhile:
an idle graph of Ray polls (see idle.py), which on a small machine would slow down everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from tools.bench.cases import Case

CONTENDERS = {"classic": "classic Ray", "ray": "Ray Compiled Graph", "cgc": "cgc"}
_WARM_UP_CALLS = 5
_MIN_CALLS = 5


class Contender(Protocol):
    """Something that executes a case over and over."""

    @property
    def processes(self) -> Sequence[int]:
        """Its own processes, which are stopped while others are measured."""

    def sample(self, seconds: float) -> list[int]:
        """Execute until `seconds` have passed, after a few calls to warm up; each execution's nanoseconds."""

    def close(self) -> None:
        """Release graph and actors."""


@dataclass(frozen=True)
class Blocking:
    """A contender that waits for each result: `execute` is one execution, `release` gives back what it needs."""

    execute: Callable[[], Any]
    release: Callable[[], None]
    processes: Sequence[int]

    def sample(self, seconds: float) -> list[int]:
        """See `Contender.sample`."""
        execute, clock = self.execute, time.perf_counter_ns
        for _ in range(_WARM_UP_CALLS):
            execute()
        samples: list[int] = []
        end = clock() + int(seconds * 1e9)
        while clock() < end or len(samples) < _MIN_CALLS:
            start = clock()
            result = execute()
            samples.append(clock() - start)
            # A zero-copy result that is kept blocks Ray's graph when it comes round to the same buffer.
            del result
        return samples

    def close(self) -> None:
        """See `Contender.close`."""
        self.release()


@dataclass(frozen=True)
class Asyncio:
    """A contender that awaits one execution after the other, always on the same event loop."""

    execute: Callable[[], Awaitable[Any]]
    release: Callable[[], None]
    processes: Sequence[int]
    loop: asyncio.AbstractEventLoop

    def sample(self, seconds: float) -> list[int]:
        """See `Contender.sample`."""
        return self.loop.run_until_complete(self._sample(seconds))

    async def _sample(self, seconds: float) -> list[int]:
        execute, clock = self.execute, time.perf_counter_ns
        for _ in range(_WARM_UP_CALLS):
            await execute()
        samples: list[int] = []
        end = clock() + int(seconds * 1e9)
        while clock() < end or len(samples) < _MIN_CALLS:
            start = clock()
            result = await execute()
            samples.append(clock() - start)
            del result
        return samples

    def close(self) -> None:
        """See `Contender.close`."""
        self.release()
        self.loop.run_until_complete(_finish_tasks())
        self.loop.close()


def start(name: str, case: Case) -> Contender:
    """Start actors, compile `case` for the contender `name`, and execute a few times, so that everything is warm."""
    actors = case.start_actors()
    processes = pids(actors)
    payload = case.payload()
    loop = asyncio.new_event_loop() if case.asyncio else None
    if loop:
        asyncio.set_event_loop(loop)  # Ray binds its graph to the loop that is current when it compiles
    graph = None if name == "classic" else compile_graph(name, case.dag(actors), case.asyncio)

    def release() -> None:
        if graph is not None:
            graph.teardown()
        stop_actors(actors)

    contender: Contender
    if loop:
        contender = Asyncio(_awaitable(case, actors, graph, payload), release, processes, loop)
    else:
        contender = Blocking(_blocking(case, actors, graph, payload), release, processes)
    contender.sample(0)
    return contender


@contextlib.contextmanager
def stopped(contenders: Iterable[Contender]) -> Iterator[None]:
    """Stop the contenders' processes until the end of the block; `awake` wakes single ones within."""
    processes = [pid for contender in contenders for pid in contender.processes]
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


@contextlib.contextmanager
def awake(contender: Contender) -> Iterator[None]:
    """Let a stopped contender's processes run until the end of the block."""
    _signal(contender.processes, signal.SIGCONT)
    try:
        yield
    finally:
        _signal(contender.processes, signal.SIGSTOP)


def compile_graph(contender: str, dag: Any, enable_asyncio: bool = False) -> Any:
    """Compile `dag` with Ray's Compiled Graph or with cgc: both results have the same methods."""
    if contender == "ray":
        return dag.experimental_compile(enable_asyncio=enable_asyncio)
    import cgc

    return cgc.compile(dag, enable_asyncio=enable_asyncio)


def pids(actors: Iterable[Any]) -> list[int]:
    """The actors' process ids."""
    return list(ray.get([actor.pid.remote() for actor in actors]))


def stop_actors(actors: Iterable[Any]) -> None:
    """End the actors' processes."""
    for actor in actors:
        ray.kill(actor)


def _blocking(case: Case, actors: Sequence[Any], graph: Any, payload: Any) -> Callable[[], Any]:
    if graph is None:
        return lambda: ray.get(case.remote(actors, payload))
    return lambda: ray.get(graph.execute(payload))


def _awaitable(case: Case, actors: Sequence[Any], graph: Any, payload: Any) -> Callable[[], Awaitable[Any]]:
    async def classic() -> Any:
        return await case.remote(actors, payload)

    async def compiled() -> Any:
        return await (await graph.execute_async(payload))

    return classic if graph is None else compiled


async def _finish_tasks() -> None:
    """Let the tasks that a teardown cancelled come to their end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
