"""
Measures tensors between two actors: through shared memory and gloo, against memcpy and bare torch.distributed.

    python -m tools.bench.tensors [--quick] [--case NAME]... [--size BYTES]... [--json FILE]

All times are taken inside the actors, so that the driver does not count. A round of cgc and one of what it is compared
with are a pair (`paired.py`); both do the same with memory (`tensor_peers.py`). Prints Markdown. About twenty minutes;
needs PyTorch, no GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allgather, allreduce, reducescatter

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator
from cgc.runtime.communicators.rendezvous import MemfdRendezvous
from tools.bench import overlap
from tools.bench.measure import machine, start_ray
from tools.bench.paired import KIB, MIB, QUICK, THOROUGH, Effort, Row, Spent, compare, table, together
from tools.bench.tensor_peers import Peer, hops

SHM_SIZES = [KIB, 64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
GLOO_SIZES = [MIB, 4 * MIB, 16 * MIB, 64 * MIB]
SHARED_SIZES = [KIB, 16 * KIB, 256 * KIB, *GLOO_SIZES]
COLLECTIVES = ("allreduce", "allgather", "reducescatter")
CASES = ("shm", "p2p", "static", *COLLECTIVES, *(f"{kind}-shm" for kind in COLLECTIVES), "overlap", "alloc")
ALLOC_SIZES = [MIB, 64 * MIB]
ALLOC_ROUNDS = 50
PROMISES = {"_static_shape": True, "_direct_return": True}

WARM_UP = 10
"""Pairs that do not count: a channel of equal tensors falls silent after some."""


def main() -> None:
    """Measure everything, print tables, and write the figures to a file if one is named."""
    options = _parse()
    start_ray()
    peers = [Peer.remote() for _ in range(2)]
    rendezvous = MemfdRendezvous()
    ray.get([peer.join.remote(rendezvous, rank) for rank, peer in enumerate(peers)])
    rendezvous.close()
    effort = QUICK if options.quick else THOROUGH
    chosen = options.case or CASES
    print(", ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    rows = [
        measure(nbytes)
        for case, (sizes, measure) in _cases(peers, effort).items()
        if case in chosen
        for nbytes in options.size or sizes
    ]
    if rows:
        print(table(rows), end="\n\n")
    overlaps = overlap.measure(peers, effort) if "overlap" in chosen else []
    if overlaps:
        print(overlap.table(overlaps), end="\n\n")
    allocated = [_allocated(peers[0], nbytes) for nbytes in options.size or ALLOC_SIZES] if "alloc" in chosen else []
    if allocated:
        print(_alloc_table(allocated))
    if options.json:
        figures = {"rows": list(map(asdict, rows)), "overlap": list(map(asdict, overlaps)), "alloc": allocated}
        options.json.write_text(json.dumps({"machine": machine(), **figures}, indent=2), encoding="utf-8")


def _cases(peers: list[Any], effort: Effort) -> dict[str, tuple[list[int], Callable[[int], Row]]]:
    """By name the sizes, and what measures one of them."""
    gloo = {"transport": GlooCommunicator(peers)}
    return {
        "shm": (SHM_SIZES, lambda nbytes: _transfers(peers, "shm", nbytes, {}, effort)),
        "p2p": (GLOO_SIZES, lambda nbytes: _transfers(peers, "p2p", nbytes, gloo, effort)),
        "static": (GLOO_SIZES, lambda nbytes: _transfers(peers, "p2p, static", nbytes, {**gloo, **PROMISES}, effort)),
        "allreduce": (GLOO_SIZES, lambda nbytes: _reductions(peers, "allreduce", nbytes, gloo, effort)),
        "allgather": (GLOO_SIZES, lambda nbytes: _collectives(peers, "allgather", nbytes, gloo, effort)),
        "reducescatter": (GLOO_SIZES, lambda nbytes: _collectives(peers, "reducescatter", nbytes, gloo, effort)),
        "allreduce-shm": (SHARED_SIZES, lambda nbytes: _reductions(peers, "allreduce, shm", nbytes, {}, effort)),
        "allgather-shm": (SHARED_SIZES, lambda nbytes: _collectives(peers, "allgather, shm", nbytes, {}, effort)),
        "reducescatter-shm": (
            SHARED_SIZES,
            lambda nbytes: _collectives(peers, "reducescatter, shm", nbytes, {}, effort),
        ),
    }


def _transfers(peers: list[Any], case: str, nbytes: int, hint: dict[str, Any], effort: Effort) -> Row:
    """A chain of hops between the two peers, in one execution; one more before brings both ends together."""

    def tensor(node: Any) -> Any:
        return node.with_tensor_transport(**hint) if hint else node

    with InputNode() as inp:
        sent = tensor(peers[1].depart.bind(inp))
        sent = value = tensor(peers[0].begin.bind(sent))
        for hop in range(1, hops(nbytes)):
            sent, value = value, tensor(peers[hop % 2].echo.bind(value))
        dag = MultiOutputNode([peers[0].end.bind(value), peers[1].end.bind(value)])
    if not hint:
        return _compare(case, nbytes, "memcpy", dag, lambda: ray.get(peers[0].bare_copies.remote(nbytes)), effort)
    return _compare(case, nbytes, "torch.distributed", dag, lambda: _by_hand(peers, "bare_hops", nbytes), effort)


def _reductions(peers: list[Any], case: str, nbytes: int, hint: dict[str, Any], effort: Effort) -> Row:
    with InputNode() as inp:
        values = allreduce.bind([peer.depart.bind(inp) for peer in peers], **hint)
        values = [peer.begin.bind(value) for peer, value in zip(peers, values, strict=True)]
        for _ in range(hops(nbytes)):
            values = allreduce.bind(values, **hint)
        dag = MultiOutputNode([peer.end.bind(value) for peer, value in zip(peers, values, strict=True)])
    return _compare(case, nbytes, "torch.distributed", dag, lambda: _by_hand(peers, "bare_reductions", nbytes), effort)


def _collectives(peers: list[Any], case: str, nbytes: int, hint: dict[str, Any], effort: Effort) -> Row:
    """Each actor brings the same `nbytes` every time, since results have another size."""
    kind = case.removesuffix(", shm")
    bind = {"allgather": allgather.bind, "reducescatter": reducescatter.bind}[kind]
    with InputNode() as inp:
        values = bind([peer.depart.bind(inp) for peer in peers], **hint)
        values = [peer.begin_anew.bind(inp, value) for peer, value in zip(peers, values, strict=True)]
        for hop in range(hops(nbytes)):
            if hop:
                values = [peer.own.bind(inp, value) for peer, value in zip(peers, values, strict=True)]
            values = bind(values, **hint)
        dag = MultiOutputNode([peer.end.bind(value) for peer, value in zip(peers, values, strict=True)])
    return _compare(
        case, nbytes, "torch.distributed", dag, lambda: _by_hand(peers, "bare_collectives", nbytes, kind), effort
    )


def _by_hand(peers: list[Any], method: str, *args: Any) -> Spent:
    return _of_peers(ray.get([getattr(peer, method).remote(*args) for peer in peers]))


def _of_peers(spent: list[Spent]) -> Spent:
    """The time is that of the first peer, which starts when the second one is there."""
    whole = together(spent)
    return Spent(spent[0].seconds, whole.cpu_s, whole.faults, whole.switches)


def _compare(case: str, nbytes: int, other: str, dag: Any, bare: Callable[[], Spent], effort: Effort) -> Row:
    """One row: rounds of the graph and of the actors' bare method in turn."""
    print(f"measuring {case}, {nbytes:,} bytes", file=sys.stderr)
    with cgc.compile(dag) as graph:
        return compare(
            case,
            nbytes,
            other,
            lambda: _of_peers(ray.get(graph.execute(nbytes))).per(hops(nbytes)),
            lambda: bare().per(hops(nbytes)),
            WARM_UP,
            effort,
        )


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


def _alloc_table(allocated: list[dict[str, float]]) -> str:
    names = [name for name in allocated[0] if name != "nbytes"]
    lines = [f"| size | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for figures in allocated:
        cells = [f"{figures['nbytes'] / MIB:g} MiB", *(f"{figures[name]:,.0f} µs" for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case (may be repeated)")
    parser.add_argument("--size", action="append", type=int, metavar="BYTES", help="only this size (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
