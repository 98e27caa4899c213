"""
Measures tensors between two actors: through shared memory and gloo, against memcpy and bare torch.distributed.

    python -m tools.bench.tensors [--quick] [--case NAME]... [--size BYTES]... [--json FILE]

All times are taken inside the actors, so that the driver does not count. Rounds of cgc and of what it is compared with
are interleaved in one run. Needs PyTorch; no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce
from rich.console import Console
from rich.table import Table

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator
from cgc.runtime.communicators.rendezvous import MemfdRendezvous
from tools.bench.measure import start_ray

KIB, MIB = 1 << 10, 1 << 20
SIZES = [KIB, 64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
CASES = ("shm", "p2p", "static", "allreduce", "overlap", "alloc")
ALLOC_SIZES = [MIB, 64 * MIB]
ALLOC_ROUNDS = 50
PROMISES = {"_static_shape": True, "_direct_return": True}
HOPS = 8
"""Transfers, or collectives, in one execution."""

WARM_UP = 10
"""Rounds that do not count: a channel of equal tensors falls silent after some."""

OVERLAP_PARTS = 6
OVERLAP_SECONDS = 0.004
"""Length of a call in the overlap case: it sleeps, as a call that waits for a device does."""

OVERLAP_BYTES = 8 * MIB


@dataclass(frozen=True)
class Row:
    """
    One comparison: medians of seconds for one transfer.

    Attributes:
        overhead: How much longer cgc takes, as a part of the other's time: the median of the rounds' own ratios, each
            of two measurements that follow each other, so that what else the machine does touches both.
    """

    case: str
    nbytes: int
    cgc_s: float
    other: str
    other_s: float
    overhead: float


@ray.remote(num_cpus=0)
class Peer:
    """One end of all cases."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def join(self, rendezvous: MemfdRendezvous, rank: int) -> None:
        """Join torch's own default group."""
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", store=rendezvous.open(60.0), rank=rank, world_size=2)
        self.rank = rank

    def begin(self, nbytes: int) -> torch.Tensor:
        if getattr(self, "tensor", None) is None or self.tensor.nbytes != nbytes:
            self.tensor = torch.zeros(nbytes // 4)
        self.started = time.perf_counter()
        return self.tensor

    def echo(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def end(self, _: torch.Tensor) -> float:
        """Seconds since `begin`."""
        return time.perf_counter() - self.started

    def produce(self, nbytes: int) -> torch.Tensor:
        time.sleep(OVERLAP_SECONDS)
        return torch.zeros(nbytes // 4)

    def gather(self, *tensors: torch.Tensor) -> int:
        return sum(tensor.nbytes for tensor in tensors)

    def consume(self, tensor: torch.Tensor) -> int:
        time.sleep(OVERLAP_SECONDS)
        return tensor.nbytes

    def look(self, _: Any) -> None:
        """Takes an array, and does nothing with it."""

    def plain_array(self, nbytes: int) -> np.ndarray:
        return self.array_of(nbytes)

    def allocated_array(self, nbytes: int) -> np.ndarray:
        return cgc.alloc(nbytes, "uint8")

    def array_of(self, nbytes: int) -> np.ndarray:
        """The same array each time."""
        if getattr(self, "array", None) is None or self.array.nbytes != nbytes:
            self.array = np.zeros(nbytes, np.uint8)
        return self.array

    def bare_hops(self, nbytes: int) -> float:
        """The chain of transfers by torch.distributed, into memory that is there."""
        tensor = torch.zeros(nbytes // 4)
        torch.distributed.barrier()
        started = time.perf_counter()
        for hop in range(HOPS):
            if hop % 2 == self.rank:
                torch.distributed.send(tensor, 1 - self.rank)
            else:
                torch.distributed.recv(tensor, 1 - self.rank)
        return time.perf_counter() - started

    def bare_reductions(self, nbytes: int) -> float:
        tensor = torch.zeros(nbytes // 4)
        torch.distributed.barrier()
        started = time.perf_counter()
        for _ in range(HOPS):
            torch.distributed.all_reduce(tensor)
        return time.perf_counter() - started

    def bare_copies(self, nbytes: int) -> float:
        source, target = torch.zeros(nbytes // 4), torch.zeros(nbytes // 4)
        started = time.perf_counter()
        for _ in range(HOPS):
            target.copy_(source)
        return time.perf_counter() - started


def main() -> None:
    """Measure everything, print tables, and write the figures to a file if one is named."""
    options = _parse()
    start_ray()
    peers = [Peer.remote() for _ in range(2)]
    rendezvous = MemfdRendezvous()
    ray.get([peer.join.remote(rendezvous, rank) for rank, peer in enumerate(peers)])
    rendezvous.close()
    rounds = 5 if options.quick else 15
    cases = {
        "shm": lambda nbytes: _transfers(peers, "shm", nbytes, {}, "memcpy", rounds),
        "p2p": lambda nbytes: _transfers(peers, "gloo p2p", nbytes, _gloo(peers), "torch gloo", rounds),
        "static": lambda nbytes: _transfers(
            peers, "gloo p2p, static", nbytes, {**_gloo(peers), **PROMISES}, "torch gloo", rounds
        ),
        "allreduce": lambda nbytes: _reductions(peers, nbytes, rounds),
    }
    chosen = options.case or CASES
    rows = [cases[case](nbytes) for case in cases if case in chosen for nbytes in options.size or SIZES]
    overlap = {**_overlap(peers, rounds), **_collective_overlap(peers, rounds)} if "overlap" in chosen else {}
    allocated = [_allocated(peers[0], nbytes) for nbytes in options.size or ALLOC_SIZES] if "alloc" in chosen else []
    _report(rows, overlap, allocated)
    if options.json:
        figures = {"rows": [asdict(row) for row in rows], "overlap": overlap, "alloc": allocated}
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _gloo(peers: list[Any]) -> dict[str, Any]:
    return {"transport": GlooCommunicator(peers)}


def _transfers(peers: list[Any], case: str, nbytes: int, hint: dict[str, Any], other: str, rounds: int) -> Row:
    """A chain of hops between the two peers, in one execution."""

    def tensor(node: Any) -> Any:
        return node.with_tensor_transport(**hint) if hint else node

    with InputNode() as inp:
        value = tensor(peers[0].begin.bind(inp))
        for hop in range(1, HOPS):
            value = tensor(peers[hop % 2].echo.bind(value))
        dag = peers[HOPS % 2].end.bind(value)
    method = "bare_hops" if hint else "bare_copies"
    return _compare(case, nbytes, other, dag, peers, method, rounds)


def _reductions(peers: list[Any], nbytes: int, rounds: int) -> Row:
    communicator = GlooCommunicator(peers)
    with InputNode() as inp:
        values = [peer.begin.bind(inp) for peer in peers]
        for _ in range(HOPS):
            values = allreduce.bind(values, transport=communicator)
        dag = MultiOutputNode([peer.end.bind(value) for peer, value in zip(peers, values, strict=True)])
    return _compare("gloo allreduce", nbytes, "torch gloo", dag, peers, "bare_reductions", rounds)


def _compare(case: str, nbytes: int, other: str, dag: Any, peers: list[Any], method: str, rounds: int) -> Row:
    """One row: rounds of the graph and of the actors' bare `method` in turn."""
    print(f"measuring {case}, {nbytes:,} bytes", file=sys.stderr)
    ours, theirs = [], []
    with cgc.compile(dag) as graph:
        for number in range(WARM_UP + (rounds if nbytes < 64 * MIB else max(3, rounds // 3))):
            result = ray.get(graph.execute(nbytes))
            bare = ray.get([getattr(peer, method).remote(nbytes) for peer in peers])
            if number >= WARM_UP:
                ours.append((max(result) if isinstance(result, list) else result) / HOPS)
                theirs.append(max(bare) / HOPS)
    overhead = statistics.median(own / bare for own, bare in zip(ours, theirs, strict=True)) - 1
    return Row(case, nbytes, statistics.median(ours), other, statistics.median(theirs), overhead)


def _overlap(peers: list[Any], rounds: int) -> dict[str, float]:
    """Milliseconds of one execution of a two-stage pipeline, without and with streams."""
    communicator = GlooCommunicator(peers)
    with InputNode() as inp:
        ends = []
        for _ in range(OVERLAP_PARTS):
            value = peers[0].produce.bind(inp).with_tensor_transport(transport=communicator)
            ends.append(peers[1].consume.bind(value))
        dag = MultiOutputNode(ends)
    return _with_and_without_streams(dag, rounds)


def _collective_overlap(peers: list[Any], rounds: int) -> dict[str, float]:
    """Milliseconds of one execution that reduces what each step gives while the next step computes."""
    communicator = GlooCommunicator(peers)
    with InputNode() as inp:
        ends = []
        for _ in range(OVERLAP_PARTS):
            values = [peer.produce.bind(inp) for peer in peers]
            ends += allreduce.bind(values, transport=communicator)
        parts = [ends[rank :: len(peers)] for rank in range(len(peers))]
        dag = MultiOutputNode([peer.gather.bind(*each) for peer, each in zip(peers, parts, strict=True)])
    return {f"collectives {name}": value for name, value in _with_and_without_streams(dag, rounds).items()}


def _with_and_without_streams(dag: Any, rounds: int) -> dict[str, float]:
    """Milliseconds of one execution: medians of rounds that alternate."""
    with cgc.compile(dag) as off, cgc.compile(dag, overlap_gpu_communication=True) as on:
        seconds: dict[str, list[float]] = {"off": [], "on": []}
        for _ in range(rounds + 1):
            for name, graph in (("off", off), ("on", on)):
                started = time.perf_counter()
                ray.get(graph.execute(OVERLAP_BYTES))
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each[1:]) * 1e3 for name, each in seconds.items()}


def _allocated(peer: Any, nbytes: int) -> dict[str, float]:
    """Microseconds of a round trip with an array in one direction: copied, from `alloc`, and without an array."""
    print(f"measuring alloc, {nbytes:,} bytes", file=sys.stderr)
    plain = np.zeros(nbytes, np.uint8)
    graphs = {}
    for method in ("look", "plain_array", "allocated_array"):
        with InputNode() as inp:
            graphs[method] = cgc.compile(getattr(peer, method).bind(inp))
    look, copied, allocated = graphs.values()
    ways = {
        "echo": lambda: look.execute(None),
        "input copied": lambda: look.execute(plain),
        "input alloc": lambda: look.execute(look.alloc(nbytes, np.uint8)),
        "result copied": lambda: copied.execute(nbytes),
        "result alloc": lambda: allocated.execute(nbytes),
    }
    figures: dict[str, float] = {"nbytes": nbytes}
    for name, execute in ways.items():
        seconds = []
        for _ in range(ALLOC_ROUNDS):
            started = time.perf_counter()
            ray.get(execute())
            seconds.append(time.perf_counter() - started)
        figures[name] = statistics.median(seconds[ALLOC_ROUNDS // 5 :]) * 1e6
    for graph in graphs.values():
        graph.teardown()
    return figures


def _report(rows: list[Row], overlap: dict[str, float], allocated: list[dict[str, float]]) -> None:
    grid = Table(title="tensors between two actors: one transfer, medians")
    for heading in ("case", "size", "cgc µs", "GB/s", "against", "µs", "more"):
        grid.add_column(heading, justify="left" if heading in ("case", "against") else "right", no_wrap=True)
    for row in rows:
        grid.add_row(
            row.case,
            f"{row.nbytes // KIB} KiB" if row.nbytes < MIB else f"{row.nbytes // MIB} MiB",
            f"{row.cgc_s * 1e6:,.0f}",
            f"{row.nbytes / row.cgc_s / 1e9:.1f}",
            row.other,
            f"{row.other_s * 1e6:,.0f}",
            f"{row.overhead:+.0%}",
        )
    if rows:
        Console().print(grid)
    for prefix in ("", "collectives ") if overlap else ():
        off, on = overlap[f"{prefix}off"], overlap[f"{prefix}on"]
        print(f"overlap of {prefix or 'transfers'}: off {off:.1f} ms, on {on:.1f} ms, {off / on:.2f} times")
    for figures in allocated:
        texts = [f"{name} {value:,.0f} µs" for name, value in figures.items() if name != "nbytes"]
        print(f"alloc, {figures['nbytes'] // MIB:.0f} MiB: {', '.join(texts)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case (may be repeated)")
    parser.add_argument("--size", action="append", type=int, metavar="BYTES", help="only this size (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
