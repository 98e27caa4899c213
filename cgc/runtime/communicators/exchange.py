"""
The messages of a group (`cgc.group`): begun together, so that tensors cross in both directions at the same time.

First everything that leaves is announced and begun, then what comes; only then is anything waited for. Both ends do so,
hence nobody waits for a header or a tensor of somebody who waits himself, however large the tensors are. Each message
keeps its own header, errors and promises (see `edges`): an error in one direction leaves the other as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cgc.runtime.communicators.edges import Receiver, Sender, with_gradients
from cgc.runtime.communicators.groups import Group


class Exchange:
    """One actor's part in a group; `ends` in the order of the messages, the same at the other actor."""

    def __init__(self, group: Group, ends: Sequence[Sender | Receiver]) -> None:
        self._group = group
        self._ends = ends
        self._senders = [end for end in ends if isinstance(end, Sender)]
        self._receivers = [end for end in ends if isinstance(end, Receiver)]

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Send a value or error for each sender; the values or errors of the receivers. Raises what ends the loop."""
        if not self._group.can_group:
            return self._in_turn(values)
        return self._on_host(values) if self._group.transfers is None else self._on_device(values)

    def _on_host(self, values: Sequence[Any]) -> list[Any]:
        start = self._group.communicator.start_send
        leaving = [
            start(tensor, peer)
            for sender, value in zip(self._senders, values, strict=True)
            for tensor, peer in sender.announce(value)
        ]
        coming = [receiver.start() for receiver in self._receivers]
        received = [finish() for finish in coming]
        for pending in leaving:
            pending.wait()
        return received

    def _on_device(self, values: Sequence[Any]) -> list[Any]:
        """Everything on one stream, behind what is computed now; what is computed from now on waits for it."""
        communicator, accelerator, transfers = self._group.communicator, self._group.accelerator, self._group.transfers
        assert transfers is not None, "the group queues its operations"
        leaving = [
            (accelerator.contiguous(tensor), peer)
            for sender, value in zip(self._senders, values, strict=True)
            for tensor, peer in sender.announce(value)
        ]
        coming = [(receiver, *receiver.expect()) for receiver in self._receivers]

        def queue() -> list[Any]:
            landing = [accelerator.empty(meta.shape, meta.dtype) for _, metas, _ in coming for meta in metas]
            peers = [receiver.peer for receiver, metas, _ in coming for _ in metas]
            with communicator.grouped():
                for tensor, peer in leaving:
                    communicator.queue_send(tensor, peer)
                for tensor, peer in zip(landing, peers, strict=True):
                    if 0 not in tensor.shape:
                        communicator.queue_recv(tensor, peer)
            return landing

        arrived = [arrival.wait() for arrival in transfers.exchange([tensor for tensor, _ in leaving], queue)]
        received = []
        for receiver, metas, finish in coming:
            mine, arrived = arrived[: len(metas)], arrived[len(metas) :]
            received.append(finish(with_gradients(mine, metas)))
            receiver.settle()
        return received

    def _in_turn(self, values: Sequence[Any]) -> list[Any]:
        """What both ends can do with any communicator, because they have the messages in one order."""
        left, received = iter(values), []
        for end in self._ends:
            if isinstance(end, Sender):
                end.send(next(left))
            else:
                received.append(end.receive())
        return received
