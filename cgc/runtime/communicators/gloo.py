"""
The gloo communicator: Ray's `Communicator` interface for actors that exchange CPU tensors.

This is what users hand to `with_tensor_transport(transport=...)` and `allreduce.bind(..., transport=...)`, and what the
runtime makes where a graph asks for gloo. It is a description until `initialize` is called in an actor; the work is
done by `gloo_group`, which, unlike this module, imports torch.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayChannelError
from ray.experimental.channel.communicator import Communicator
from ray.experimental.util.types import ReduceOp

from cgc.runtime.communicators.members import Members
from cgc.runtime.communicators.rendezvous import RayRendezvous

if TYPE_CHECKING:
    import torch

    from cgc.runtime.communicators.gloo_group import GlooGroup, Pending

TORCH_IS_MISSING = "gloo needs PyTorch in the actor's environment: pip install 'cgc[torch]'"


class GlooCommunicator(Communicator):  # type: ignore[misc]
    """
    A group of actors that exchange CPU tensors over gloo, on any nodes of the cluster.

    A rank is the actor's position in `actors`. Instances are picklable and of no cost until a graph uses them. Each
    graph makes a group of its own from an instance, so that one may serve several graphs, also at once.

    Methods other than `initialize` and the getters raise `RayChannelError` when a peer is gone or after `abort`; then
    the communicator is of no more use, and the actors are as before.
    """

    def __init__(
        self,
        actors: Sequence[ray.actor.ActorHandle],
        *,
        timeout: float | None = None,
        connect_timeout: float = 60.0,
    ) -> None:
        """
        Describe the group; touches no actor.

        Args:
            actors: The participants, each once, in the order of their ranks.
            timeout: Seconds that one operation may take, None for no limit. A peer's death ends it in any case.
            connect_timeout: Seconds that all actors have to join.

        Raises:
            TypeError: One of `actors` is not an actor handle.
            ValueError: An actor appears twice, or there is none.
        """
        self.members = Members(actors)
        self.communicator_id = self.generate_communicator_id()
        self.timeout = timeout
        self._connect_timeout = connect_timeout
        self._rendezvous = RayRendezvous(self.communicator_id)
        self._group: GlooGroup | None = None
        self._is_cancelled = False

    def renewed(self) -> GlooCommunicator:
        """Another communicator of the same actors, whose ranks meet apart from this one's."""
        return GlooCommunicator(self.members.actors, timeout=self.timeout, connect_timeout=self._connect_timeout)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def initialize(self, rank: int) -> None:
        """
        Join the group as `rank`; returns when all actors have. Idempotent.

        Raises:
            RayChannelTimeoutError: Not all actors joined within `connect_timeout`.
            RayChannelError: `abort` was called meanwhile, or an actor has died.
            ImportError: PyTorch is not installed.
        """
        if self._group is not None and self._group.rank == rank:
            return
        try:
            self._group = self._join(rank)
        except BaseException:
            self._rendezvous.close()  # nobody can complete the group any more
            raise
        if rank == 0:
            self._rendezvous.close()

    def _join(self, rank: int) -> GlooGroup:
        try:
            from cgc.runtime.communicators.gloo_group import GlooGroup
        except ImportError as error:
            raise ImportError(f"{TORCH_IS_MISSING} ({error})") from error
        store = self._rendezvous.open(self._connect_timeout, lambda: self._is_cancelled)
        group = GlooGroup(
            store,
            rank,
            self.members.count,
            host=self._rendezvous.host(store, rank, self.members.count),
            timeout=self.timeout,
            connect_timeout=self._connect_timeout,
            names=self.members.names,
        )
        group.barrier()  # nobody looks for keys after this
        return group

    def get_actor_handles(self) -> list[ray.actor.ActorHandle]:
        return list(self.members.actors)

    def get_rank(self, actor: ray.actor.ActorHandle) -> int:
        """Raises `ValueError` if the actor does not belong to the group."""
        return self.members.rank_of(actor)

    def get_self_rank(self) -> int | None:
        return None if self._group is None else self._group.rank

    def get_world_size(self) -> int:
        return self.members.count

    def send(self, value: torch.Tensor, peer_rank: int) -> None:
        """Send, and return when `value` may be written again."""
        self._joined().send(value, peer_rank)

    def start_send(self, value: torch.Tensor, peer_rank: int) -> Pending:
        """Begin to send; `wait` of the result returns when `value` may be written again."""
        return self._joined().start_send(value, peer_rank)

    def recv(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        peer_rank: int,
        allocator: Callable[[Sequence[int], torch.dtype], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Receive a tensor of exactly this shape and dtype, straight into memory of `allocator` if there is one."""
        return self._joined().recv((allocator or _empty)(shape, dtype), peer_rank)

    def start_recv(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        peer_rank: int,
        allocator: Callable[[Sequence[int], torch.dtype], torch.Tensor] | None = None,
    ) -> Pending:
        """Begin to receive; `wait` of the result returns the tensor."""
        return self._joined().start_recv((allocator or _empty)(shape, dtype), peer_rank)

    def broadcast(self, buffer: torch.Tensor, root_rank: int) -> None:
        """Give every rank the root's values; not part of Ray's interface."""
        self._joined().broadcast(buffer, root_rank)

    def allgather(self, send_buf: torch.Tensor, recv_buf: torch.Tensor) -> None:
        self._joined().allgather(send_buf, recv_buf)

    def allreduce(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        self._joined().allreduce(send_buf, recv_buf, op)

    def reducescatter(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        self._joined().reducescatter(send_buf, recv_buf, op)

    def start(self, collective: Callable[[], None]) -> Pending:
        """Begin a collective of this communicator on its communication thread."""
        return self._joined().start(collective)

    @property
    def recv_stream(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @property
    def send_stream(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def abort(self, reason: str = "the communicator was aborted") -> None:
        """Wake everybody who waits in an operation or joins, here and at the peers. Never blocks; idempotent."""
        self._is_cancelled = True
        if self._group is not None:
            self._group.abort(reason)

    def destroy(self) -> None:
        """Leave the group. Idempotent, and never waits for peers."""
        self._is_cancelled = True
        group, self._group = self._group, None
        if group is not None:
            group.destroy()

    def get_transport_name(self) -> str:
        """Ray's word for "tensors go through the communicator" rather than through host memory."""
        return "accelerator"

    @classmethod
    def generate_communicator_id(cls) -> str:
        return f"gloo-{uuid.uuid4().hex}"

    def _joined(self) -> GlooGroup:
        if self._group is None:
            raise RayChannelError("this process has not joined the gloo communicator: call initialize(rank) first")
        return self._group


def _empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.empty(tuple(shape), dtype=dtype)
