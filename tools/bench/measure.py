"""
Measures a case on several contenders in one run: interleaved rounds, percentiles, one table.

Rounds are interleaved (every contender once a round, in rotating order), so that drift of the machine hits all alike.
A contender has actors of its own; the graphs of the others stay compiled and idle meanwhile, as in a program of many.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from rich.console import Console
from rich.table import Table

from tools.bench.cases import Case

CONTENDERS = {"classic": "classic Ray", "ray": "Ray Compiled Graph", "cgc": "cgc"}
_WARM_UP_CALLS = 5
_MIN_CALLS = 5


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` times `seconds` for each contender."""

    rounds: int
    seconds: float


THOROUGH = Effort(rounds=12, seconds=0.25)
QUICK = Effort(rounds=4, seconds=0.1)


@dataclass(frozen=True)
class Timing:
    """The distribution of one contender's latencies on one case, in microseconds."""

    p50_us: float
    p99_us: float
    samples: int

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Timing:
        """Summarise the samples; the 99th percentile of fewer than 100 samples is their maximum."""
        ordered = sorted(nanoseconds)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        return cls(statistics.median(ordered) / 1e3, p99 / 1e3, len(ordered))


@dataclass(frozen=True)
class Result:
    """All contenders' timings on one case."""

    case: str
    title: str
    timings: dict[str, Timing]

    def ratio(self, slow: str, fast: str = "cgc") -> float | None:
        """How many times faster `fast` is than `slow` by the medians; None where one of them did not run."""
        if slow not in self.timings or fast not in self.timings:
            return None
        return self.timings[slow].p50_us / self.timings[fast].p50_us


class Contender(Protocol):
    """Something that executes a case over and over."""

    def sample(self, seconds: float) -> list[int]:
        """Execute until `seconds` have passed and return each execution's nanoseconds."""

    def close(self) -> None:
        """Release graph and actors."""


@dataclass
class Blocking:
    """A contender that waits for each result: `execute` is one execution, `close` releases what it needs."""

    execute: Callable[[], Any]
    close: Callable[[], None]

    def sample(self, seconds: float) -> list[int]:
        """See `Contender.sample`; the first calls only warm up what slept meanwhile."""
        execute, clock = self.execute, time.perf_counter_ns
        for _ in range(_WARM_UP_CALLS):
            execute()
        samples: list[int] = []
        end = clock() + int(seconds * 1e9)
        while clock() < end or len(samples) < _MIN_CALLS:
            start = clock()
            result = execute()
            samples.append(clock() - start)
            # Ray's zero-copy results must be gone before the next execution, or it waits for ever.
            del result
        return samples


def measure(case: Case, contenders: Iterable[str], effort: Effort) -> Result:
    """Compare `contenders` (keys of `CONTENDERS`) on `case`."""
    payload = case.payload()
    running = {name: _start(name, case, payload) for name in contenders}
    return Result(case.name, case.title, interleave(running, effort))


def interleave(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, Timing]:
    """Sample all contenders round by round, in rotating order, and close them."""
    samples: dict[str, list[int]] = {name: [] for name in contenders}
    names = list(contenders)
    try:
        for round_number in range(effort.rounds):
            turn = round_number % len(names)
            for name in names[turn:] + names[:turn]:
                samples[name] += contenders[name].sample(effort.seconds)
    finally:
        for contender in contenders.values():
            contender.close()
    return {name: Timing.of(values) for name, values in samples.items()}


def compile_graph(contender: str, dag: Any, enable_asyncio: bool = False) -> Any:
    """Compile `dag` with Ray's Compiled Graph or with cgc: both results have the same methods."""
    if contender == "ray":
        return dag.experimental_compile(enable_asyncio=enable_asyncio)
    import cgc

    return cgc.compile(dag, enable_asyncio=enable_asyncio)


def stop_actors(actors: Iterable[Any]) -> None:
    """End the actors' processes."""
    for actor in actors:
        ray.kill(actor)


def start_ray() -> None:
    """Start an embedded Ray for this process alone, without dashboard and worker logs on the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about a future default
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")


def table(results: Sequence[Result]) -> Table:
    """Three rows a case, one for each contender; the ratio says how many times as long as cgc it takes."""
    grid = Table(title="latency of one execution")
    grid.add_column("graph", no_wrap=True)
    grid.add_column("on", no_wrap=True)
    for heading in ("p50 µs", "p99 µs", "ratio to cgc"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for row, (name, timing) in enumerate(result.timings.items()):
            ratio = result.ratio(name)
            grid.add_row(
                "" if row else result.title,
                CONTENDERS[name],
                _number(timing.p50_us),
                _number(timing.p99_us),
                "" if ratio is None else f"{ratio:.1f}",
                end_section=row == len(result.timings) - 1,
            )
    return grid


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, kernel and versions."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ray": ray.__version__,
    }


def report(results: Sequence[Result], path: Path | None = None) -> None:
    """Print the table and the machine it is from; write both to `path` as JSON if given."""
    console = Console()
    console.print(table(results))
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), style="dim")
    if path is None:
        return
    cases = {
        result.case: {
            "timings": {name: asdict(timing) for name, timing in result.timings.items()},
            "times_faster_than": {
                name: ratio for name in result.timings if name != "cgc" and (ratio := result.ratio(name)) is not None
            },
        }
        for result in results
    }
    path.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _start(name: str, case: Case, payload: Any) -> Contender:
    """Start actors, compile, and execute a few times so that everything is warm."""
    actors = case.start_actors()
    loop = asyncio.new_event_loop() if case.asyncio else None
    if loop:
        asyncio.set_event_loop(loop)  # Ray binds its graph to the loop that is current when it compiles
    graph = None if name == "classic" else compile_graph(name, case.dag(actors), case.asyncio)
    contender: Contender
    if loop:
        contender = _Asyncio(_awaitable(case, actors, graph, payload), actors, graph, loop)
    else:
        contender = Blocking(_blocking(case, actors, graph, payload), lambda: _close(graph, actors))
    contender.sample(0)
    return contender


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


@dataclass
class _Asyncio:
    """Awaits one execution after the other, always on the same event loop."""

    execute: Callable[[], Awaitable[Any]]
    actors: Sequence[Any]
    graph: Any
    loop: asyncio.AbstractEventLoop

    def sample(self, seconds: float) -> list[int]:
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
        _close(self.graph, self.actors)
        self.loop.run_until_complete(_finish_tasks())
        self.loop.close()


async def _finish_tasks() -> None:
    """Let the tasks that a teardown cancelled come to their end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def _close(graph: Any, actors: Iterable[Any]) -> None:
    if graph is not None:
        graph.teardown()
    stop_actors(actors)
