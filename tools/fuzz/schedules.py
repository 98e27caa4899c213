"""
Random graphs through all passes, looking for a deadlock, a refusal or an invalid IR.

    python tools/fuzz/schedules.py --graphs 10000 --seed 1 --jobs 2 [--json record.jsonl]

The graphs are those of `random_graphs.py`, with a random profile each, and overlap with and without streams and memory
limits; `--broadcast` adds values for many actors and lets `pair-comm` broadcast them, `--group` adds values that cross
between two actors, of which `group-comm` may make no execution longer. After every pass that has changed it the IR is
verified and printed, parsed and printed again; the final schedule runs in the simulator with rendezvous and bounded
buffers, executions pipelined, and no channel on which messages take turns may hold two of one execution. Actors that
are fast or slow at random stand for all fair interleavings: what can go first does, in some graph.

A failure prints the seed of its graph; `--seed S --graphs 1` runs that graph alone, and `--print` shows it. Ctrl-C ends
a run at once; what it prints last, and the last line of the record, say with which seed to go on.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cgc.errors import CgcError
from cgc.ir import (
    CallOp,
    ChannelOp,
    CollectiveOp,
    GraphOp,
    GroupOp,
    Unit,
    WriteOp,
    graphs_of,
    parse_module,
    print_module,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.simulate import Simulation
from cgc.passes.graph_view import channels_of, communication, programs_of
from cgc.passes.manager import PassManager, PassRecord
from cgc.passes.registry import passes_of
from cgc.passes.verify_schedule import verify
from tools.fuzz.random_graphs import MOST_CALLS, random_graph, random_profile

CHUNK = 50
"""Graphs that a process compiles before it reports."""

MOST_SHOWN = 10
"""Failures that are shown: where there are more, they are the same."""

TOLERANCE_US = 1e-3
"""Times of the simulator are sums of floats."""

COUNTED = ("actors", "calls", "messages", "meetings", "broadcasts", "groups", "collectives", "turns")


def main() -> int:
    """Run the command; 1 if a graph failed, 130 if it was interrupted before that."""
    options = _arguments()
    if options.print:
        print(
            print_module(
                random_graph(
                    random.Random(options.seed), options.calls, fans=options.broadcast, crossings=options.group
                ).module
            )
        )
        return 0
    total = Total(options.seed)
    interrupted = False
    console = Console(stderr=True)
    columns = ("graphs", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=options.graphs, failed=0)
        try:
            for chunk in _chunks(options):
                total.add(chunk)
                for seed, text in chunk.failed[: MOST_SHOWN - total.failures + len(chunk.failed)]:
                    console.print(f"seed {seed}: {text}", markup=False, highlight=False)
                progress.update(bar, completed=total.graphs, failed=total.failures)
                if options.json:
                    total.append_to(options.json)
        except KeyboardInterrupt:
            interrupted = True
    print(total, end="")
    print(f" (interrupted; go on with --seed {total.next_seed})" if interrupted else "")
    return 1 if total.failures else 130 if interrupted else 0


@dataclass
class Chunk:
    """What became of some graphs of consecutive seeds."""

    graphs: int
    counted: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Total:
    """What became of all graphs from `seed` on, without a gap."""

    seed: int
    graphs: int = 0
    failures: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.perf_counter)

    @property
    def next_seed(self) -> int:
        return self.seed + self.graphs

    def add(self, chunk: Chunk) -> None:
        """Count the next chunk."""
        self.graphs += chunk.graphs
        self.failures += len(chunk.failed)
        self.counted += chunk.counted

    def append_to(self, path: Path) -> None:
        """Write one line of JSON."""
        seconds = round(time.perf_counter() - self.started, 1)
        line = {"seed": self.seed, "next_seed": self.next_seed, "graphs": self.graphs, "failures": self.failures}
        with path.open("a") as file:
            file.write(
                json.dumps({**line, **{name: self.counted[name] for name in COUNTED}, "seconds": seconds}) + "\n"
            )

    def __str__(self) -> str:
        numbers = ", ".join(f"{self.counted[name]:,} {name}" for name in COUNTED)
        seconds = time.perf_counter() - self.started
        return f"{self.graphs:,} graphs ({numbers}) in {seconds:.0f} s: {self.failures} failures"


def run_graph(
    seed: int, most_calls: int, profile: Path, *, broadcast: bool = False, group: bool = False
) -> Counter[str]:
    """
    Compile one graph and check it after every pass; returns what it had.

    Raises:
        CgcError: A pass refused it, the IR did not verify, or the schedule deadlocks.
        AssertionError: The IR changed on its way through text.
    """
    rng = random.Random(seed)
    unit = random_graph(rng, most_calls, fans=broadcast, crossings=group)
    profile.write_text(json.dumps(random_profile(rng)))
    streams = rng.choice(["", " streams", f" streams max-bytes={rng.choice([1, 4096, 10**6])}"])
    return check(unit, profile, streams, " broadcast" if broadcast else "")


def check(unit: Unit, profile: Path, streams: str, broadcast: str = "") -> Counter[str]:
    """
    Compile `unit` under a profile, with the options `streams` of `overlap-comm` and `broadcast` of `pair-comm`.

    Raises as `run_graph` does.
    """
    options = f"cost-model={profile}"
    pipeline = passes_of(
        f"verify-graph,anchor-calls,infer-types,place-devices,pair-comm{{{options}{broadcast}}},"
        f"overlap-comm{{{options}{streams}}},group-comm{{{options}}},verify-schedule,allocate-channels,verify-schedule"
    )
    trip = RoundTrip()
    result = PassManager(pipeline, verify_each=True, keep_initial=False, observers=[trip]).run(unit)
    assert print_module(unit.module) == trip.text, "a pass has changed the IR and did not say so"
    _check_groups(result.records)
    (graph,) = graphs_of(unit.module)
    _check_turns(verify(graph, CostModel.load(str(profile))), channels_of(graph))
    return _statistics(graph)


class RoundTrip:
    """
    An observer that sends the IR through text and back after each pass that has changed it.

    Attributes:
        text: The IR at that time.
    """

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        if record is None or record.changed:
            self.text = print_module(unit.module)
            assert print_module(parse_module(self.text)) == self.text, f"text after {name} does not round-trip"


def _check_groups(records: Sequence[PassRecord]) -> None:
    """Groups have made nothing longer."""
    (statistics,) = (record.statistics for record in records if record.name == "group-comm")
    if "groups" in statistics:
        before, after = statistics["makespan-us-before"], statistics["makespan-us"]
        assert after <= before + TOLERANCE_US, f"groups take {after} us an execution, it was {before}"


def _check_turns(simulation: Simulation, declared: Mapping[str, ChannelOp]) -> None:
    """Of the messages of an execution that share a channel, each was taken before the next one was written."""
    for number, channel in enumerate(simulation.schedule.channels):
        turns = declared[channel.name.removeprefix("@")].turns if channel.name.startswith("@") else 1
        for taken in simulation.taken[number] if turns > 1 else ():
            for nth, visible in enumerate(simulation.written[number]):
                begun = visible - sum(channel.times(nth)[:2])
                assert nth % turns == 0 or taken[nth - 1] <= begun + TOLERANCE_US, f"{channel.name} holds two messages"


def _statistics(graph: GraphOp) -> Counter[str]:
    channels = channels_of(graph)
    found = Counter(turns=sum(channel.turns for channel in channels.values() if channel.turns > 1))
    found += Counter(actors=len(programs_of(graph)) - 1, calls=sum(isinstance(op, CallOp) for op in graph.walk()))
    found["groups"] = sum(isinstance(op, GroupOp) for op in graph.walk()) // 2
    for program in programs_of(graph).values():
        for operation in communication(program):
            found["collectives"] += isinstance(operation, CollectiveOp)
            if isinstance(operation, WriteOp):
                found["messages"] += len(operation.message_ids)
                channel = channels[operation.channel_name]
                found["meetings"] += channel.transport.is_rendezvous
                found["broadcasts"] += channel.transport.is_rendezvous and len(channel.reader_names) > 1
    return found


def _chunks(options: argparse.Namespace) -> Iterator[Chunk]:
    """The results in the order of the seeds; few chunks are under way at a time, so that Ctrl-C ends soon."""
    end = options.seed + options.graphs
    starts = iter(range(options.seed, end, CHUNK))
    ignore_interrupt = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(options.jobs, initializer=ignore_interrupt) as pool:
        under_way: deque[Future[Chunk]] = deque()

        def submit_next() -> None:
            for start in starts:
                seeds = range(start, min(start + CHUNK, end))
                under_way.append(pool.submit(_run_chunk, seeds, options.calls, options.broadcast, options.group))
                return

        try:
            for _ in range(2 * options.jobs):
                submit_next()
            while under_way:
                yield under_way.popleft().result()
                submit_next()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_chunk(seeds: range, most_calls: int, broadcast: bool, group: bool) -> Chunk:
    chunk = Chunk(len(seeds))
    with tempfile.TemporaryDirectory() as directory:
        for seed in seeds:
            try:
                profile = Path(directory) / "profile.json"
                chunk.counted += run_graph(seed, most_calls, profile, broadcast=broadcast, group=group)
            except CgcError as error:
                chunk.failed.append((seed, f"{type(error).__name__}: {error}"))
            except Exception:
                chunk.failed.append((seed, traceback.format_exc()))
    return chunk


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])

    def option(name: str, kind: Any, default: Any, text: str) -> None:
        parser.add_argument(name, type=kind, default=default, help=f"{text} (default: {default})")

    option("--graphs", int, 1000, "how many")
    option("--seed", int, 0, "of the first graph; the next has the next")
    option("--calls", int, MOST_CALLS, "at most so many in a graph")
    option("--jobs", int, 2, "processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the running total to FILE, a line each time")
    parser.add_argument("--broadcast", action="store_true", help="values for many actors, and broadcasts of them")
    parser.add_argument("--group", action="store_true", help="values that cross between two actors")
    parser.add_argument("--print", action="store_true", help="print the first graph instead of compiling it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
