"""
Communicators of users, of which no more is known than that they have Ray's interface.

`CustomCommunicator` stands before one in a worker, so that what its methods raise is told as the failure of that
method. A peer's death is one too: the graph's own watch tells of it soon after.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import RayChannelError
from ray.experimental.channel.communicator import Communicator

from cgc.runtime.communicators.gloo import GlooCommunicator


class CommunicatorFailure(RayChannelError):  # type: ignore[misc]
    """A method of a user's communicator has raised, or has returned what nobody can use. Ends the graph."""

    def __init__(self, communicator: object, method: str, cause: BaseException) -> None:
        name = f"{type(communicator).__name__}.{method}"
        self.what = f"{name} is not implemented" if isinstance(cause, NotImplementedError) else f"{name} failed"
        self.cause = cause
        super().__init__(f"{self.what}: {type(cause).__name__}: {cause}")

    @property
    def details(self) -> str:
        """The traceback from the user's method on."""
        frames = self.cause.__traceback__
        own = None if frames is None else frames.tb_next
        return "".join(traceback.format_exception(type(self.cause), self.cause, own))


class NotImplementedHereError(NotImplementedError):
    """A user's communicator does not have a collective; `str` says so. Nothing was sent, and the graph goes on."""


class CustomCommunicator:
    """A user's communicator in a worker; what Ray's interface lacks is the communicator's own."""

    def __init__(self, communicator: Communicator) -> None:
        self._own: Any = communicator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def initialize(self, rank: int) -> None:
        self._run("initialize", self._own.initialize, rank)

    def destroy(self) -> None:
        self._run("destroy", self._own.destroy)

    def send(self, value: Any, peer_rank: int) -> None:
        self._run("send", self._own.send, value, peer_rank)

    def recv(self, shape: Sequence[int], dtype: Any, peer_rank: int, allocator: Callable[..., Any]) -> Any:
        value = self._run("recv", self._own.recv, shape, dtype, peer_rank, allocator)
        got = getattr(value, "shape", None), getattr(value, "dtype", None)
        if got != (shape, dtype):
            told = f"asked for a tensor of shape {tuple(shape)} and {dtype}, it returned {_described(value, *got)}"
            raise CommunicatorFailure(self._own, "recv", TypeError(told))
        return value

    def allreduce(self, send_buf: Any, recv_buf: Any, op: Any) -> None:
        self._run_collective("allreduce", self._own.allreduce, send_buf, recv_buf, op)

    def allgather(self, send_buf: Any, recv_buf: Any) -> None:
        self._run_collective("allgather", self._own.allgather, send_buf, recv_buf)

    def reducescatter(self, send_buf: Any, recv_buf: Any, op: Any) -> None:
        self._run_collective("reducescatter", self._own.reducescatter, send_buf, recv_buf, op)

    def _run_collective(self, name: str, method: Callable[..., None], *arguments: Any) -> None:
        try:
            self._run(name, method, *arguments)
        except CommunicatorFailure as failure:
            if isinstance(failure.cause, NotImplementedError) and _was_raised_by(self._own, failure.cause):
                told = f"{type(self._own).__name__} does not implement it: {name} raised NotImplementedError"
                raise NotImplementedHereError(told) from failure.cause
            raise

    def _run(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            raise CommunicatorFailure(self._own, name, error) from error


def is_custom(communicator: object) -> bool:
    """Whether nothing is known of it but Ray's interface: neither gloo nor one that queues on a device's streams."""
    return not isinstance(communicator, GlooCommunicator) and not hasattr(communicator, "queue_send")


def lacks(communicator: Communicator, method: str) -> bool:
    """Whether a method of Ray's interface is not there, or only as Ray's abstract one."""
    found = getattr(communicator, method, None)
    plain = getattr(found, "__func__", found)
    return (
        not callable(found) or getattr(plain, "__isabstractmethod__", False) or plain is getattr(Communicator, method)
    )


def _was_raised_by(communicator: object, error: BaseException) -> bool:
    """Whether a method of the communicator itself has raised the error, rather than what it called."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_locals.get("self") is communicator


def _described(value: object, shape: object, dtype: object) -> str:
    return f"a {type(value).__name__}" if shape is None else f"one of shape {tuple(shape)} and {dtype}"  # type: ignore[arg-type]
