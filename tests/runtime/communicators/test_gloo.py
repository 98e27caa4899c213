"""The gloo communicator in real actors, which meet through Ray."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import ray
from ray.experimental.channel.communicator import Communicator
from ray.experimental.channel.torch_tensor_type import TorchTensorType
from ray.experimental.util.types import ReduceOp

from cgc.runtime import ray_internals
from cgc.runtime.communicators.gloo import GlooCommunicator


@ray.remote(num_cpus=0)
class Member:
    """An actor that takes part in communicators."""

    def join(self, communicator: GlooCommunicator, rank: int) -> int:
        self.communicator = pickle.loads(pickle.dumps(communicator))
        self.communicator.initialize(rank)
        self.communicator.initialize(rank)
        return self.communicator.get_self_rank()

    def exchange(self) -> list[Any]:
        import torch

        communicator, rank = self.communicator, self.communicator.get_self_rank()
        value = torch.arange(4.0) + rank
        total = torch.empty(4)
        communicator.allreduce(value, total)
        part, everything = torch.empty(2), torch.empty(8)
        communicator.reducescatter(value, part, ReduceOp.PRODUCT)
        communicator.allgather(value, everything)
        if rank == 0:
            communicator.send(value, 1)
            received = value.clone()
        else:
            received = communicator.recv((4,), torch.float32, 0, lambda shape, dtype: torch.zeros(shape, dtype=dtype))
        communicator.broadcast(value, 1)
        return [t.tolist() for t in (total, part, everything, received, value)]

    def receive_for_ever(self) -> str:
        import torch

        try:
            self.communicator.recv((4,), torch.float32, 1)
        except ray.exceptions.RayChannelError as error:
            return str(error)
        return ""

    def leave(self) -> int | None:
        self.communicator.destroy()
        self.communicator.destroy()
        return self.communicator.get_self_rank()


@pytest.fixture(scope="module")
def members(ray_session: None) -> list[Any]:
    return [Member.remote() for _ in range(2)]


def test_actors_meet_through_ray_and_exchange(members: list[Any]) -> None:
    communicator = GlooCommunicator(members)
    for _ in range(2):  # a description may be used again
        joined = [m.join.remote(communicator, communicator.get_rank(m)) for m in members]
        assert ray.get(joined) == [0, 1]
        first, second = ray.get([m.exchange.remote() for m in members])
        assert first == [[1, 3, 5, 7], [0, 2], [0, 1, 2, 3, 1, 2, 3, 4], [0, 1, 2, 3], [1, 2, 3, 4]]
        assert second == [[1, 3, 5, 7], [6, 12], [0, 1, 2, 3, 1, 2, 3, 4], [0, 1, 2, 3], [1, 2, 3, 4]]
        assert ray.get([m.leave.remote() for m in members]) == [None, None]
    assert ray_internals.cluster_keys(b"rendezvous/") == []


def test_it_is_a_transport_of_ray(members: list[Any]) -> None:
    communicator = GlooCommunicator(members)
    assert isinstance(communicator, Communicator)
    hint = TorchTensorType(transport=communicator)
    assert hint.requires_accelerator()
    assert hint.get_custom_communicator() is communicator


def test_a_killed_actor_is_named(members: list[Any]) -> None:
    survivor, victim = members[0], Member.remote()
    communicator = GlooCommunicator([survivor, victim])
    ray.get([survivor.join.remote(communicator, 0), victim.join.remote(communicator, 1)])
    waiting = survivor.receive_for_ever.remote()
    ray.kill(victim)
    assert f"receiving with Member({victim._actor_id.hex()[:8]}) failed" in ray.get(waiting, timeout=20)
    assert ray.get(survivor.leave.remote()) is None


def test_a_mistake_is_told(members: list[Any]) -> None:
    with pytest.raises(ValueError, match="appears twice"):
        GlooCommunicator([members[0], members[0]])
    with pytest.raises(ValueError, match="at least one actor"):
        GlooCommunicator([])
    with pytest.raises(TypeError, match="not an actor handle"):
        GlooCommunicator([Member])
    with pytest.raises(ValueError, match="is not in this communicator"):
        GlooCommunicator([members[0]]).get_rank(members[1])
    with pytest.raises(ray.exceptions.RayChannelError, match="has not joined"):
        GlooCommunicator(members).abort() or GlooCommunicator(members).send(None, 1)
