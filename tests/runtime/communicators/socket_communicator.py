"""
A user's communicator: a subclass of Ray's `Communicator` over sockets, with what its abstract class demands, no more.

Each two ranks share one connection, used by one thread at a time: messages on it have no tags, so that a second thread
would get what is not its own.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.experimental.channel.communicator import Communicator
from ray.experimental.util.types import ReduceOp

DEADLINE = 60.0
RETRY_S = 0.002

REDUCTIONS: dict[ReduceOp, Callable[[torch.Tensor], torch.Tensor]] = {
    ReduceOp.SUM: lambda stacked: stacked.sum(0),
    ReduceOp.PRODUCT: lambda stacked: stacked.prod(0),
    ReduceOp.MAX: lambda stacked: stacked.amax(0),
    ReduceOp.MIN: lambda stacked: stacked.amin(0),
    ReduceOp.AVG: lambda stacked: stacked.mean(0),
}

destroyed: list[int] = []
"""In an actor's process: its ranks in the communicators that have been destroyed."""


class SocketCommunicator(Communicator):  # type: ignore[misc]
    """A rank is the actor's position in `actors`; ranks meet at addresses that only this host can see."""

    recv_stream = None
    send_stream = None

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        self._name = self.generate_communicator_id()
        self._rank: int | None = None

    def initialize(self, rank: int) -> None:
        self._rank = rank
        self._is_closed = False
        self._in_use = threading.Lock()
        self._peers: dict[int, socket.socket] = {}
        with socket.socket(socket.AF_UNIX) as self._listener:
            self._listener.bind(self._address(rank))
            self._listener.listen()
            for peer in range(rank):
                self._peers[peer] = self._connect(peer)
                self._peers[peer].sendall(bytes([rank]))
            for _ in range(rank + 1, len(self._actors)):
                connection, _ = self._listener.accept()
                self._peers[connection.recv(1)[0]] = connection

    def get_actor_handles(self) -> list[Any]:
        return self._actors

    def get_rank(self, actor: ray.actor.ActorHandle) -> int:
        return [each._actor_id for each in self._actors].index(actor._actor_id)

    def get_self_rank(self) -> int | None:
        return self._rank

    def get_world_size(self) -> int:
        return len(self._actors)

    def send(self, value: torch.Tensor, peer_rank: int) -> None:
        with self._alone():
            self._peers[peer_rank].sendall(_octets(value))

    def recv(self, shape: Any, dtype: torch.dtype, peer_rank: int, allocator: Any = None) -> torch.Tensor:
        into: torch.Tensor = torch.empty(shape, dtype=dtype) if allocator is None else allocator(shape, dtype)
        with self._alone():
            self._receive(into, peer_rank)
        return into

    def allgather(self, send_buf: torch.Tensor, recv_buf: torch.Tensor) -> None:
        recv_buf.copy_(torch.cat(self._exchange(send_buf)))

    def allreduce(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp) -> None:
        recv_buf.copy_(REDUCTIONS[op](torch.stack(self._exchange(send_buf))))

    def reducescatter(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp) -> None:
        reduced = REDUCTIONS[op](torch.stack(self._exchange(send_buf)))
        recv_buf.copy_(reduced.chunk(len(self._actors))[self._rank or 0])

    def destroy(self) -> None:
        self._is_closed = True
        destroyed.append(-1 if self._rank is None else self._rank)
        for connection in [self._listener, *self._peers.values()]:
            try:
                connection.shutdown(socket.SHUT_RDWR)  # wakes who waits in it, which `close` does not
            except OSError:
                pass  # the peer has done so already
            connection.close()

    def get_transport_name(self) -> str:
        return "accelerator"

    @classmethod
    def generate_communicator_id(cls) -> str:
        return str(uuid.uuid4())

    def _exchange(self, mine: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, in their order: each pair in turn, the lower rank sending first."""
        with self._alone():
            return [mine if peer == self._rank else self._swap(mine, peer) for peer in range(len(self._actors))]

    def _swap(self, mine: torch.Tensor, peer: int) -> torch.Tensor:
        theirs = torch.empty_like(mine)
        if (self._rank or 0) < peer:
            self._peers[peer].sendall(_octets(mine))
            self._receive(theirs, peer)
        else:
            self._receive(theirs, peer)
            self._peers[peer].sendall(_octets(mine))
        return theirs

    def _receive(self, into: torch.Tensor, peer: int) -> None:
        left = _octets(into)
        while left:
            count = self._peers[peer].recv_into(left)
            if not count:
                raise ConnectionError(f"rank {peer} is gone")
            left = left[count:]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        assert self._in_use.acquire(blocking=False), "two threads use the communicator at once"
        try:
            yield
        finally:
            self._in_use.release()

    def _address(self, rank: int) -> str:
        return f"\0{self._name}-{rank}"

    def _connect(self, peer: int) -> socket.socket:
        deadline = time.monotonic() + DEADLINE
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._address(peer))
                return connection
            except ConnectionRefusedError:
                connection.close()
                assert not self._is_closed
                assert time.monotonic() < deadline
                time.sleep(RETRY_S)  # the peer has not come yet


def _octets(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())
