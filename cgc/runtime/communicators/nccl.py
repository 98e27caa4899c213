"""
The NCCL communicator: Ray's `Communicator` interface for actors that exchange CUDA tensors, by cupy's binding.

Every operation is queued on the calling thread's current torch stream and returns at once; `send` and `recv` of Ray's
interface are thin covers of `queue_send` and `queue_recv`. Tensors travel as bytes. Reductions use NCCL's kernels where
`fold.is_native`, and else exchange the parts and fold them on the device.

torch and cupy are imported in the actors only, where `initialize` is called.
"""

from __future__ import annotations

import array
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayChannelError, RayChannelTimeoutError
from ray.experimental.channel.communicator import Communicator
from ray.experimental.util.types import ReduceOp

from cgc.runtime.accelerators import base
from cgc.runtime.communicators.members import Members
from cgc.runtime.communicators.rendezvous import RayRendezvous

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

POLL_S = 0.02
"""Seconds after which who joins hears that there is no more use in it."""

CUPY_IS_MISSING = (
    "nccl needs cupy with NCCL in the actor's environment: pip install 'cgc[gpu]', or 'cgc[gpu-cuda12]' where torch is "
    "built for CUDA 12"
)

_TYPES = {
    "int8": "NCCL_INT8",
    "uint8": "NCCL_UINT8",
    "int32": "NCCL_INT32",
    "int64": "NCCL_INT64",
    "float16": "NCCL_FLOAT16",
    "bfloat16": "NCCL_BFLOAT16",
    "float32": "NCCL_FLOAT32",
    "float64": "NCCL_FLOAT64",
}
"""Dtypes with kernels, to the names of cupy's constants."""


class NcclCommunicator(Communicator):  # type: ignore[misc]
    """
    A group of actors with one CUDA device each. A rank is the actor's position in `actors`.

    Operations raise `RayChannelError` once the communicator is broken: a peer is gone, or it was aborted. What was
    queued before that has no valid result; whoever waits for an event of it calls `check` afterwards (see
    `QueuedCommunicator` in `accelerators.interface`).
    """

    def __init__(self, actors: Sequence[ray.actor.ActorHandle], *, connect_timeout: float = 60.0) -> None:
        """Describe the group; touches no actor. Raises `TypeError` and `ValueError` as `Members` does."""
        self.members = Members(actors)
        self.communicator_id = self.generate_communicator_id()
        self._connect_timeout = connect_timeout
        self._rendezvous = RayRendezvous(self.communicator_id)
        self._rank: int | None = None
        self._backend: Any = None
        self._broken = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rank": None, "_backend": None, "_broken": ""}

    def initialize(self, rank: int) -> None:
        """
        Join the group as `rank`; returns when all actors have. Idempotent.

        Raises:
            RuntimeError: The actor has no GPU.
            ImportError: torch or cupy is not installed.
            RayChannelTimeoutError: Not all actors joined within `connect_timeout`.
            RayChannelError: It was aborted meanwhile.
        """
        if self._backend is not None and self._rank == rank:
            return
        try:
            from cupy.cuda import nccl
        except ImportError as error:
            raise ImportError(f"{CUPY_IS_MISSING} ({error})") from error
        accelerator = base.find("cuda")
        device = accelerator.device()
        store = self._rendezvous.open(self._connect_timeout, lambda: bool(self._broken))
        if rank == 0:
            store.set("nccl", array.array("b", nccl.get_unique_id()).tobytes())
        identity = tuple(array.array("b", store.get("nccl")))

        def join() -> Any:
            with accelerator.on_device():  # the current device is a thread's own
                return nccl.NcclCommunicator(self.members.count, identity, rank)

        what = f"joining the nccl group on {device}"
        self._backend = within(self._connect_timeout, join, what, lambda: self._broken, lambda late: late.abort())
        self._rank = rank
        if rank == 0:
            self._rendezvous.close()

    def get_actor_handles(self) -> list[ray.actor.ActorHandle]:
        return list(self.members.actors)

    def get_rank(self, actor: ray.actor.ActorHandle) -> int:
        return self.members.rank_of(actor)

    def get_self_rank(self) -> int | None:
        return self._rank

    def get_world_size(self) -> int:
        return self.members.count

    def queue_send(self, value: torch.Tensor, peer_rank: int) -> None:
        """Queue the send of a contiguous tensor on the current stream."""
        octets = _octets(value)
        self._live().send(octets.data_ptr(), octets.numel(), _constant("NCCL_UINT8"), peer_rank, _stream())

    def queue_recv(self, into: torch.Tensor, peer_rank: int) -> None:
        """Queue the receive into a contiguous tensor on the current stream."""
        octets = _octets(into)
        self._live().recv(octets.data_ptr(), octets.numel(), _constant("NCCL_UINT8"), peer_rank, _stream())

    def send(self, value: torch.Tensor, peer_rank: int) -> None:
        """Queue the send; `value` must not be written before the current stream has passed it."""
        self.queue_send(value.detach().contiguous(), peer_rank)

    def recv(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        peer_rank: int,
        allocator: Callable[[Sequence[int], torch.dtype], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Receive, and return when the tensor may be used on any stream: waits for the current stream."""
        import torch

        tensor = torch.empty(tuple(shape), dtype=dtype, device="cuda") if allocator is None else allocator(shape, dtype)
        self.queue_recv(tensor, peer_rank)
        torch.cuda.current_stream().synchronize()
        self.check()
        return tensor

    @contextmanager
    def grouped(self) -> Iterator[None]:
        """Sends and receives that are queued within are one operation: none of them waits for another one."""
        from cupy.cuda import nccl

        nccl.groupStart()
        try:
            yield
        finally:
            nccl.groupEnd()

    def broadcast(self, buffer: torch.Tensor, root_rank: int) -> None:
        """Queue a broadcast of a contiguous tensor; not part of Ray's interface."""
        octets = _octets(buffer)
        address = octets.data_ptr()
        self._live().broadcast(address, address, octets.numel(), _constant("NCCL_UINT8"), root_rank, _stream())

    def allgather(self, send_buf: torch.Tensor, recv_buf: torch.Tensor) -> None:
        self._gather(recv_buf, send_buf.detach().contiguous())

    def allreduce(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        from cgc.runtime.communicators import fold

        fold.check_reduction(send_buf.dtype, op)
        send = send_buf.detach().contiguous()
        if fold.is_native(send.dtype, op):
            kind = _constant(_TYPES[_name(send.dtype)])
            self._live().allReduce(send.data_ptr(), recv_buf.data_ptr(), send.numel(), kind, op.value, _stream())
        else:
            result = fold.fold_everywhere(send, op, self.members.count, self._exchange, self._gather)
            recv_buf.detach().copy_(result)

    def reducescatter(self, send_buf: torch.Tensor, recv_buf: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        from cgc.runtime.communicators import fold

        fold.check_reduction(send_buf.dtype, op)
        send = send_buf.detach().contiguous()
        if fold.is_native(send.dtype, op):
            kind = _constant(_TYPES[_name(send.dtype)])
            count = recv_buf.numel()
            self._live().reduceScatter(send.data_ptr(), recv_buf.data_ptr(), count, kind, op.value, _stream())
        else:
            part = fold.folded_part(send, op, self.members.count, self._exchange)
            recv_buf.detach().copy_(part.view(recv_buf.shape))

    def check(self) -> None:
        """Raise `RayChannelError` if the communicator is broken, and results of queued operations are not valid."""
        if not self._broken:
            try:
                self._live().check_async_error()
            except Exception as error:
                self._broken = str(error)
        self._live()

    @property
    def recv_stream(self) -> AbstractContextManager[Any]:
        return _current_stream_context()

    @property
    def send_stream(self) -> AbstractContextManager[Any]:
        return _current_stream_context()

    def abort(self, reason: str = "the communicator was aborted") -> None:
        """End all kernels of the communicator, with every wait for an event behind them, and joining. Idempotent."""
        backend, self._broken = self._backend, self._broken or reason
        if backend is not None:
            backend.abort()

    def destroy(self) -> None:
        """Leave the group without waiting for peers. Idempotent."""
        self.abort("the communicator was destroyed")
        self._backend = None

    def get_transport_name(self) -> str:
        return "accelerator"

    @classmethod
    def generate_communicator_id(cls) -> str:
        return f"nccl-{uuid.uuid4().hex}"

    def _live(self) -> Any:
        if self._broken:
            raise RayChannelError(f"nccl: {self._broken}")
        if self._backend is None:
            raise RayChannelError("this process has not joined the nccl communicator: call initialize(rank) first")
        return self._backend

    def _gather(self, target: torch.Tensor, source: torch.Tensor) -> None:
        ours, theirs = _octets(source), _octets(target)
        kind = _constant("NCCL_UINT8")
        self._live().allGather(ours.data_ptr(), theirs.data_ptr(), ours.numel(), kind, _stream())

    def _exchange(self, target: torch.Tensor, source: torch.Tensor) -> None:
        ours, theirs = _octets(source).chunk(self.members.count), _octets(target).chunk(self.members.count)
        backend, kind, stream = self._live(), _constant("NCCL_UINT8"), _stream()
        with self.grouped():
            for peer, (outgoing, incoming) in enumerate(zip(ours, theirs, strict=True)):
                backend.send(outgoing.data_ptr(), outgoing.numel(), kind, peer, stream)
                backend.recv(incoming.data_ptr(), incoming.numel(), kind, peer, stream)


def _octets(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    if tensor.device.type != "cuda" or not tensor.is_contiguous():
        raise ValueError(f"nccl moves contiguous cuda tensors, got {_name(tensor.dtype)} on {tensor.device}")
    return tensor.detach().view(-1).view(torch.uint8)


def _constant(name: str) -> int:
    from cupy.cuda import nccl

    return int(getattr(nccl, name))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _stream() -> int:
    import torch

    return int(torch.cuda.current_stream().cuda_stream)


def _current_stream_context() -> AbstractContextManager[Any]:
    import torch

    context: AbstractContextManager[Any] = torch.cuda.stream(torch.cuda.current_stream())
    return context


def within(
    timeout: float, action: Callable[[], T], what: str, cancelled: Callable[[], str], undo: Callable[[T], None]
) -> T:
    """
    The result of a call that cannot be interrupted, in a thread of its own.

    If it takes too long, or `cancelled` gives a reason, it is left to its thread, which undoes what it comes to.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = action()
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # nobody waits any more
                future.set_exception(error)
            return
        try:
            future.set_result(result)
        except InvalidStateError:
            undo(result)

    threading.Thread(target=run, name="cgc-nccl-join", daemon=True).start()
    deadline = time.monotonic() + timeout
    while not wait([future], POLL_S).done:
        reason = cancelled()
        if (reason or time.monotonic() > deadline) and future.cancel():
            if reason:
                raise RayChannelError(f"{what} was cancelled: {reason}")
            raise RayChannelTimeoutError(f"{what} took more than {timeout:g} s: not all of its actors came")
    return future.result()
