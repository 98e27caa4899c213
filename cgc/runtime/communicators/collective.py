"""
One actor's part in a collective.

Before a collective, the participants tell each other in rings what they bring. If one brings an error, or something
that does not fit, all of them get an error and nobody enters the communicator: there, tensors of different sizes would
end the process or hang it.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from ray.experimental.util.types import ReduceOp

from cgc.runtime import _core, protocol
from cgc.runtime.accelerators.base import Event
from cgc.runtime.accelerators.transfers import Arrival
from cgc.runtime.communicators import fold, tensors
from cgc.runtime.communicators.groups import Group
from cgc.runtime.communicators.ownership import is_only_here
from cgc.runtime.communicators.tensors import TensorMeta
from cgc.runtime.program import ChannelSpec, Collective
from cgc.runtime.task_errors import ErrorValue


class Agreement:
    """The rings in which the participants of a communicator's collectives tell each other what they bring."""

    def __init__(self, channels: Sequence[ChannelSpec], actor: str, arena: _core.Arena) -> None:
        self.participants = tuple(channel.writer for channel in channels)
        self._ends: list[_core.Writer | _core.Reader] = [
            arena.writer(channel.index)
            if channel.writer == actor
            else arena.reader(channel.index, channel.readers.index(actor))
            for channel in channels
        ]

    def exchange(self, kind: int, blob: bytes) -> list[tuple[int, bytes]]:
        """Tell all others, and return what each participant brings, in their order."""
        if not self._ends:
            return [(kind, blob)]
        for end in self._ends:
            if isinstance(end, _core.Writer):
                end.write(kind, blob, ())
        brought = []
        for end in self._ends:
            if isinstance(end, _core.Writer):
                brought.append((kind, blob))
            else:
                their_kind, their_blob, _ = end.read()
                brought.append((their_kind, bytes(their_blob)))
        return brought


class Participant:
    """One actor's part in one collective operation of the graph."""

    def __init__(self, operation: Collective, group: Group, agreement: Agreement, name: str) -> None:
        self._name = name
        self._kind = operation.kind
        self._op = None if operation.reduce is None else ReduceOp[operation.reduce.upper()]
        self._group = group
        self._agreement = agreement
        self._empty = group.allocator()
        self._may_reuse = group.is_interruptible and operation.kind == "allreduce"

    def take_part(self, values: Sequence[Any]) -> Sequence[Any]:
        """The results, or an error for each of them. Raises only what ends the loop."""
        return arrived(self.begin(values))

    def begin(self, values: Sequence[Any], ready: Event | None = None) -> Sequence[Any]:
        """
        The results, or errors, or what to give to `arrived` in the thread that computes before they are used.

        `ready` is the point of the device's work up to which the values are computed. A result takes the memory of its
        value if nobody but `values` refers to that.
        """
        in_place = self._may_reuse and len(values) == 1 and is_only_here(values, 0)
        error = next((value for value in values if type(value) is ErrorValue), None)
        problem = "" if error is not None else self._problem(values)
        if problem:
            error = ErrorValue.from_exception(ValueError(f"{self._name}: {problem}"), self._name)
        if error is not None:
            kind, blob = protocol.ERROR, error.blob
        else:
            kind, blob = (
                protocol.BYTES,
                tensors.dump_metas(tuple(TensorMeta(tuple(value.shape), value.dtype) for value in values)),
            )
        brought = self._agreement.exchange(kind, blob)
        if kind == protocol.ERROR or any(other != (kind, blob) for other in brought):
            return [self._disagreement(brought)] * len(values)
        plain = [self._group.accelerator.contiguous(value) for value in values]
        try:
            return self._run(plain, ready, in_place)
        except NotImplementedError as error:
            if not _was_raised_by(self._group.communicator, error):
                raise
            # The participants' communicators are of one class: all of them come here, and nothing was sent.
            told = f"{self._name}: {type(self._group.communicator).__name__} does not implement it"
            return [ErrorValue.from_exception(NotImplementedError(told), self._name)] * len(values)

    def _problem(self, values: Sequence[Any]) -> str:
        """What is wrong with this actor's own values; empty if nothing is."""
        arrays: tuple[Any, ...] = (torch.Tensor, self._group.accelerator.array_type)
        for value in values:
            if not isinstance(value, arrays):
                return f"takes tensors, and @{self._group.actor} gives a {type(value).__name__}"
            if not self._group.accelerator.is_on_device(value):
                return f"moves {self._group.device_type} tensors, and @{self._group.actor} gives one on {value.device}"
            if value.dtype != values[0].dtype:
                return f"takes tensors of one dtype together, and @{self._group.actor} gives {_list(values)}"
            if self._op is not None:
                try:
                    fold.check_reduction(value.dtype, self._op)
                except TypeError as error:
                    return str(error)
            if self._kind != "allreduce" and not value.dim():
                return f"joins or cuts tensors along their first dimension, and @{self._group.actor} gives a scalar"
            if self._kind == "reduce_scatter" and value.shape[0] % len(self._group.ranks):
                return (
                    f"cuts along the first dimension, which must be divisible by {len(self._group.ranks)}; "
                    f"@{self._group.actor} gives {_list([value])}"
                )
        return ""

    def _disagreement(self, brought: Sequence[tuple[int, bytes]]) -> ErrorValue:
        """The same error for all participants: the first one that was brought, or how the tensors differ."""
        for kind, blob in brought:
            if kind == protocol.ERROR:
                return ErrorValue(blob)
        gives = ", ".join(
            f"@{actor} gives {' and '.join(map(str, tensors.load_metas(blob)))}"
            for actor, (_, blob) in zip(self._agreement.participants, brought, strict=True)
        )
        told = f"{self._name}: the participants' tensors differ: {gives}; shapes and dtypes have to be the same"
        return ErrorValue.from_exception(ValueError(told), self._name)

    def _run(self, values: Sequence[Any], ready: Event | None, in_place: bool) -> Sequence[Any]:
        transfers = self._group.transfers
        plain = [value.detach() if isinstance(value, torch.Tensor) else value for value in values]
        if transfers is None:
            return self._results(plain, in_place)
        return transfers.exchange(plain, lambda: self._results(plain, in_place), ready)

    def _results(self, values: Sequence[Any], in_place: bool) -> Sequence[Any]:
        communicator = self._group.communicator
        first = values[0]
        if self._kind == "allgather":
            gathered = [self._resized(value, value.shape[0] * len(self._group.ranks)) for value in values]
            for value, result in zip(values, gathered, strict=True):
                communicator.allgather(value, result)
            return gathered
        if self._kind == "reduce_scatter":
            parts = [self._resized(value, value.shape[0] // len(self._group.ranks)) for value in values]
            for value, result in zip(values, parts, strict=True):
                communicator.reducescatter(value, result, self._op)
            return parts
        if len(values) == 1:
            reduced = first if in_place else self._empty(first.shape, first.dtype)
            communicator.allreduce(first, reduced, self._op)
            return [reduced]
        flat = torch.cat([value.view(-1) for value in values])
        communicator.allreduce(flat, flat, self._op)
        pieces = flat.split([value.numel() for value in values])
        return [piece.view(value.shape) for piece, value in zip(pieces, values, strict=True)]

    def _resized(self, value: torch.Tensor, extent: int) -> torch.Tensor:
        return self._empty((extent, *value.shape[1:]), value.dtype)


def arrived(results: Sequence[Any]) -> Sequence[Any]:
    """The results of a collective, for use on the current stream."""
    return [result.wait() if isinstance(result, Arrival) else result for result in results]


def _was_raised_by(communicator: object, error: Exception) -> bool:
    """Whether a method of the communicator itself has raised the error, rather than what it called."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_locals.get("self") is communicator


def _list(values: Sequence[torch.Tensor]) -> str:
    return " and ".join(str(TensorMeta.of(value)) for value in values)
