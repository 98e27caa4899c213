"""The actors of `tensors.py`: methods of its graphs, and the same work written by hand with torch.distributed."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import ray
import torch

import cgc
from cgc.runtime.communicators.rendezvous import MemfdRendezvous
from tools.bench.paired import MIB, Meter, Spent


def hops(nbytes: int) -> int:
    """Transfers, or collectives, in one round. The first ones are slower, on both sides: the caches hold other work."""
    return 32 if nbytes <= 4 * MIB else 8


@ray.remote(num_cpus=0)
class Peer:
    """
    One of two ends. Tensors are made once, hold ones (untouched zeros would all be one page of the kernel's), and are
    used again in each round, by both sides.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._tensors: dict[tuple[str, int], torch.Tensor] = {}

    def join(self, rendezvous: MemfdRendezvous, rank: int) -> None:
        """Join torch's own default group."""
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", store=rendezvous.open(60.0), rank=rank, world_size=2)
        self.rank = rank

    def tensor(self, name: str, nbytes: int, of: int | None = None) -> torch.Tensor:
        """The same tensor each time. Those of a row are kept together: `of` is its size, if not `nbytes`."""
        row = nbytes if of is None else of
        found = self._tensors.get((name, row))
        if found is None or found.nbytes != nbytes:
            self._tensors = {key: tensor for key, tensor in self._tensors.items() if key[1] == row}
            found = self._tensors[name, row] = torch.ones(nbytes // 4)
        return found

    # Methods of graphs. The first transfer brings both ends together, and is not measured.

    def depart(self, nbytes: int) -> torch.Tensor:
        self.meter = Meter()
        return self.tensor("own", nbytes)

    def begin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.meter = Meter()
        return tensor

    def begin_anew(self, nbytes: int, _: torch.Tensor) -> torch.Tensor:
        self.meter = Meter()
        return self.tensor("own", nbytes)

    def own(self, nbytes: int, _: torch.Tensor) -> torch.Tensor:
        return self.tensor("own", nbytes)

    def echo(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def end(self, _: torch.Tensor) -> Spent:
        """What was spent since `begin`, or `depart`."""
        return self.meter.spent()

    # The same by hand.

    def bare_hops(self, nbytes: int) -> Spent:
        """There and back. What arrives is sent back, so that one tensor serves for all."""
        tensor = self.tensor("bare", nbytes)
        meter = Meter()
        if self.rank == 1:
            torch.distributed.send(tensor, 0)
        else:
            torch.distributed.recv(tensor, 1)
            meter = Meter()
        for hop in range(hops(nbytes)):
            if hop % 2 == self.rank:
                torch.distributed.send(tensor, 1 - self.rank)
            else:
                torch.distributed.recv(tensor, 1 - self.rank)
        return meter.spent()

    def bare_reductions(self, nbytes: int) -> Spent:
        """Reductions in place, as those of the graph are, which nobody else sees."""
        tensor = self.tensor("bare", nbytes)
        tensor.copy_(self.tensor("own", nbytes))
        torch.distributed.all_reduce(tensor)
        meter = Meter()
        for _ in range(hops(nbytes)):
            torch.distributed.all_reduce(tensor)
        return meter.spent()

    def bare_collectives(self, nbytes: int, kind: str) -> Spent:
        """`kind` is allgather or reducescatter; of the same tensor, into the same tensor."""
        own = self.tensor("own", nbytes)
        if kind == "allgather":
            result, run = self.tensor("bare", 2 * nbytes, of=nbytes), torch.distributed.all_gather_into_tensor
        else:
            result, run = self.tensor("bare", nbytes // 2, of=nbytes), torch.distributed.reduce_scatter_tensor
        run(result, own)
        meter = Meter()
        for _ in range(hops(nbytes)):
            run(result, own)
        return meter.spent()

    def bare_copies(self, nbytes: int) -> Spent:
        source, target = self.tensor("own", nbytes), self.tensor("bare", nbytes)
        meter = Meter()
        for _ in range(hops(nbytes)):
            target.copy_(source)
        return meter.spent()

    # Of the comparison of overlap: calls that wait, as for a device, and keep no core busy.

    def produce(self, order: tuple[float, int], part: int) -> torch.Tensor:
        """A tensor of its own for each part, after `order` = (seconds, bytes)."""
        seconds, nbytes = order
        time.sleep(seconds)
        return self.tensor(f"part {part}", nbytes)

    def consume(self, order: tuple[float, int], _: torch.Tensor) -> None:
        time.sleep(order[0])

    def finish(self, *_: Any) -> None:
        """Waits for all that it gets."""

    # Of the comparison of arrays from `alloc`.

    def look(self, _: Any) -> None:
        """Takes an array, and does nothing with it."""

    def plain_array(self, nbytes: int) -> np.ndarray:
        """The same array each time."""
        if getattr(self, "array", None) is None or self.array.nbytes != nbytes:
            self.array = np.zeros(nbytes, np.uint8)
        return self.array

    def allocated_array(self, nbytes: int) -> np.ndarray:
        return cgc.alloc(nbytes, "uint8")
