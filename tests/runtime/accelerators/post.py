"""
The adversarial device's own communicator between processes: messages over sockets, as tasks of its streams.

A send completes when the peer's receive has taken the message, as with nccl; and as there, nobody is told of a peer's
death: what waits for it waits until `abort`. Only what the steps use is implemented.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np
from ray.exceptions import RayChannelError
from ray.experimental.channel.communicator import Communicator
from ray.experimental.util.types import ReduceOp

from cgc.runtime.accelerators import base
from cgc.runtime.communicators.members import Members
from tests.runtime.accelerators.adversary import POISON, AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.combining import Combine, gathered, reduced, scattered
from tests.runtime.accelerators.world import Conditional, World

DEADLINE = 30.0
POLL = 0.001
ARRAY, PART, TAKEN = b"a", b"p", b"t"
"""Messages begin with one of these: an array for a receive, one for a collective, or the word that one was received."""


class PostCommunicator(Communicator):  # type: ignore[misc]
    """A rank is the actor's position in `actors`."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.members = Members(actors)
        self.name = f"\0cgc-adversary-{id(self)}-{time.monotonic_ns()}"
        self._rank: int | None = None

    def initialize(self, rank: int) -> None:
        """Returns when all have joined, or raises when it is aborted."""
        device = base.find("adversary")
        assert isinstance(device, AdversarialDevice)
        self._rank, self._device = rank, device
        self._inbox: dict[tuple[bytes, int], deque[bytes]] = defaultdict(deque)
        self._taken: dict[int, int] = defaultdict(int)
        self._sent: dict[int, int] = defaultdict(int)
        self._peers: dict[int, Connection] = {}
        self._failure = ""
        self._over = threading.Event()
        device.communicators.append(self)
        if device.dies_when_joining:
            os.kill(os.getpid(), signal.SIGKILL)
        self._listener = Listener(f"{self.name}-{rank}", "AF_UNIX")
        threading.Thread(target=self._accept, daemon=True).start()
        self._others = [peer for peer in range(self.members.count) if peer != rank]
        for peer in self._others:
            self._peers[peer] = self._connect(peer)

    def queue_send(self, array: AdversarialArray, peer: int) -> None:
        block = array.block
        stream = self._device.current_stream()
        self._sent[peer] += 1
        number = self._sent[peer]
        stream.push(lambda: self._post(peer, ARRAY, block.octets.tobytes()))
        stream.push(Conditional(lambda: self._taken[peer] >= number or self._over.is_set(), lambda: None))

    def queue_recv(self, into: AdversarialArray, peer: int) -> None:
        block, inbox = into.block, self._inbox[ARRAY, peer]

        def take() -> None:
            if not self._over.is_set():
                block.octets[:] = np.frombuffer(inbox.popleft(), np.uint8)
                self._post(peer, TAKEN)

        stream = self._device.current_stream()
        stream.push(lambda: block.octets.fill(POISON))
        stream.push(Conditional(lambda: bool(inbox) or self._over.is_set(), take))

    def allgather(self, send_buf: AdversarialArray, recv_buf: AdversarialArray) -> None:
        self._queue_collective(send_buf, recv_buf, gathered)

    def allreduce(self, send_buf: AdversarialArray, recv_buf: AdversarialArray, op: ReduceOp = ReduceOp.SUM) -> None:
        self._queue_collective(send_buf, recv_buf, reduced(op))

    def reducescatter(
        self, send_buf: AdversarialArray, recv_buf: AdversarialArray, op: ReduceOp = ReduceOp.SUM
    ) -> None:
        assert self._rank is not None
        self._queue_collective(send_buf, recv_buf, scattered(op, self._rank))

    def check(self) -> None:
        if self._failure:
            raise RayChannelError(f"post: {self._failure}")

    def fail(self, reason: str, *, hangs: bool) -> None:
        """Be broken as nobody hears without asking; what is queued waits for ever, or leaves what it finds."""
        self._failure = reason
        if not hangs:
            self._over.set()

    def abort(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._over.set()

    def destroy(self) -> None:
        self.abort("the communicator was destroyed")
        self._listener.close()
        for connection in self._peers.values():
            connection.close()

    def _queue_collective(self, source: AdversarialArray, target: AdversarialArray, combine: Combine) -> None:
        """Every rank tells every other one what it has."""
        read, write = source.block, target.block
        shape, dtype = source.shape, source.dtype
        inboxes = {peer: self._inbox[PART, peer] for peer in self._others}
        own = bytearray()

        def tell() -> None:
            own.extend(read.octets.tobytes())
            write.octets.fill(POISON)  # which may be the source
            for peer in self._others:
                self._post(peer, PART, bytes(own))

        def take() -> None:
            if self._over.is_set():
                return
            octets = [inboxes[rank].popleft() if rank in inboxes else own for rank in range(self.members.count)]
            result = combine([np.frombuffer(part, dtype).reshape(shape) for part in octets])
            write.octets[:] = np.ascontiguousarray(result).reshape(-1).view(np.uint8)

        stream = self._device.current_stream()
        stream.push(tell)
        stream.push(Conditional(lambda: all(inboxes.values()) or self._over.is_set(), take))

    def _post(self, peer: int, kind: bytes, octets: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # it has died, which nobody is told
            self._peers[peer].send_bytes(kind + octets)

    def _connect(self, peer: int) -> Connection:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                connection = Client(f"{self.name}-{peer}", "AF_UNIX")
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"rank {peer} has not joined"
                self._over.wait(POLL)
                self.check()
        connection.send(self._rank)
        return connection

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._collect, args=(connection,), daemon=True).start()

    def _collect(self, connection: Connection) -> None:
        try:
            peer = connection.recv()
            while True:
                message = connection.recv_bytes()
                kind, octets = message[:1], message[1:]
                if kind == TAKEN:
                    self._taken[peer] += 1
                else:
                    self._inbox[kind, peer].append(octets)
        except (EOFError, OSError):
            return

    def get_actor_handles(self) -> list[Any]:
        return list(self.members.actors)

    def get_rank(self, actor: Any) -> int:
        return self.members.rank_of(actor)

    def get_self_rank(self) -> int | None:
        return self._rank

    def get_world_size(self) -> int:
        return self.members.count

    def get_transport_name(self) -> str:
        return "accelerator"

    @classmethod
    def generate_communicator_id(cls) -> str:
        return "post"

    recv_stream = send_stream = None

    def send(self, *_: Any) -> None:
        raise NotImplementedError

    recv = send


def driver_device() -> AdversarialDevice:
    """What a driver registers, so that communicators can be made there."""
    return AdversarialDevice(World(0))
