"""
The two ends of a tensor channel: a ring and a communicator.

The ring carries a header (see `tensors`), then the communicator the tensors. So a receiver waits in the ring, where it
sees time-outs and the end of the graph, and enters the communicator only when the sender is there. An error travels in
the ring alone.

A channel whose values are promised to keep their shape and to be one tensor is *silent* after its first header: the
receiver waits in the communicator. An error is then announced in the ring, with the number of the message, before a
tensor of zeros goes in place of the one that is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cgc.runtime import _core, protocol, serialization
from cgc.runtime.communicators import tensors
from cgc.runtime.communicators.groups import Group
from cgc.runtime.communicators.tensors import Metas
from cgc.runtime.handover import OfferKeeper
from cgc.runtime.link import unplaceable, unreadable, unsendable
from cgc.runtime.program import ChannelSpec
from cgc.runtime.task_errors import ErrorValue

_NUMBER = struct.Struct("<Q")


class Sender:
    """The writing end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, writer: _core.Writer, group: Group, name: str) -> None:
        self._channel = channel
        self._writer = writer
        self._group = group
        self._peer = group.ranks[channel.readers[0]]
        self._name = name
        self._encoder = serialization.Encoder()
        self._keeper = OfferKeeper(writer, channel.slots)
        self._promised: Metas | None = None
        self._number = 0

    def send(self, value: Any) -> None:
        """Send a value or an error. Raises only what ends the loop."""
        self._number += 1
        silent = self._channel.direct and self._promised is not None
        try:
            parts = self._take_apart(value)
            if not silent:
                self._writer.write(*tensors.header(parts, with_metas=self._promised is None))
                self._keeper.update(self._encoder.offers)
                self._encoder.offers = ()
        except MemoryError as error:
            self._send_error(unplaceable(self._name, str(error)), silent)
            return
        except _NotSendableError as error:
            self._send_error(error.value, silent)
            return
        if self._channel.static:
            self._promised = parts.metas
        _send_all(self._group.communicator, parts.tensors, self._peer)

    def _take_apart(self, value: Any) -> tensors.Split:
        """Raises `_NotSendableError` with what is to be sent instead."""
        if type(value) is ErrorValue:
            raise _NotSendableError(value)
        try:
            parts = tensors.split(value, self._encoder)
        except Exception as error:
            raise _NotSendableError(unsendable(value, self._name, error)) from error
        problem = self._problem(value, parts)
        if problem:
            raise _NotSendableError(ErrorValue.from_exception(ValueError(f"{self._name}: {problem}"), self._name))
        return parts

    def _problem(self, value: Any, parts: tensors.Split) -> str:
        """Why the value breaks a promise or cannot travel; empty if it can."""
        if self._channel.direct and parts.rest is not None:
            return (
                f"promised to be one tensor (_direct_return=True), and is a {type(value).__name__}; return the tensor "
                "itself, or leave _direct_return out"
            )
        wrong = next((tensor for tensor in parts.tensors if tensor.device.type != self._group.device_type), None)
        if wrong is not None:
            return (
                f"a tensor is on {wrong.device}, but its communicator moves {self._group.device_type} tensors; return "
                f"it with .to({self._group.device_type!r}), or use transport 'shm'"
            )
        if self._promised is None:
            return ""
        change = tensors.describe_change(self._promised, parts.metas)
        return f"promised to keep its shape (_static_shape=True), but {change}" if change else ""

    def _send_error(self, error: ErrorValue, silent: bool) -> None:
        if not silent:
            self._writer.write(protocol.ERROR, error.blob, ())
            return
        self._writer.write(protocol.ERROR, _NUMBER.pack(self._number) + error.blob, ())
        assert self._promised is not None, "a silent channel has had a header"
        zeros = [torch.zeros(meta.shape, dtype=meta.dtype, device=self._group.device_type) for meta in self._promised]
        _send_all(self._group.communicator, zeros, self._peer)


class Receiver:
    """The reading end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, reader: _core.Reader, group: Group, name: str) -> None:
        self._channel = channel
        self._reader = reader
        self._group = group
        self._peer = group.ranks[channel.writer]
        self._name = name
        self._promised: Metas | None = None
        self._number = 0
        self._announced: tuple[int, ErrorValue] | None = None
        self._empty = group.allocator()

    def receive(self) -> Any:
        """The next value, or the error that came instead. Raises only what ends the loop."""
        self._number += 1
        if self._channel.direct and self._promised is not None:
            return self._receive_silently(self._promised)
        kind, blob, buffers = self._reader.read()
        if kind == protocol.ERROR:
            return ErrorValue(bytes(blob))
        metas = tensors.read_metas(blob) or self._promised or ()
        if self._channel.static:
            self._promised = metas
        arrived = _receive_all(self._group.communicator, metas, self._peer, self._empty)
        try:
            return tensors.join(blob, buffers, arrived)
        except Exception as error:
            return unreadable(self._name, error)

    def _receive_silently(self, metas: Metas) -> Any:
        arrived = _receive_all(self._group.communicator, metas, self._peer, self._empty)
        if self._announced is None and self._reader.ready():
            _, blob, _ = self._reader.read()
            (number,) = _NUMBER.unpack_from(blob)
            self._announced = number, ErrorValue(bytes(memoryview(blob)[_NUMBER.size :]))
        if self._announced is not None and self._announced[0] == self._number:
            _, error = self._announced
            self._announced = None
            return error
        return arrived[0]


class _NotSendableError(Exception):
    """Carries the error to send instead of a value."""

    def __init__(self, value: ErrorValue) -> None:
        super().__init__()
        self.value = value


def _send_all(communicator: Any, values: Sequence[torch.Tensor], peer: int) -> None:
    """Send tensors; those without elements have arrived with the header."""
    values = [value for value in values if value.numel()]
    start: Callable[..., Any] | None = getattr(communicator, "start_send", None)
    if start is None:
        for value in values:
            communicator.send(value.detach().contiguous(), peer)
        return
    for pending in [start(value, peer) for value in values]:
        pending.wait()


def _receive_all(communicator: Any, metas: Metas, peer: int, empty: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    start: Callable[..., Any] | None = getattr(communicator, "start_recv", None)
    started: list[Any] = []
    for meta in metas:
        if 0 in meta.shape:
            started.append(empty(meta.shape, meta.dtype))
        elif start is None:
            started.append(communicator.recv(meta.shape, meta.dtype, peer, empty))
        else:
            started.append(start(meta.shape, meta.dtype, peer, empty))
    arrived = [one if isinstance(one, torch.Tensor) else one.wait() for one in started]
    for tensor, meta in zip(arrived, metas, strict=True):
        if meta.requires_grad:
            tensor.requires_grad_()
    return arrived
