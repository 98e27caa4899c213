"""
Random graphs through all passes, looking for a deadlock, a refusal or an invalid IR.

    python tools/fuzz/schedules.py --graphs 10000 --seed 1 --jobs 2

Each graph has up to 64 actors on up to three nodes and up to 2,000 calls (most are small), values with several
results and readers, all transports, collectives on overlapping groups, inputs in parts or whole, a random profile, and
overlap with and without streams and memory limits. After every pass the IR is verified and printed, parsed and printed
again; the final schedule runs in the simulator with rendezvous and bounded buffers, executions pipelined. Actors that
are fast or slow at random stand for all fair interleavings: what can go first does, in some graph.

A failure prints the seed of its graph; `--seed S --graphs 1` runs that graph alone, and `--print` shows it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cgc.errors import CgcError
from cgc.ir import (
    OBJECT,
    ActorOp,
    AllGatherOp,
    AllReduceOp,
    BodyOp,
    CallOp,
    CollectiveOp,
    GraphOp,
    InputAttrOp,
    InputOp,
    ModuleOp,
    Operation,
    OutputOp,
    ReduceScatterOp,
    SSAValue,
    TensorType,
    Unit,
    ValueType,
    WriteOp,
    graphs_of,
    parse_module,
    print_module,
)
from cgc.passes.analysis.cost import CostModel
from cgc.passes.graph_view import channels_of, communication, programs_of
from cgc.passes.manager import PassManager, PassRecord
from cgc.passes.registry import passes_of
from cgc.passes.verify_schedule import verify

CHUNK = 50


def main() -> int:
    """Run the command; 1 if a graph failed."""
    options = _arguments()
    if options.print:
        print(print_module(random_graph(random.Random(options.seed), options.calls).module))
        return 0
    started = time.perf_counter()
    seeds = range(options.seed, options.seed + options.graphs)
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    totals: Counter[str] = Counter()
    failures = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for statistics, failed in pool.map(_run_chunk, chunks, [options.calls] * len(chunks)):
            totals += statistics
            for seed, text in failed:
                failures += 1
                print(f"seed {seed}: {text}", file=sys.stderr)
    seconds = time.perf_counter() - started
    numbers = ", ".join(
        f"{totals[name]:,} {name}" for name in ("actors", "calls", "messages", "meetings", "collectives")
    )
    print(f"{options.graphs:,} graphs ({numbers}) in {seconds:.0f} s: {failures} failures")
    return 1 if failures else 0


@dataclass
class _Builder:
    """A body under construction: values and who holds them."""

    rng: random.Random
    actors: list[str]
    gpus: set[str]
    operations: list[Operation] = field(default_factory=list)
    values: list[tuple[SSAValue, str]] = field(default_factory=list)
    used: set[SSAValue] = field(default_factory=set)

    def add(self, operation: Operation, holders: list[str]) -> None:
        self.operations.append(operation)
        self.used.update(operation.operands)
        self.values += zip(operation.results, holders, strict=True)

    def pick(self, holder: str | None = None) -> SSAValue | None:
        """A recent value, of one holder if told so."""
        recent = [value for value, who in self.values[-40:] if holder in (None, who)]
        return self.rng.choice(recent) if recent else None


def random_graph(rng: random.Random, most_calls: int) -> Unit:
    """A graph of level `graph` that keeps all rules."""
    calls = min(most_calls, int(rng.lognormvariate(2.5, 1.2)) + 1)
    count = rng.randint(1, min(64, max(1, calls)))
    names = [f"a{number}" for number in range(count)]
    nodes = [f"n{number}" for number in range(rng.choice([1, 1, 2, 3]))]
    gpus = {name for name in names if rng.random() < 0.6}
    builder = _Builder(rng, names, gpus)
    _add_inputs(builder)
    for _ in range(calls):
        if count > 1 and rng.random() < 0.08:
            _add_collective(builder)
        else:
            _add_call(builder)
    _add_output(builder)
    declared = [ActorOp("driver", "driver")]
    for number, name in enumerate(names):
        devices = [f"gpu:{number}"] if name in gpus else []
        declared.append(ActorOp(name, class_name=f"C{number % 5}", node=rng.choice(nodes), devices=devices))
    graph = GraphOp("fuzz", [*declared, BodyOp(builder.operations)], max_inflight=rng.randint(1, 12))
    return Unit(ModuleOp([graph]))


def _add_inputs(builder: _Builder) -> None:
    whole = InputOp()
    if builder.rng.random() < 0.5:
        builder.add(whole, ["driver"])
        builder.add(CallOp(builder.actors[0], "first", [whole.result]), [builder.actors[0]])
        return
    builder.operations.append(whole)
    for number in range(builder.rng.randint(1, 4)):
        part = InputAttrOp(whole.result, number)
        builder.add(part, ["driver"])
        actor = builder.rng.choice(builder.actors)
        builder.add(CallOp(actor, "first", [part.result]), [actor])


def _add_output(builder: _Builder) -> None:
    """All that nobody uses is an output; what cannot go to the driver passes through a call."""
    outputs = []
    for value, actor in builder.values:
        if value not in builder.used and actor != "driver":
            if isinstance(value.type, TensorType):
                call = CallOp(actor, "last", [value])
                builder.operations.append(call)
                value = call.results[0]
            outputs.append(value)
    builder.operations.append(OutputOp(outputs, is_list=True))


def _add_call(builder: _Builder) -> None:
    rng = builder.rng
    actor = rng.choice(builder.actors)
    taken = [builder.pick() for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3]))]
    results = rng.choice([1, 1, 1, 2, 3])
    call = CallOp(
        actor, f"m{rng.randint(0, 3)}", [v for v in taken if v is not None], None, [_type(builder, actor)] * results
    )
    builder.add(call, [actor] * results)


def _type(builder: _Builder, actor: str) -> ValueType:
    rng = builder.rng
    if rng.random() < 0.4:
        return OBJECT
    shape = rng.choice([None, [rng.choice([8, 1024, 65536])], [64, 64]])
    request = rng.choice([None, "auto", "shm", "gloo", "gloo", "gloo"])
    return TensorType.of(shape=shape, dtype="float32", request=request, static=shape is not None and rng.random() < 0.5)


def _add_collective(builder: _Builder) -> None:
    rng = builder.rng
    group = rng.sample(builder.actors, rng.randint(2, min(5, len(builder.actors))))
    values = []
    for actor in group:
        value = builder.pick(actor)
        if value is None:
            call = CallOp(actor, "make", [])
            builder.add(call, [actor])
            value = call.results[0]
        values.append(value)
    made = rng.choice([AllReduceOp, AllGatherOp, ReduceScatterOp])
    types = [TensorType.of(direct=True)] * len(group)
    reduce = rng.choice(["sum", "max"]) if made.REDUCES else None
    builder.add(made(values, group, types, reduce=reduce, transport="gloo"), group)


def run_graph(seed: int, most_calls: int, profile: Path) -> Counter[str]:
    """
    Compile one graph and check it after every pass; returns what it had.

    Raises:
        CgcError: A pass refused it, the IR did not verify, or the schedule deadlocks.
        AssertionError: The IR changed on its way through text.
    """
    rng = random.Random(seed)
    unit = random_graph(rng, most_calls)
    profile.write_text(json.dumps(_random_profile(rng)))
    options = f"cost-model={profile}"
    streams = rng.choice(["", " streams", f" streams max-bytes={rng.choice([1, 4096, 10**6])}"])
    pipeline = passes_of(
        f"verify-graph,infer-types,place-devices,pair-comm{{{options}}},overlap-comm{{{options}{streams}}},"
        "verify-schedule,allocate-channels,verify-schedule"
    )
    known = ""

    def round_trip(number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        nonlocal known
        text = print_module(unit.module)
        if text != known:
            assert print_module(parse_module(text)) == text, f"text after {name} does not round-trip"
        known = text

    PassManager(pipeline, verify_each=True, keep_initial=False, observers=[round_trip]).run(unit)
    (graph,) = graphs_of(unit.module)
    verify(graph, CostModel.load(str(profile)))
    return _statistics(graph)


def _random_profile(rng: random.Random) -> dict[str, object]:
    calls = {f"C{number}.m{method}": rng.choice([0, 1, 100, 10000]) for number in range(5) for method in range(4)}
    links = {
        name: {
            "latency-us": rng.choice([0, 1, 1000]),
            "gb-per-s": rng.choice([0.01, 1, 100]),
            "overhead-us": rng.choice([0, 5]),
        }
        for name in ("shm", "tcp", "nccl", "gloo")
    }
    return {
        "calls": calls,
        "links": links,
        "default-call-us": rng.choice([0, 50]),
        "object-bytes": rng.choice([0, 10**6]),
    }


def _statistics(graph: GraphOp) -> Counter[str]:
    found = Counter(actors=len(programs_of(graph)) - 1, calls=sum(isinstance(op, CallOp) for op in graph.walk()))
    channels = channels_of(graph)
    for program in programs_of(graph).values():
        for operation in communication(program):
            found["collectives"] += isinstance(operation, CollectiveOp)
            if isinstance(operation, WriteOp):
                found["messages"] += len(operation.message_ids)
                found["meetings"] += channels[operation.channel_name].transport.is_rendezvous
    return found


def _run_chunk(seeds: Sequence[int], most_calls: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    totals: Counter[str] = Counter()
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        for seed in seeds:
            try:
                totals += run_graph(seed, most_calls, Path(directory) / "profile.json")
            except CgcError as error:
                failed.append((seed, f"{type(error).__name__}: {error}"))
            except Exception:
                failed.append((seed, traceback.format_exc()))
    return totals, failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--graphs", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first graph; the next has the next")
    parser.add_argument("--calls", type=int, default=2000, help="at most so many in a graph")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--print", action="store_true", help="print the first graph instead of compiling it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
