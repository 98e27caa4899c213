"""
What it costs to get a tensor from one actor's device to another's: by CUDA IPC, and by NCCL against a bare ncclSend.

Run by `python -m tools.bench.gpu`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import ray
import torch
from ray.dag import InputNode

import cgc

ROUNDS = 200
WARM_UP = 20


@ray.remote(num_cpus=0)
class End:
    """The owner of a tensor on the device, or who reads a byte of it."""

    def __init__(self, nbytes: int) -> None:
        self._tensor = torch.zeros(nbytes, dtype=torch.uint8, device="cuda")

    def tensor(self, number: int) -> torch.Tensor:
        return self._tensor

    def read(self, tensor: torch.Tensor) -> int:
        return int(tensor[:1].sum())

    def number(self, number: int) -> int:
        return int(self._tensor[:1].sum())


def ipc_us(nbytes: int, gpus: float) -> dict[str, float]:
    """Microseconds of one execution: with a tensor lent by CUDA IPC, and the same graph with a number instead."""
    owner, reader = (End.options(num_gpus=gpus).remote(nbytes) for _ in range(2))
    with InputNode() as inp:
        hand_over = reader.read.bind(owner.tensor.bind(inp).with_tensor_transport("auto"))
    with InputNode() as inp:
        number_only = reader.number.bind(owner.number.bind(inp))
    return {"hand-over": _median_us(hand_over, "cuda_ipc"), "number only": _median_us(number_only, "shm")}


def _median_us(dag: Any, transport: str) -> float:
    seconds = []
    with cgc.compile(dag) as graph:
        assert f"via {transport}" in graph.dump(after="pair-comm"), f"{transport} was not chosen"
        for number in range(ROUNDS):
            started = time.perf_counter()
            ray.get(graph.execute(number))
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:]) * 1e6


@ray.remote(num_cpus=0, num_gpus=1)
class Rank:
    """One end of a ping-pong: rank 0 sends first."""

    def identity(self) -> Any:
        from cupy.cuda import nccl

        return nccl.get_unique_id()

    def bounce(self, communicator: Any, identity: Any, rank: int, nbytes: int) -> dict[str, float]:
        """Gigabytes a second in one direction, medians: cgc's transfers, and bare ncclSend and ncclRecv."""
        from cupy.cuda import nccl

        from cgc.runtime.accelerators.base import find
        from cgc.runtime.accelerators.transfers import Transfers

        peer = 1 - rank
        communicator.initialize(rank)
        transfers = Transfers(find("cuda"))
        bare = nccl.NcclCommunicator(2, identity, rank)
        tensor = torch.zeros(nbytes, dtype=torch.uint8, device="cuda")
        stream = torch.cuda.current_stream()

        def send() -> None:
            transfers.send(tensor, lambda array: communicator.queue_send(array, peer)).wait()

        def receive() -> None:
            transfers.receive((nbytes,), torch.uint8, lambda array: communicator.queue_recv(array, peer)).wait()
            stream.synchronize()

        def bare_send() -> None:
            bare.send(tensor.data_ptr(), nbytes, nccl.NCCL_UINT8, peer, stream.cuda_stream)
            stream.synchronize()

        def bare_receive() -> None:
            bare.recv(tensor.data_ptr(), nbytes, nccl.NCCL_UINT8, peer, stream.cuda_stream)
            stream.synchronize()

        try:
            return {
                name: 2 * nbytes / _there_and_back(*(ways if rank == 0 else reversed(ways))) / 1e9
                for name, ways in {"nccl": (send, receive), "bare nccl": (bare_send, bare_receive)}.items()
            }
        finally:
            bare.destroy()
            communicator.destroy()


def _there_and_back(first: Callable[[], None], second: Callable[[], None]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        first()
        second()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


def nccl_gbs(nbytes: int) -> dict[str, float]:
    """Gigabytes a second between two devices, as rank 0 sees them. Needs two GPUs and cupy."""
    from cgc.runtime.communicators.nccl import NcclCommunicator

    ranks = [Rank.remote() for _ in range(2)]
    communicator = NcclCommunicator(ranks)
    identity = ray.get(ranks[0].identity.remote())
    seen: list[dict[str, float]] = ray.get(
        [each.bounce.remote(communicator, identity, rank, nbytes) for rank, each in enumerate(ranks)]
    )
    return seen[0]
