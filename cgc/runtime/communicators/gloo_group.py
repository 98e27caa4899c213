"""
One rank of a group of processes that exchange CPU tensors over torch's gloo backend.

The group owns its process group object, its connections and its threads. It is never torch's default group and is not
known to `torch.distributed`, so that the user's own use of that stays untouched, and a process can be in many groups.

Everything travels as bytes, so that every dtype can be sent. Point to point, gloo takes any tensor for its bytes.
Reductions use gloo's kernels where `fold.is_native`, and else exchange the parts and fold them here.

gloo has no way to cancel an operation, and ends the *process* when a message is larger than the tensor it is received
into. `abort` mends the first. Against the second both sides have to agree on the size before: cgc's programs do so
with a header, direct users of a group take care themselves.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from ray.exceptions import RayChannelError, RayChannelTimeoutError
from ray.experimental.util.types import ReduceOp
from torch._C import _distributed_c10d

from cgc.runtime.communicators import fold
from cgc.runtime.communicators.comm_thread import CommunicationThread
from cgc.runtime.communicators.ownership import Loans
from cgc.runtime.communicators.rendezvous import LOOPBACK
from cgc.runtime.tensors import plain

c10d: Any = _distributed_c10d  # torch's stubs lack most of what is used here

FOREVER_S = 10 * 365 * 86_400.0
"""gloo wants a number, and overflows at 292 years."""

STOP_TIMEOUT_S = 5.0
"""How long `destroy` waits for the communication thread, which ends at once after an abort."""

_ABORT_TAG = 0x7FFF_FFFF
_REDUCTIONS = {
    ReduceOp.SUM: c10d.ReduceOp.SUM,
    ReduceOp.AVG: c10d.ReduceOp.SUM,
    ReduceOp.PRODUCT: c10d.ReduceOp.PRODUCT,
    ReduceOp.MAX: c10d.ReduceOp.MAX,
    ReduceOp.MIN: c10d.ReduceOp.MIN,
}


class Pending:
    """
    A transfer that has been started, to be ended with `wait`.

    Until then the tensors are kept; what is sent must not be written and what is received must not be used.
    """

    __slots__ = ("_finish", "_kept", "_result")

    def __init__(self, finish: Callable[[], Any], kept: Any = None) -> None:
        self._finish: Callable[[], Any] | None = finish
        self._kept = kept
        self._result: Any = None

    def wait(self) -> Any:
        """The received tensor, or None. Raises what the operation raised; may be called again after success."""
        if self._finish is not None:
            self._result = self._finish()
            self._finish = self._kept = None
        return self._result


class GlooGroup:
    """
    A rank's end of a group. All methods that move data raise `RayChannelError` when a peer has died or the group was
    aborted, and `RayChannelTimeoutError` when the time-out ends: the group is broken then, the process is not.

    Point-to-point messages between two ranks with one tag keep their order. Collectives must be called by all ranks in
    the same order, with the same shapes and dtypes, from one thread at a time.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world_size: int,
        *,
        host: str = LOOPBACK,
        timeout: float | None = None,
        connect_timeout: float = 60.0,
        names: tuple[str, ...] = (),
    ) -> None:
        """
        Connect with all other ranks: returns when they all have done the same.

        Args:
            store: A torch store that all ranks share.
            rank: This process's number, from 0.
            world_size: How many ranks there are.
            host: Name or address of this node; gloo listens there.
            timeout: Seconds that one operation may take; None for no limit.
            connect_timeout: Seconds that all ranks have to connect.
            names: What to call the ranks in messages.
        """
        self.rank = rank
        self.world_size = world_size
        self.names = names or tuple(f"rank {number}" for number in range(world_size))
        self.broken: str | None = None
        self._timeout = timedelta(seconds=FOREVER_S if timeout is None else timeout)
        self._lock = threading.Lock()
        self._thread: CommunicationThread | None = None
        self._kept: list[Any] = []
        self._loans = Loans()
        self._reductions: dict[ReduceOp, Any] = {}
        options = c10d.ProcessGroupGloo._Options()
        options._timeout = timedelta(seconds=connect_timeout)
        options._devices = [c10d.ProcessGroupGloo.create_device(hostname=host)]
        options._threads = 2
        try:
            self._backend: Any = c10d.ProcessGroupGloo(store, rank, world_size, options)
        except RuntimeError as error:
            raise self._failure(error, "connecting") from error

    # Point to point. `send` and `recv` do not go by way of `Pending`: a large transfer empties the processor's caches,
    # and its objects cost a tenth of the time that 1 MiB takes.

    def send(self, tensor: torch.Tensor, peer: int, tag: int = 0) -> None:
        """Send, and return when the tensor may be written again."""
        whole = _plain(tensor).contiguous()
        try:
            self._connected(peer).send([whole], peer, tag).wait(self._timeout)
        except RuntimeError as error:
            raise self._failure(error, "sending", peer) from error

    def start_send(self, tensor: torch.Tensor, peer: int, tag: int = 0) -> Pending:
        """Begin to send: the peer's receive and the caller's computation go on meanwhile."""
        whole = _plain(tensor).contiguous()
        try:
            work = self._connected(peer).send([whole], peer, tag)
        except RuntimeError as error:
            raise self._failure(error, "sending", peer) from error
        return Pending(partial(self._finish, work, "sending", peer), whole)

    def recv(self, into: torch.Tensor, peer: int, tag: int = 0) -> torch.Tensor:
        """Receive into `into`, which has exactly the size of the message, and return it."""
        landing = _landing(into)
        try:
            self._connected(peer).recv([landing], peer, tag).wait(self._timeout)
        except RuntimeError as error:
            raise self._failure(error, "receiving", peer) from error
        return into if landing is into else _land(landing, into)

    def start_recv(self, into: torch.Tensor, peer: int, tag: int = 0) -> Pending:
        """Begin to receive; the result of `wait` is `into`."""
        landing = _landing(into)
        try:
            work = self._connected(peer).recv([landing], peer, tag)
        except RuntimeError as error:
            raise self._failure(error, "receiving", peer) from error

        def finish() -> torch.Tensor:
            self._finish(work, "receiving", peer)
            return _land(landing, into)

        return Pending(finish)

    def _finish(self, work: Any, what: str, peer: int) -> None:
        try:
            work.wait(self._timeout)
        except RuntimeError as error:
            raise self._failure(error, what, peer) from error

    # Collectives.

    def broadcast(self, tensor: torch.Tensor, root: int) -> None:
        """Give everyone the root's values of `tensor`."""
        if not 0 <= root < self.world_size:
            raise ValueError(f"{root} is not a rank of this group, which has {self.world_size}")
        self._in_order(lambda: self._broadcast(tensor, root))

    def allgather(self, send: torch.Tensor, recv: torch.Tensor) -> None:
        """Put the tensors of all ranks, which have one shape and dtype, into `recv` one after the other."""
        if recv.dtype != send.dtype or recv.numel() != send.numel() * self.world_size:
            raise ValueError(f"allgather: {self.world_size} × {_describe(send)} does not fit {_describe(recv)}")
        self._in_order(lambda: self._allgather(recv, _plain(send)))

    def allreduce(self, send: torch.Tensor, recv: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        """Put the reduction over all ranks into `recv`, which may be `send`. Raises `TypeError` as `fold` does."""
        if recv.dtype != send.dtype or recv.shape != send.shape:
            raise ValueError(f"allreduce: {_describe(send)} does not fit {_describe(recv)}")
        fold.check_reduction(send.dtype, op)
        reduce = self._reduce_natively if fold.is_native(send.dtype, op) else self._reduce_by_folding
        self._in_order(lambda: reduce(_plain(send), recv, op))

    def reducescatter(self, send: torch.Tensor, recv: torch.Tensor, op: ReduceOp = ReduceOp.SUM) -> None:
        """Put this rank's part of the reduction into `recv`; parts are cut along the first dimension, by rank."""
        if recv.dtype != send.dtype or recv.numel() * self.world_size != send.numel():
            raise ValueError(
                f"reducescatter: one of {self.world_size} equal parts of {_describe(send)} does not fit "
                f"{_describe(recv)}; the first dimension must be divisible by the number of ranks"
            )
        fold.check_reduction(send.dtype, op)
        self._in_order(lambda: self._reducescatter(_plain(send), recv, op))

    def barrier(self) -> None:
        """Return when all ranks have called this."""
        token = torch.zeros(1)
        self.allreduce(token, token)

    def start(self, collective: Callable[[], None]) -> Pending:
        """
        Begin a collective of this group, e.g. `lambda: group.allreduce(a, b)`, on the communication thread.

        They run in the order in which they were started; one that is called directly takes its turn behind them.
        """
        with self._lock:
            if self._thread is None:
                self._thread = CommunicationThread(f"cgc-gloo-{self.rank}")
        return Pending(self._thread.submit(collective).result)

    # The end.

    def abort(self, reason: str = "the group was aborted") -> None:
        """
        Break the group: every operation that waits, here or at a peer, ends with `RayChannelError`.

        From any thread, idempotent, and over within milliseconds. gloo cannot cancel, but it closes all connections of
        a group when one of its receives times out, so that is what happens here.
        """
        with self._lock:
            first = self.broken is None
            self.broken = self.broken or reason
        if not first or self.world_size == 1:
            return
        neighbour = (self.rank + 1) % self.world_size
        with contextlib.suppress(RuntimeError):
            nothing = torch.empty(1, dtype=torch.uint8)
            self._backend.recv([nothing], neighbour, _ABORT_TAG).wait(timedelta(milliseconds=1))

    def destroy(self) -> None:
        """Close all connections and end the group's threads; aborts what still waits. Idempotent."""
        self.abort("the group was destroyed")
        if self._thread is not None:
            self._thread.stop(STOP_TIMEOUT_S)
        self._backend = None

    # Inside. `send` tensors are plain here: no gradient, no pending conjugation.

    def _broadcast(self, tensor: torch.Tensor, root: int) -> None:
        landing = _plain(tensor).contiguous() if self.rank == root else _landing(tensor)
        if landing.numel() and self.world_size > 1:
            options = c10d.BroadcastOptions()
            options.rootRank, options.rootTensor, options.timeout = root, 0, self._timeout
            self._complete("broadcast", lambda whole: self._live().broadcast([whole], options), landing)
        if self.rank != root:
            _land(landing, tensor)

    def _allgather(self, recv: torch.Tensor, send: torch.Tensor) -> None:
        landing, part = _landing(recv), send.contiguous()
        if self.world_size == 1:
            landing.view(-1).copy_(part.view(-1))
        elif landing.numel():
            options = c10d.AllgatherOptions()
            options.timeout = self._timeout
            self._complete("allgather", lambda *both: self._live()._allgather_base(*both, options), landing, part)
        _land(landing, recv)

    def _reduce_natively(self, send: torch.Tensor, recv: torch.Tensor, op: ReduceOp) -> None:
        landing = _landing(recv)
        if landing.data_ptr() != send.data_ptr() or not send.is_contiguous():
            landing.copy_(send)
        if landing.numel() and self.world_size > 1:
            options = self._options_of(op)
            self._complete(
                "allreduce", lambda whole: self._live().allreduce([whole], options), landing, dtype=landing.dtype
            )
        if op is ReduceOp.AVG:
            landing.div_(self.world_size)
        _land(landing, recv)

    def _options_of(self, op: ReduceOp) -> Any:
        options = self._reductions.get(op)
        if options is None:
            options = self._reductions[op] = c10d.AllreduceOptions()
            options.reduceOp, options.timeout = _REDUCTIONS[op], self._timeout
        return options

    def _reduce_by_folding(self, send: torch.Tensor, recv: torch.Tensor, op: ReduceOp) -> None:
        recv.detach().copy_(fold.fold_everywhere(send, op, self.world_size, self._exchange, self._allgather))

    def _reducescatter(self, send: torch.Tensor, recv: torch.Tensor, op: ReduceOp) -> None:
        part = fold.folded_part(send, op, self.world_size, self._exchange)
        recv.detach().copy_(part.view(recv.shape))

    def _exchange(self, target: torch.Tensor, source: torch.Tensor) -> None:
        options = c10d.AllToAllOptions()
        options.timeout = self._timeout
        self._complete(
            "exchange of parts", lambda *both: self._live().alltoall_base(*both, [], [], options), target, source
        )

    def _complete(
        self, what: str, start: Callable[..., Any], *tensors: torch.Tensor, dtype: torch.dtype = torch.uint8
    ) -> None:
        """
        Run one of gloo's collectives to its end, on contiguous tensors, which it takes for flat ones of `dtype`.

        gloo's thread forgets its tensors only some time after it has said that it is done. Until then the memory would
        seem to be in use, and the next reduction would not be in place; so it is lent. If gloo may be at work still,
        because the wait was ended, the tensors are kept as long as the group. What is lent lives longer than gloo needs
        it, too: whoever is the last to forget a tensor that Python has made needs the interpreter's lock, and gloo's
        thread should not wait for that.
        """
        try:
            work = start(*[self._loans.lend(tensor, dtype) for tensor in tensors])
            try:
                work.wait()
            except BaseException:
                self._kept.append(tensors)
                raise
        except RuntimeError as error:
            raise self._failure(error, what) from error

    def _in_order(self, collective: Callable[[], None]) -> None:
        self._live()
        if self._thread is None or self._thread.is_current:
            collective()
        else:
            self._thread.submit(collective).result()

    def _live(self) -> Any:
        if self.broken is not None:
            raise RayChannelError(f"{self.names[self.rank]}, gloo: {self.broken}")
        return self._backend

    def _connected(self, peer: int) -> Any:
        if not 0 <= peer < self.world_size or peer == self.rank:
            raise ValueError(f"{peer} is not the rank of a peer: this is rank {self.rank} of {self.world_size}")
        return self._live()

    def _failure(self, error: RuntimeError, what: str, peer: int | None = None) -> Exception:
        """Marks the group as broken, and makes Ray's error of gloo's."""
        late = "imed out" in str(error) and self.broken is None
        whom = "the other ranks" if peer is None else self.names[peer]
        how = "took longer than the time-out" if late else "failed: the connection was closed, a peer is gone"
        self.broken = self.broken or f"{what} with {whom} {how}"
        made: Exception = (RayChannelTimeoutError if late else RayChannelError)(
            f"{self.names[self.rank]}, gloo: {self.broken}"
        )
        return made


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's values without gradient and lazy conjugation. Raises `ValueError` if gloo cannot see its memory."""
    if not tensor.is_cpu or tensor.layout is not torch.strided:
        raise ValueError(
            f"gloo moves dense cpu tensors, got {_describe(tensor)} ({tensor.layout}) on {tensor.device}; "
            "move it with .cpu() or .to_dense(), or use another transport"
        )
    return plain(tensor)


def _landing(into: torch.Tensor) -> torch.Tensor:
    """Contiguous memory to receive what goes to `into`: its own where possible."""
    if not into.is_cpu or into.layout is not torch.strided:
        raise ValueError(f"gloo receives into dense cpu tensors, got {_describe(into)} on {into.device}")
    if into.requires_grad:
        into = into.detach()
    if into.is_contiguous() and not into.is_conj() and not into.is_neg():
        return into
    return torch.empty_like(into, memory_format=torch.contiguous_format)


def _land(landing: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    if landing.data_ptr() != into.data_ptr():
        into.detach().copy_(landing)
    return into


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
