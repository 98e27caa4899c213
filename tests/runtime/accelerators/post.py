"""
The adversarial device's own communicator between processes: messages over sockets, as tasks of its streams.

A send completes when the peer's receive has taken the message, as with nccl. Only what the steps use is implemented.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np
from ray.experimental.channel.communicator import Communicator

from cgc.runtime.accelerators import base
from cgc.runtime.communicators.members import Members
from tests.runtime.accelerators.adversary import POISON, AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.world import Conditional, World

DEADLINE = 30.0


class PostCommunicator(Communicator):  # type: ignore[misc]
    """A rank is the actor's position in `actors`."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.members = Members(actors)
        self.name = f"\0cgc-adversary-{id(self)}-{time.monotonic_ns()}"
        self._rank: int | None = None

    def initialize(self, rank: int) -> None:
        device = base.find("adversary")
        assert isinstance(device, AdversarialDevice)
        self._rank, self._device = rank, device
        self._inbox: dict[int, deque[bytes]] = defaultdict(deque)
        self._taken: dict[int, int] = defaultdict(int)
        self._sent: dict[int, int] = defaultdict(int)
        self._peers: dict[int, Connection] = {}
        self._listener = Listener(f"{self.name}-{rank}", "AF_UNIX")
        threading.Thread(target=self._accept, daemon=True).start()

    def queue_send(self, array: AdversarialArray, peer: int) -> None:
        block = array.block
        stream = self._device.current_stream()
        self._sent[peer] += 1
        number = self._sent[peer]
        stream.push(lambda: self._peer(peer).send_bytes(block.octets.tobytes()))
        stream.push(Conditional(lambda: self._taken[peer] >= number, lambda: None))

    def queue_recv(self, into: AdversarialArray, peer: int) -> None:
        block, inbox = into.block, self._inbox[peer]

        def take() -> None:
            block.octets[:] = np.frombuffer(inbox.popleft(), np.uint8)
            self._peer(peer).send_bytes(b"taken")

        stream = self._device.current_stream()
        stream.push(lambda: block.octets.fill(POISON))
        stream.push(Conditional(lambda: bool(inbox), take))

    def _peer(self, peer: int) -> Connection:
        if peer not in self._peers:
            deadline = time.monotonic() + DEADLINE
            while True:
                try:
                    connection = Client(f"{self.name}-{peer}", "AF_UNIX")
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.001)  # it has not joined yet
            connection.send(self._rank)
            self._peers[peer] = connection
        return self._peers[peer]

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._collect, args=(connection,), daemon=True).start()

    def _collect(self, connection: Connection) -> None:
        peer = connection.recv()
        try:
            while True:
                message = connection.recv_bytes()
                if message == b"taken":
                    self._taken[peer] += 1
                else:
                    self._inbox[peer].append(message)
        except (EOFError, OSError):
            return

    def destroy(self) -> None:
        self._listener.close()
        for connection in self._peers.values():
            connection.close()

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

    recv = allgather = allreduce = reducescatter = send


def driver_device() -> AdversarialDevice:
    """What a driver registers, so that communicators can be made there."""
    return AdversarialDevice(World(0))
