"""
One actor's part in a collective of a communicator.

Before a collective, the participants tell each other in rings what they bring. If one brings an error, or something
that does not fit, all of them get an error and nobody enters the communicator: there, tensors of different sizes would
end the process or hang it.

That costs each of them a wake-up, so a collective falls *silent* once all have brought the same for a while: then they
enter the communicator at once. Who brings something else says so in its ring before it enters, with zeros of the
expected shape. Nobody leaves a collective before all have entered it, so after it everybody finds what was said: an
error or a difference is the result of all, and if all have brought the same new shape, they go through it once more.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch

from cgc.runtime import _core, protocol
from cgc.runtime.accelerators.interface import Event
from cgc.runtime.accelerators.transfers import Arrival
from cgc.runtime.communicators import tensors
from cgc.runtime.communicators.contribution import Contribution, Contributor
from cgc.runtime.communicators.custom import NotImplementedHereError
from cgc.runtime.communicators.edges import SILENT_AFTER
from cgc.runtime.communicators.groups import Group
from cgc.runtime.communicators.ownership import is_only_here
from cgc.runtime.program import ChannelSpec, Collective

_NUMBER = struct.Struct("<Q")


class Agreement:
    """
    The rings in which the participants of a communicator's collectives tell each other what they bring.

    A message has the number of its collective, counted alike by all. Whoever is ahead may have written the message of
    the next one already, but none of a later one: no collective ends before all have begun it.
    """

    def __init__(self, channels: Sequence[ChannelSpec], actor: str, arena: _core.Arena) -> None:
        self.participants = tuple(channel.writer for channel in channels)
        self._number = 0
        self._ends: list[_core.Writer | _Inbox] = [
            arena.writer(channel.index)
            if channel.writer == actor
            else _Inbox(arena.reader(channel.index, channel.readers.index(actor)))
            for channel in channels
        ]

    def begin(self) -> None:
        """The next collective begins here."""
        self._number += 1

    def tell(self, own: Contribution) -> None:
        """Tell all others what this actor brings."""
        for end in self._ends:
            if isinstance(end, _core.Writer):
                end.write(own[0], _NUMBER.pack(self._number) + own[1], ())

    def hear_all(self, own: Contribution) -> list[Contribution]:
        """What each participant brings, in their order; waits for those that have not told yet."""
        if not self._ends:
            return [own]
        return [own if isinstance(end, _core.Writer) else end.wait(self._number) for end in self._ends]

    def hear(self, own: Contribution, unless_told: Contribution) -> list[Contribution]:
        """The same after a collective that the others have begun: who has told nothing brings `unless_told`."""
        if not self._ends:
            return [own]
        return [own if isinstance(end, _core.Writer) else end.look(self._number) or unless_told for end in self._ends]


class _Inbox:
    """What another participant tells, by the number of the collective."""

    def __init__(self, reader: _core.Reader) -> None:
        self._reader = reader
        self._early: tuple[int, Contribution] | None = None

    def wait(self, number: int) -> Contribution:
        """What was told for this collective."""
        if self._early is None:
            self._read()
        told = self._take(number)
        assert told is not None, "every message is taken in its own collective"
        return told

    def look(self, number: int) -> Contribution | None:
        """What was told for this collective, if anything was."""
        if self._early is None and self._reader.ready():
            self._read()
        return self._take(number)

    def _read(self) -> None:
        kind, blob, _ = self._reader.read()
        (number,) = _NUMBER.unpack_from(blob)
        self._early = number, (kind, bytes(memoryview(blob)[_NUMBER.size :]))

    def _take(self, number: int) -> Contribution | None:
        if self._early is None or self._early[0] != number:
            return None
        (_, told), self._early = self._early, None
        return told


class Participant:
    """One actor's part in one collective operation of the graph."""

    def __init__(self, operation: Collective, group: Group, agreement: Agreement, name: str) -> None:
        participants = agreement.participants or (group.actor,)
        self._contributor = Contributor(operation, name, group.actor, participants, group.accelerator)
        self._kind, self._op = self._contributor.kind, self._contributor.op
        self._group = group
        self._agreement = agreement
        self._needed: float = SILENT_AFTER if group.may_wait_unheard else float("inf")
        self._in_a_row = 0
        self._expected: Contribution = protocol.BYTES, b""
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
        own = self._contributor.contribution(values)
        self._agreement.begin()
        if self._in_a_row < self._needed:
            self._agreement.tell(own)
            brought = self._agreement.hear_all(own)
        else:
            # Not before it has ended is it known whether somebody brought anything else, with zeros in its place.
            as_expected = own == self._expected
            if not as_expected:
                self._agreement.tell(own)
            results = self._reduce(values if as_expected else self._zeros(), ready, in_place)
            brought = self._agreement.hear(own, unless_told=self._expected)
            if as_expected and all(other == own for other in brought):
                return results
        agreed = own[0] != protocol.ERROR and all(other == own for other in brought)
        self._note(own, agreed)
        if not agreed:
            return [self._contributor.disagreement(brought)] * len(values)
        return self._reduce(values, ready, in_place)

    def _note(self, own: Contribution, agreed: bool) -> None:
        """What has been brought, for what to expect; all participants note the same."""
        if not agreed or any(0 in meta.shape for meta in tensors.load_metas(own[1])):
            self._in_a_row = 0  # without elements nobody waits for anybody in the communicator
        else:
            self._in_a_row = self._in_a_row + 1 if own == self._expected else 1
        self._expected = own if agreed else self._expected

    def _zeros(self) -> Sequence[torch.Tensor]:
        return [torch.zeros(meta.shape, dtype=meta.dtype) for meta in tensors.load_metas(self._expected[1])]

    def _reduce(self, values: Sequence[Any], ready: Event | None, in_place: bool) -> Sequence[Any]:
        plain = [self._group.accelerator.contiguous(value) for value in values]
        try:
            return self._run(plain, ready, in_place)
        except NotImplementedHereError as error:
            # The participants' communicators are of one class: all of them come here, and nothing was sent.
            return [self._contributor.error(NotImplementedError, str(error))] * len(values)

    def _run(self, values: Sequence[Any], ready: Event | None, in_place: bool) -> Sequence[Any]:
        transfers = self._group.transfers
        plain = [value.detach() if getattr(value, "requires_grad", False) else value for value in values]
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
