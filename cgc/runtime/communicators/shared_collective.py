"""
One actor's part in a collective through shared memory.

Each participant writes its tensors into a ring of its own, once, and all others read them where they lie. Their shapes
and dtypes, or an error, are in the same message: all participants have the same messages before them, and come to the
same verdict, so that there is nothing to agree on first.

A reduction takes one message, where every participant reduces everything, or two, where each reduces one part and gives
it to the others. The first is sooner done, the second is less work: with n participants 2 - 1/n passes over the memory
instead of n. (NVIDIA's TensorRT-LLM calls them one-shot and two-shot.) Parts are reduced in the order of the
participants either way, so that all of them have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from cgc.runtime import _core, protocol
from cgc.runtime.accelerators import base
from cgc.runtime.accelerators.interface import Event
from cgc.runtime.communicators import fold
from cgc.runtime.communicators.contribution import Contribution, Contributor
from cgc.runtime.communicators.landing import numpy_dtype
from cgc.runtime.communicators.ownership import is_only_here
from cgc.runtime.program import ChannelSpec, Collective
from cgc.runtime.read_only import hush_warning
from cgc.runtime.tensors import plain

TWO_MESSAGES_FROM = 1 << 18
"""Bytes of a participant's tensors from which more than two participants reduce a part each."""

_REDUCED: Contribution = protocol.BYTES, b""
"""What stands before reduced parts: everybody knows their shapes."""

_Buffers = Sequence[Any]
_Message = tuple[int, bytes, _Buffers]

Allocate = Callable[[Sequence[int], torch.dtype], torch.Tensor]


class Rings:
    """
    The participants' rings, of all collectives that they have together.

    Nobody is ahead of another by more than one message, since everybody reads one of each before it writes the next; so
    rings of two slots never make a writer wait.
    """

    def __init__(self, channels: Sequence[ChannelSpec], actor: str, arena: _core.Arena) -> None:
        """No channels for an actor that is alone."""
        self.participants = tuple(channel.writer for channel in channels) or (actor,)
        self.rank = self.participants.index(actor)
        self._writer = arena.writer(channels[self.rank].index) if channels else None
        self._readers = [
            None if channel.writer == actor else arena.reader(channel.index, channel.readers.index(actor))
            for channel in channels
        ]

    def swap(self, own: Contribution, buffers: _Buffers) -> Sequence[_Message]:
        """
        Write a message, and read one of each participant: of this one, what was written.

        Raises `MemoryError` if there is no memory for it; then nothing was written, and something has to be.
        """
        if self._writer is None:
            return [(*own, buffers)]
        self._writer.write(*own, buffers)
        return [(*own, buffers) if reader is None else _read(reader) for reader in self._readers]


class SharedParticipant:
    """One actor's part in one collective operation of the graph."""

    def __init__(self, operation: Collective, rings: Rings, actor: str, name: str, allocate: Allocate) -> None:
        """`allocate` makes tensors without values for results, as `LandingPool.empty`."""
        self._contributor = Contributor(operation, name, actor, rings.participants, base.find("cpu"))
        self._rings = rings
        self._allocate = allocate
        self._may_reuse = operation.kind == "allreduce" and rings.rank <= 1  # see `fold.fold_into`

    def take_part(self, values: Sequence[Any]) -> Sequence[Any]:
        """The results, or an error for each of them. Raises only what ends the loop."""
        return self.begin(values)

    def begin(self, values: Sequence[Any], ready: Event | None = None) -> Sequence[Any]:
        """The same: what there is to wait for is waited for here. The host's values are always `ready`."""
        reusable = [self._may_reuse and is_only_here(values, position) for position in range(len(values))]
        own = self._contributor.contribution(values)
        sent = [] if own[0] == protocol.ERROR else [plain(value).contiguous() for value in values]
        own, brought = self._tell(own, [_octets(tensor) for tensor in sent])
        if own[0] == protocol.ERROR or any(kind != own[0] or blob != own[1] for kind, blob, _ in brought):
            return [self._contributor.disagreement([(kind, blob) for kind, blob, _ in brought])] * len(values)
        parts = [
            [
                tensor if rank == self._rings.rank else _tensor(message[2][place], tensor)
                for rank, message in enumerate(brought)
            ]
            for place, tensor in enumerate(sent)
        ]
        if self._contributor.kind == "allgather":
            return [torch.cat(each, out=self._resized(each[0], len(each))) for each in parts]
        if self._contributor.kind == "reduce_scatter":
            return [self._own_part(each) for each in parts]
        targets = [
            tensor if may_reuse else self._allocate(tensor.shape, tensor.dtype)
            for tensor, may_reuse in zip(sent, reusable, strict=True)
        ]
        if len(brought) > 2 and sum(tensor.nbytes for tensor in sent) >= TWO_MESSAGES_FROM:
            return self._reduce_in_parts(targets, parts)
        for target, each in zip(targets, parts, strict=True):
            fold.fold_into(target, each, self._contributor.op)
        return targets

    def _tell(self, own: Contribution, buffers: _Buffers) -> tuple[Contribution, Sequence[_Message]]:
        """What this participant has brought in the end, which is an error where there is no memory; and all others."""
        try:
            return own, self._rings.swap(own, buffers)
        except MemoryError as error:
            own = protocol.ERROR, self._contributor.error(MemoryError, f"no room for the tensors: {error}").blob
            return own, self._rings.swap(own, ())

    def _own_part(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of a reduction this participant's part, cut along the first dimension."""
        count, rank = len(parts), self._rings.rank
        extent = parts[0].shape[0] // count
        target = self._allocate((extent, *parts[0].shape[1:]), parts[0].dtype)
        fold.fold_into(target, [part[rank * extent : (rank + 1) * extent] for part in parts], self._contributor.op)
        return target

    def _reduce_in_parts(
        self, targets: Sequence[torch.Tensor], parts: Sequence[Sequence[torch.Tensor]]
    ) -> Sequence[Any]:
        """Reduce a part of each tensor, and swap these parts for the others."""
        count, rank = len(self._rings.participants), self._rings.rank
        flat = [target.view(-1) for target in targets]
        cuts = [[number * target.numel() // count for number in range(count + 1)] for target in flat]
        for target, each, cut in zip(flat, parts, cuts, strict=True):
            mine = slice(cut[rank], cut[rank + 1])
            fold.fold_into(target[mine], [part.view(-1)[mine] for part in each], self._contributor.op)
        own = [target[cut[rank] : cut[rank + 1]] for target, cut in zip(flat, cuts, strict=True)]
        _, brought = self._tell(_REDUCED, [_octets(part) for part in own])
        lost = [(kind, blob) for kind, blob, _ in brought if kind == protocol.ERROR]
        if lost:
            return [self._contributor.disagreement(lost)] * len(targets)
        for other, (*_, buffers) in enumerate(brought):
            if other == rank:
                continue
            for target, cut, buffer in zip(flat, cuts, buffers, strict=True):
                part = target[cut[other] : cut[other + 1]]
                part.copy_(_tensor(buffer, part))
        return targets

    def _resized(self, tensor: torch.Tensor, times: int) -> torch.Tensor:
        return self._allocate((tensor.shape[0] * times, *tensor.shape[1:]), tensor.dtype)


def _read(reader: _core.Reader) -> _Message:
    kind, blob, buffers = reader.read()
    return kind, bytes(blob), buffers


def _octets(tensor: torch.Tensor) -> Any:
    """The memory of a plain, contiguous tensor. NumPy lacks some dtypes."""
    if not tensor.numel():
        return b""
    return (tensor if numpy_dtype(tensor.dtype) is not None else tensor.view(-1).view(torch.uint8)).numpy()


def _tensor(buffer: Any, like: torch.Tensor) -> torch.Tensor:
    """What another participant has brought, where it lies, or copied if it is small; not to be written."""
    if not like.numel():
        return torch.empty_like(like)
    flat = torch.frombuffer(buffer, dtype=like.dtype)
    return flat if like.dim() == 1 else flat.view(like.shape)


hush_warning()
