"""
The ends of a tensor channel: a ring and a communicator. With several readers, the communicator has exactly the
channel's ends, and the tensors go to all of them by broadcasts.

The ring carries a header (see `tensors`), then the communicator the tensors. So a receiver waits in the ring, where it
sees time-outs and the end of the graph, and enters the communicator only when the sender is there. An error travels in
the ring alone.

That costs a wake-up before each transfer, so a channel falls *silent* when the next tensor can be expected: values that
are one tensor, and that were promised to keep their shape or have kept it for a while. Then the receiver waits in the
communicator. What is not as expected is announced in the ring, with the number of the message, before a tensor of zeros
goes in place of the expected one; an error needs no more, another value follows as with any header.

A large transfer empties the processor's caches, so that each line of Python after it takes long: beside the 180 µs that
gloo takes for 1 MiB, 30 were such lines. So what is expected over gloo has a short way in `Sender.send` and
`Receiver.receive`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cgc.runtime import _core, protocol, serialization
from cgc.runtime.accelerators.interface import Event
from cgc.runtime.accelerators.transfers import Arrival
from cgc.runtime.communicators import tensors
from cgc.runtime.communicators.groups import Group
from cgc.runtime.communicators.tensors import Metas, TensorMeta
from cgc.runtime.handover import OfferKeeper
from cgc.runtime.lost_values import unplaceable, unreadable, unsendable
from cgc.runtime.program import ChannelSpec
from cgc.runtime.task_errors import ErrorValue

SILENT_AFTER = 8
"""Equal tensors in a row after which the next one is expected: a wrong guess costs one transfer more."""

_NUMBER = struct.Struct("<Q")


class Expectation:
    """
    What the next message is expected to be. Both ends have one, and tell it the same.

    Attributes:
        metas: Of the last message; those that were promised, if the channel is static.
        alone: Of the tensor that comes without a header, if it is no leaf; else None.
    """

    __slots__ = ("_in_a_row", "_needed", "alone", "metas")

    def __init__(self, channel: ChannelSpec, group: Group) -> None:
        self.metas: Metas | None = None
        self.alone: TensorMeta | None = None
        self._in_a_row = 0
        self._needed: float = SILENT_AFTER if group.may_wait_unheard else float("inf")
        if channel.static and channel.direct:
            self._needed = 1

    @property
    def is_silent(self) -> bool:
        """Whether the next tensor comes without a header, if it is as expected."""
        return self._in_a_row >= self._needed

    def note(self, metas: Metas, *, is_alone: bool) -> None:
        """After a header: `is_alone` if the value is one tensor and nothing else."""
        if not is_alone or 0 in metas[0].shape:
            self._in_a_row = 0  # what has no elements is not sent, so that nothing would bring the ends together
        else:
            self._in_a_row = self._in_a_row + 1 if metas == self.metas else 1
        self.metas = metas
        self.alone = metas[0] if self.is_silent and not metas[0].requires_grad else None


class Sender:
    """The writing end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, writer: _core.Writer, group: Group, name: str) -> None:
        self._channel = channel
        self._writer = writer
        self._group = group
        self._peers = tuple(group.ranks[reader] for reader in channel.readers)
        self._name = name
        self._encoder = serialization.Encoder()
        self._keeper = OfferKeeper(writer, channel.slots)
        self._expected = Expectation(channel, group)
        self._usual: object = None
        self._is_direct = group.is_interruptible and len(self._peers) == 1
        self._number = 0

    def send(self, value: Any, ready: Event | None = None) -> None:
        """
        Send a value or an error; `ready` is the point of the device's work up to which the value is computed.

        Raises only what ends the loop.
        """
        if self._is_direct and tensors.kind_of(value) == self._usual:
            self._number += 1
            self._group.communicator.send(value, self._peers[0])
            return
        unused, leaving = self._announce(value)
        _send_all(self._group, unused, self._peers)
        _send_all(self._group, leaving, self._peers, ready)

    def announce(self, value: Any) -> list[tuple[Any, int]]:
        """
        Tell the other end of a value or an error, and leave it to the caller to send what has to follow.

        The result is that: tensors with elements, each with the rank that it goes to. Raises only what ends the loop.
        """
        unused, leaving = self._announce(value)
        return [(tensor, peer) for peer in self._peers for tensor in (*unused, *leaving) if 0 not in tensor.shape]

    def _announce(self, value: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """Tensors that go in place of expected ones, and those of the value."""
        self._number += 1
        kind = tensors.kind_of(value)
        if kind == self._usual:
            return (), (value,)
        unused: Sequence[Any] = ()
        try:
            parts = self._take_apart(value)
            if self._expected.is_silent and self._is_expected(parts):
                self._usual = kind
            else:
                self._usual = None
                unused = self._tell(tensors.header(parts, with_metas=not self._is_promised))
                self._keeper.update(self._encoder.offers)
                self._encoder.offers = ()
                self._expected.note(parts.metas, is_alone=parts.rest is None)
        except MemoryError as error:
            return self._tell((protocol.ERROR, unplaceable(self._name, str(error)).blob, ())), ()
        except _NotSendableError as error:
            return self._tell((protocol.ERROR, error.value.blob, ())), ()
        return unused, parts.tensors

    @property
    def _is_promised(self) -> bool:
        return self._channel.static and self._expected.metas is not None

    def _is_expected(self, parts: tensors.Split) -> bool:
        return parts.rest is None and (self._channel.static or parts.metas == self._expected.metas)

    def _tell(self, message: serialization.Message) -> Sequence[Any]:
        """Write to the ring. On a silent channel, the result ends the receive that the other ends have begun."""
        kind, blob, buffers = message
        if not self._expected.is_silent:
            self._writer.write(kind, blob, buffers)
            return ()
        self._writer.write(kind, _NUMBER.pack(self._number) + blob, buffers)
        assert self._expected.metas is not None, "a silent channel has had a header"
        return [self._group.accelerator.empty(meta.shape, meta.dtype) for meta in self._expected.metas]

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
        is_on_device = self._group.accelerator.is_on_device
        wrong = next((tensor for tensor in parts.tensors if not is_on_device(tensor)), None)
        if wrong is not None:
            return (
                f"a tensor is on {wrong.device}, but its communicator moves {self._group.device_type} tensors; return "
                f"it with .to({self._group.device_type!r}), or use transport 'shm'"
            )
        if not self._is_promised:
            return ""
        change = tensors.describe_change(self._expected.metas or (), parts.metas)
        return f"promised to keep its shape (_static_shape=True), but {change}" if change else ""


class Receiver:
    """The reading end of a tensor channel."""

    def __init__(self, channel: ChannelSpec, reader: _core.Reader, group: Group, name: str) -> None:
        self._channel = channel
        self._reader = reader
        self._group = group
        self._peer = group.ranks[channel.writer]
        self._is_shared = len(channel.readers) > 1
        self._name = name
        self._expected = Expectation(channel, group)
        self._number = 0
        self._notice: tuple[int, serialization.Message] | None = None
        self._empty = group.allocator()
        self._arrivals: list[Arrival] = []
        self._is_direct = group.is_interruptible and not self._is_shared

    def receive(self) -> Any:
        """The next value, or the error that came instead. Raises only what ends the loop."""
        expected = self._expected.alone if self._is_direct else None
        if expected is not None:
            self._number += 1
            tensor = self._group.communicator.recv(expected.shape, expected.dtype, self._peer, self._empty)
            return tensor if self._notice is None and not self._reader.ready() else self._take_expected([tensor])
        value, arrivals = self.begin()
        for arrival in arrivals:
            arrival.wait()
        return value

    def begin(self) -> tuple[Any, Sequence[Arrival]]:
        """The next value, and what to wait for, in the thread that computes, before its arrays are used."""
        self._number += 1
        self._arrivals = []
        value = self._receive()
        return value, self._arrivals

    def start(self) -> Callable[[], Any]:
        """
        On the host: begin to receive, when the sender has told what comes. The result ends it, and gives the value.

        Raises only what ends the loop, as does the result.
        """
        metas, finish = self.expect()
        started = self._start_on_host(metas)
        return lambda: finish(with_gradients(_ended(started), metas))

    def expect(self) -> tuple[Metas, Callable[[list[Any]], Any]]:
        """The tensors to receive for the next value, and what makes the value of them."""
        self._number += 1
        self._arrivals = []
        return self._expect()

    def settle(self) -> None:
        """On a device, behind `expect`: wait, in the thread that computes, for what `finish` has had to receive."""
        for arrival in self._arrivals:
            arrival.wait()

    @property
    def peer(self) -> int:
        """The sender's rank."""
        return self._peer

    def _receive(self) -> Any:
        metas, finish = self._expect()
        return finish(self._receive_all(metas))

    def _expect(self) -> tuple[Metas, Callable[[list[Any]], Any]]:
        if self._expected.is_silent:
            return self._expected.metas or (), self._take_expected
        return self._announced(self._reader.read())

    def _take_expected(self, arrived: list[Any]) -> Any:
        notice = self._take_notice()
        if notice is None:
            return arrived[0]
        metas, finish = self._announced(notice)
        return finish(self._receive_all(metas))

    def _announced(self, message: serialization.Message) -> tuple[Metas, Callable[[list[Any]], Any]]:
        kind, blob, buffers = message
        if kind == protocol.ERROR:
            error = ErrorValue(bytes(blob))
            return (), lambda _: error
        metas = tensors.read_metas(blob)
        if metas is None:  # promised, and told with the first message
            metas = self._expected.metas or ()
        self._expected.note(metas, is_alone=tensors.is_alone(blob))

        def finish(arrived: list[Any]) -> Any:
            try:
                return tensors.join(blob, buffers, arrived)
            except Exception as error:
                return unreadable(self._name, error)

        return metas, finish

    def _take_notice(self) -> serialization.Message | None:
        """What was announced for this message. The sender may be ahead, so it may be for the next one."""
        if self._notice is None and self._reader.ready():
            kind, blob, buffers = self._reader.read()
            (number,) = _NUMBER.unpack_from(blob)
            self._notice = number, (kind, memoryview(blob)[_NUMBER.size :], buffers)
        if self._notice is None or self._notice[0] != self._number:
            return None
        _, message = self._notice
        self._notice = None
        return message

    def _receive_all(self, metas: Metas) -> list[Any]:
        if self._group.transfers is not None:
            return with_gradients(self._receive_on_device(metas), metas)
        return with_gradients(_ended(self._start_on_host(metas)), metas)

    def _receive_on_device(self, metas: Metas) -> list[Any]:
        """Queues the receives on a stream of their own, and waits for nothing."""
        transfers, communicator = self._group.transfers, self._group.communicator
        assert transfers is not None, "the group queues its operations"
        start = communicator.broadcast if self._is_broadcast else communicator.queue_recv
        arrived: list[Any] = []
        for meta in metas:
            if 0 in meta.shape:
                arrived.append(self._empty(meta.shape, meta.dtype))
                continue
            arrival = transfers.receive(meta.shape, meta.dtype, lambda into: start(into, self._peer))
            self._arrivals.append(arrival)
            arrived.append(arrival.array)
        return arrived

    def _start_on_host(self, metas: Metas) -> list[Any]:
        """Tensors that are there, and receives that have begun."""
        if self._is_broadcast:
            return [self._take_part(meta) for meta in metas]
        communicator = self._group.communicator
        start: Callable[..., Any] | None = getattr(communicator, "start_recv", None)
        started: list[Any] = []
        for meta in metas:
            if 0 in meta.shape:
                started.append(self._empty(meta.shape, meta.dtype))
            elif start is None:
                started.append(communicator.recv(meta.shape, meta.dtype, self._peer, self._empty))
            else:
                started.append(start(meta.shape, meta.dtype, self._peer, self._empty))
        return started

    @property
    def _is_broadcast(self) -> bool:
        return self._is_shared and self._group.can_broadcast

    def _take_part(self, meta: TensorMeta) -> torch.Tensor:
        tensor: torch.Tensor = self._empty(meta.shape, meta.dtype)
        if 0 not in meta.shape:
            self._group.communicator.broadcast(tensor, self._peer)
        return tensor


def _ended(started: Sequence[Any]) -> list[torch.Tensor]:
    return [one if isinstance(one, torch.Tensor) else one.wait() for one in started]


def with_gradients(arrived: list[Any], metas: Metas) -> list[Any]:
    """The tensors that have arrived, as leaves where they were such."""
    for tensor, meta in zip(arrived, metas, strict=True):
        if meta.requires_grad:
            tensor.requires_grad_()
    return arrived


class _NotSendableError(Exception):
    """Carries the error to send instead of a value."""

    def __init__(self, value: ErrorValue) -> None:
        super().__init__()
        self.value = value


def _send_all(group: Group, values: Sequence[Any], peers: Sequence[int], ready: Event | None = None) -> None:
    """
    Send tensors; those without elements have arrived with the header.

    Several peers get them by broadcasts: they and this rank are all of the communicator.
    """
    values = [value for value in values if 0 not in value.shape]
    if not values:
        return
    if len(peers) > 1 and group.can_broadcast:
        _broadcast_all(group, values, ready)
        return
    for peer in peers:
        _send_all_to(group, values, peer, ready)


def _broadcast_all(group: Group, values: Sequence[Any], ready: Event | None) -> None:
    communicator, root = group.communicator, group.own_rank
    for value in values:
        whole = group.accelerator.contiguous(value)
        if group.transfers is None:
            communicator.broadcast(whole, root)
        else:
            computed = ready if whole is value else None
            group.transfers.send(whole, lambda leaving: communicator.broadcast(leaving, root), computed)


def _send_all_to(group: Group, values: Sequence[Any], peer: int, ready: Event | None) -> None:
    communicator = group.communicator
    if group.transfers is not None:
        for value in values:
            whole = group.accelerator.contiguous(value)
            computed = ready if whole is value else None
            group.transfers.send(whole, lambda leaving: communicator.queue_send(leaving, peer), computed)
        return
    start: Callable[..., Any] | None = getattr(communicator, "start_send", None)
    if start is None:
        for value in values:
            communicator.send(group.accelerator.contiguous(value.detach()), peer)
        return
    for pending in [start(value, peer) for value in values]:
        pending.wait()
