"""
Measures what cgc's transfers between host and device cost, against bare copies of torch, and a graph that uses them;
how long a hand-over by CUDA IPC takes; and, where there are two GPUs, NCCL between them against a bare ncclSend.

    python -m tools.bench.gpu [--device cuda] [--size BYTES]... [--json FILE]

Rounds of cgc and of the bare copy alternate in one run. `--device cpu` runs the same code where there is no GPU, to see
that it works, without the last two; its figures mean nothing. Needs PyTorch, one GPU, and CuPy for NCCL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.dag import InputNode

import cgc
from cgc.runtime.accelerators.base import Accelerator, find
from cgc.runtime.accelerators.transfers import Transfers
from tools.bench.gpu_peers import ipc_us, nccl_gbs
from tools.bench.measure import start_ray

MIB = 1 << 20
SIZES = [64 * 1024, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
ROUNDS = 20


@ray.remote(num_cpus=0)
class Peer:
    """Measures in an actor, because a device belongs to one; and is both ends of the graph."""

    def copies(self, device: str, nbytes: int) -> dict[str, float]:
        """Gigabytes a second, medians of rounds: cgc's way in and out, and the same by bare pinned copies."""
        accelerator = find(device)
        accelerator.device()
        ways = _ways(accelerator, nbytes)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - started)
        return {name: nbytes / statistics.median(each[ROUNDS // 5 :]) / 1e9 for name, each in seconds.items()}

    def echo(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def main() -> None:
    """Measure, print a line for each size, and write the figures to a file if one is named."""
    options = _parse()
    start_ray()
    gpus = 0.5 if options.device == "cuda" else 0
    peers = [Peer.options(num_gpus=gpus).remote() for _ in range(2)]
    figures = []
    for nbytes in options.size or SIZES:
        copies = ray.get(peers[0].copies.remote(options.device, nbytes))
        figures.append({"nbytes": nbytes, **copies, "graph_ms": _graph_ms(peers, nbytes, options.device)})
        ways = ", ".join(f"{name} {value:.1f} GB/s" for name, value in copies.items())
        print(f"{nbytes / MIB:8.2f} MiB: {ways}; two hops of a graph {figures[-1]['graph_ms']:.2f} ms", flush=True)
    if options.device == "cuda":
        figures += _between_devices(peers, options.size or SIZES)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _between_devices(peers: list[Any], sizes: list[int]) -> list[dict[str, Any]]:
    """Figures of `gpu_peers`, a line each."""
    for peer in peers:
        ray.kill(peer)  # its half of a device is wanted
    found: list[dict[str, Any]] = []
    latency = ipc_us(MIB, 0.5)
    found.append({"nbytes": MIB, "ipc_us": latency})
    print(f"CUDA IPC, 1 MiB: {', '.join(f'{name} {value:.0f} µs' for name, value in latency.items())}", flush=True)
    if ray.cluster_resources().get("GPU", 0) < 2:
        print("NCCL between devices: not measured, there is one GPU")
        return found
    for nbytes in sizes:
        speeds = nccl_gbs(nbytes)
        found.append({"nbytes": nbytes, **speeds})
        print(f"{nbytes / MIB:8.2f} MiB: {', '.join(f'{name} {value:.1f} GB/s' for name, value in speeds.items())}")
    return found


def _ways(accelerator: Accelerator, nbytes: int) -> dict[str, Callable[[], None]]:
    transfers = Transfers(accelerator)
    memory, back = accelerator.pinned(nbytes), accelerator.pinned(nbytes)
    array = accelerator.empty((nbytes,), torch.uint8)
    host = accelerator.host_array(accelerator.pinned(nbytes), (nbytes,), torch.uint8)
    stream = accelerator.current_stream()

    def upload() -> None:
        transfers.upload(memory, (nbytes,), torch.uint8).wait()
        stream.record_event().synchronize()

    def download() -> None:
        transfers.download(array, back).wait()

    def bare_in() -> None:
        array.copy_(host, non_blocking=True)
        stream.record_event().synchronize()

    def bare_out() -> None:
        host.copy_(array, non_blocking=True)
        stream.record_event().synchronize()

    return {"in": upload, "bare in": bare_in, "out": download, "bare out": bare_out}


def _graph_ms(peers: list[Any], nbytes: int, device: str) -> float:
    """Driver → device of one actor → that of the other → driver, through shared memory."""
    hint = {"device": "gpu"} if device == "cuda" else {}
    tensor = torch.zeros(nbytes, dtype=torch.uint8)
    with InputNode() as inp:
        there = peers[0].echo.bind(inp.with_tensor_transport(**hint)).with_tensor_transport(**hint)
        dag = peers[1].echo.bind(there)
    seconds = []
    with cgc.compile(dag) as graph:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            ray.get(graph.execute(tensor))
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[ROUNDS // 5 :]) * 1e3


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="kind of device (default: cuda)")
    parser.add_argument("--size", action="append", type=int, metavar="BYTES", help="only this size (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
