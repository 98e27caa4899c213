"""
Execute a graph very often and watch the memory, descriptors and threads of its driver and actors.

    python tools/stress/memory.py --small 1000000 --large 10000 --json memory.json

The graph is a chain of two actors. Small values are numbers, strings, dicts and 1 KiB arrays; large ones arrays from
64 KiB to 4 MiB, of which the driver keeps some for a while, so that segments change hands in any order. Memory is what
the process has resident beside the graph's shared memory, whose size is printed, too. The status is 1 if anything has
grown between the first fifth of a phase, in which allocators and segments find their size, and its end.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import ray
import ray.actor
from ray.dag import InputNode

import cgc

SAMPLES = 20
WINDOW = 4
"""Executions in flight."""

KEPT = 6
"""Large results that the driver keeps at a time."""

TOLERATED_KIB = 4096
"""Growth of a process that is no leak: allocators keep arenas of a few MiB, and Ray's threads log now and then."""


TOLERATED_COUNT = 4
"""Further descriptors or threads that are no leak: those of Ray's connections."""


class Usage(NamedTuple):
    """What a process holds: resident KiB beside shared memory, shared KiB, open descriptors, threads."""

    resident: int
    shared: int
    descriptors: int
    threads: int


def usage(_: object = None) -> Usage:
    """The usage of this process."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    shared = int(fields["RssShmem"])
    descriptors = len(os.listdir("/proc/self/fd"))
    return Usage(int(fields["VmRSS"]) - shared, shared, descriptors, int(fields["Threads"]))


@ray.remote(num_cpus=0)
class Stage:
    """Passes values on."""

    def forward(self, value: Any) -> Any:
        return value


def small_values(random: Random) -> Iterator[Any]:
    """Values that fit a slot."""
    array = np.arange(128)
    while True:
        number = random.randrange(1 << 30)
        yield random.choice((number, str(number), {"number": number, "list": [1, 2.0, None]}, array))


def large_values(random: Random) -> Iterator[Any]:
    """Arrays that go through segments."""
    block = np.arange(4 << 20, dtype=np.uint8)
    while True:
        yield block[: random.randrange(64 << 10, 4 << 20)]


def run_phase(graph: cgc.CompiledGraph, values: Iterator[Any], count: int, look: Callable[[], None], keep: int) -> None:
    """Execute `count` times; look `SAMPLES` times on the way. Raises RuntimeError if a result is not its input."""
    pending: deque[tuple[Any, Any]] = deque()
    kept: deque[Any] = deque(maxlen=keep)
    step = max(1, count // SAMPLES)
    for number in range(1, count + 1):
        value = next(values)
        pending.append((value, graph.execute(value)))
        if len(pending) >= WINDOW:
            kept.append(_checked(*pending.popleft()))
        if number % step == 0:
            look()
    while pending:
        _checked(*pending.popleft())


def growth(samples: list[Usage]) -> Usage:
    """From the most of the first fifth to the least of the last fifth: what has grown never comes back."""
    part = max(1, len(samples) // 5)
    before = [max(column) for column in zip(*samples[:part], strict=True)]
    after = [min(column) for column in zip(*samples[-part:], strict=True)]
    return Usage(*(late - early for early, late in zip(before, after, strict=True)))


def measure(small: int, large: int, seed: int = 1) -> dict[str, Any]:
    """Run both phases in the present Ray session; what grew is in `problems`."""
    stages = [Stage.remote(), Stage.remote()]
    with InputNode() as inp:
        dag = stages[1].forward.bind(stages[0].forward.bind(inp))
    result: dict[str, Any] = {"seed": seed, "problems": []}
    with cgc.compile(dag, get_timeout=60, submit_timeout=60) as graph:
        for phase, values, count, keep in (
            ("small", small_values(Random(seed)), small, 0),
            ("large", large_values(Random(seed)), large, KEPT),
        ):
            seen: dict[str, list[Usage]] = {"driver": [], "first actor": [], "second actor": []}

            def look(seen: dict[str, list[Usage]] = seen) -> None:
                everyone = [usage(), *ray.get([stage.__ray_call__.remote(usage) for stage in stages])]
                for samples, now in zip(seen.values(), everyone, strict=True):
                    samples.append(now)

            begin = time.monotonic()
            run_phase(graph, values, count, look, keep)
            result[phase] = {"executions": count, "seconds": round(time.monotonic() - begin, 1)}
            for who, samples in seen.items():
                grown = growth(samples)
                result[phase][who] = {"first": samples[0], "last": samples[-1], "growth": grown}
                if grown.resident > TOLERATED_KIB or max(grown.descriptors, grown.threads) > TOLERATED_COUNT:
                    result["problems"].append(f"{who}, {phase} values: {grown}")
    return result


def main() -> int:
    """Measure as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=1_000_000, help="executions of small values (1,000,000)")
    parser.add_argument("--large", type=int, default=10_000, help="executions of large values (10,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to FILE, too")
    options = parser.parse_args()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    result = measure(options.small, options.large, options.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(f"{text}\n", encoding="utf-8")
    return 1 if result["problems"] else 0


def _checked(expected: Any, ref: Any) -> Any:
    value = ray.get(ref, timeout=60)
    same = np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected
    if not same:
        raise RuntimeError(f"got {value!r:.100}, expected {expected!r:.100}")
    return value


if __name__ == "__main__":
    sys.exit(main())
