"""
Communication beside calls: what the cost model predicts of streams, and what they bring.

Each call sleeps for as long as a transfer of its result takes, so that a transfer can be hidden completely: the graph
is the best case for overlap. The calls sleep because that is what a call does that waits for an accelerator; calls that
compute on the host would compete with gloo for the cores, and show how many cores there are rather than what overlaps.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce

import cgc
from cgc.passes.analysis.cost import CostModel, Link
from cgc.runtime.communicators.gloo import GlooCommunicator
from tools.bench.paired import MIB, Effort, median_between

PARTS = 8
NBYTES = 8 * MIB
WARM_UP = 9
CALIBRATION_ROUNDS = 15
SMALL = Link(latency_us=5.0, gb_per_s=1e6)
"""What goes through host memory here are inputs and results without tensors."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """
    One comparison; milliseconds of an execution.

    Attributes:
        call_ms: How long each call sleeps, which is how long a transfer was measured to take.
        predicted_off_ms: What the cost model says without streams, from the two.
        ratios: Of pairs of executions, without by with streams, in rising order.
    """

    case: str
    call_ms: float
    predicted_off_ms: float
    predicted_on_ms: float
    off_ms: float
    on_ms: float
    ratios: tuple[float, ...]


def measure(peers: list[Any], effort: Effort) -> list[Overlap]:
    """Both comparisons."""
    return [_measure(case, graph_of, peers, effort) for case, graph_of in _GRAPHS.items()]


def table(overlaps: Sequence[Overlap]) -> str:
    """Markdown."""
    lines = [
        "| overlap of | call = transfer | predicted ms | predicted | measured ms | measured (95 % certain) |",
        "|---|---|---|---|---|---|",
    ]
    for row in overlaps:
        low, middle, high = median_between(row.ratios)
        cells = [
            row.case,
            f"{row.call_ms:.1f} ms",
            f"{row.predicted_off_ms:.0f} → {row.predicted_on_ms:.0f}",
            f"{row.predicted_off_ms / row.predicted_on_ms:.2f} times",
            f"{row.off_ms:.0f} → {row.on_ms:.0f}",
            f"**{middle:.2f} times** ({low:.2f} to {high:.2f}, {len(row.ratios)} pairs)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _transfers(peers: list[Any], parts: int) -> Any:
    """A pipeline of two stages: what the first produces, the second consumes."""
    communicator = GlooCommunicator(peers)
    with InputNode() as inp:
        ends = []
        for part in range(parts):
            value = peers[0].produce.bind(inp, part).with_tensor_transport(transport=communicator)
            ends.append(peers[1].consume.bind(inp, value))
        return MultiOutputNode(ends)


def _collectives(peers: list[Any], parts: int) -> Any:
    """What each step gives is reduced, while the next step computes; as gradients are."""
    communicator = GlooCommunicator(peers)
    with InputNode() as inp:
        reduced = []
        for part in range(parts):
            values = [peer.produce.bind(inp, part) for peer in peers]
            reduced.append(allreduce.bind(values, transport=communicator))
        return MultiOutputNode(
            [peer.finish.bind(*mine) for peer, mine in zip(peers, zip(*reduced, strict=True), strict=True)]
        )


_GRAPHS = {"transfers": _transfers, "collectives": _collectives}


def _measure(case: str, graph_of: Any, peers: list[Any], effort: Effort) -> Overlap:
    print(f"measuring overlap of {case}", file=sys.stderr)
    seconds = _transfer_seconds(graph_of(peers, PARTS))
    profile = CostModel(
        calls={("Peer", "produce"): seconds * 1e6, ("Peer", "consume"): seconds * 1e6, ("Peer", "finish"): 0.0},
        links={"gloo": Link(0.0, NBYTES / seconds / 1e9), "shm": SMALL},
        object_bytes=NBYTES,
    )
    dag = graph_of(peers, PARTS)
    predicted = [cgc.plan(dag, profile=profile, overlap_gpu_communication=on).makespan_us / 1e3 for on in (False, True)]
    with (
        cgc.compile(dag, profile=profile) as off,
        cgc.compile(dag, profile=profile, overlap_gpu_communication=True) as on,
    ):
        for _ in range(WARM_UP):
            _execute(off, seconds)
            _execute(on, seconds)
        pairs: list[tuple[float, float]] = []
        started = time.perf_counter()
        while len(pairs) < effort.fewest or time.perf_counter() - started < effort.seconds:
            pairs.append((_execute(off, seconds), _execute(on, seconds)))
    off_ms, on_ms = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    ratios = sorted(without / with_streams for without, with_streams in pairs)
    return Overlap(case, seconds * 1e3, *predicted, off_ms, on_ms, tuple(ratios))


def _transfer_seconds(dag: Any) -> float:
    """Of one transfer of the graph, with calls that take no time."""
    with cgc.compile(dag) as graph:
        times = [_execute(graph, 0.0) for _ in range(WARM_UP + CALIBRATION_ROUNDS)]
    return statistics.median(times[WARM_UP:]) / PARTS


def _execute(graph: Any, seconds: float) -> float:
    """Seconds of one execution."""
    started = time.perf_counter()
    ray.get(graph.execute((seconds, NBYTES)))
    return time.perf_counter() - started
