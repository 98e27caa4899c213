"""
Measures a case on several contenders in one run: interleaved rounds, percentiles, one table.

Rounds are interleaved (every contender once a round, in rotating order), so that drift of the machine hits all alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.dag import DAGContext
from rich.console import Console
from rich.table import Table

from tools.bench.cases import Case
from tools.bench.contenders import CONTENDERS, Contender, awake, start, stopped


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


def measure(case: Case, contenders: Iterable[str], effort: Effort) -> Result:
    """Compare `contenders` (keys of `CONTENDERS`) on `case`."""
    running: dict[str, Contender] = {}
    try:
        for name in contenders:
            with stopped(running.values()):
                running[name] = start(name, case)
        return Result(case.name, case.title, interleave(running, effort))
    finally:
        for contender in running.values():
            contender.close()


def interleave(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, Timing]:
    """Sample all contenders round by round, in rotating order."""
    samples: dict[str, list[int]] = {name: [] for name in contenders}
    names = list(contenders)
    with stopped(contenders.values()):
        for round_number in range(effort.rounds):
            turn = round_number % len(names)
            for name in names[turn:] + names[:turn]:
                with awake(contenders[name]):
                    samples[name] += contenders[name].sample(effort.seconds)
    return {name: Timing.of(values) for name, values in samples.items()}


def start_ray() -> None:
    """Start an embedded Ray for this process alone, without dashboard and worker logs on the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about a future default
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    DAGContext.get_current().get_timeout = 120  # the first execution of Ray's 200 calls takes longer than its default


def table(results: Sequence[Result]) -> Table:
    """Three rows a case, one for each contender; the ratio says how many times as long as cgc it takes."""
    grid = Table(title="latency of one execution")
    grid.add_column("graph", no_wrap=True)
    grid.add_column("on", no_wrap=True)
    for heading in ("p50 µs", "p99 µs", "÷ cgc"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for row, (name, timing) in enumerate(result.timings.items()):
            ratio = result.ratio(name)
            grid.add_row(
                "" if row else result.title,
                CONTENDERS[name],
                _number(timing.p50_us),
                _number(timing.p99_us),
                "" if ratio is None else _number(ratio),
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
