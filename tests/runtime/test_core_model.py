"""Random sequences of operations of the native core against a queue of plain Python values."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cgc.runtime._core import Arena, ChannelTimeout, map_private, memcpy_threshold

THRESHOLD = memcpy_threshold()
SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 65_535, 65_536, 65_537]),
    st.integers(0, 400_000),
)


class Channel(RuleBasedStateMachine):
    """
    One ring whose readers take messages at their own pace and keep some of what they got.

    The model is a queue of (kind, blob, buffers) per reader, and the expected bytes of everything that is kept.
    """

    @initialize(readers=st.integers(1, 3), slots=st.integers(1, 4), slot_bytes=st.sampled_from([0, 64, 256, 20_000]))
    def create(self, readers: int, slots: int, slot_bytes: int) -> None:
        self.arena = Arena.create([(readers, slots, slot_bytes)], 0)
        self.slots = slots
        self.writer = self.arena.writer(0)
        self.readers = [self.arena.reader(0, rank) for rank in range(readers)]
        self.queues: list[deque[tuple[int, bytes, list[bytes]]]] = [deque() for _ in range(readers)]
        self.kept: list[tuple[Any, bytes]] = []
        self.reserved: list[memoryview] = []
        self.numbers = iter(range(10**9))

    def content(self, size: int) -> bytes:
        return np.random.default_rng(next(self.numbers)).bytes(size)

    @rule(blob=SIZES, buffers=st.lists(SIZES, max_size=4), use_reserved=st.booleans())
    def write(self, blob: int, buffers: list[int], use_reserved: bool) -> None:
        message = (next(self.numbers), self.content(blob), [self.content(size) for size in buffers])
        sent: list[Any] = list(message[2])
        if use_reserved and self.reserved:
            # Any part of a reserved array, sent once: its content is not changed afterwards.
            view = self.reserved.pop()
            sent.append(view)
            message[2].append(bytes(view))
        if max(map(len, self.queues)) >= self.slots:
            with pytest.raises(ChannelTimeout) as caught:
                self.writer.write(message[0], message[1], sent, timeout=0)
            assert caught.value.holders == tuple(r for r, q in enumerate(self.queues) if len(q) >= self.slots)
            return
        self.writer.write(message[0], message[1], sent, timeout=0)
        for queue in self.queues:
            queue.append(message)

    @precondition(lambda self: len(self.reserved) < 3)
    @rule(size=SIZES)
    def reserve(self, size: int) -> None:
        view = self.writer.reserve(size, timeout=0)
        view[:] = self.content(size)
        self.reserved.append(view)

    @rule(rank=st.integers(0, 2), keep=st.booleans(), private=st.booleans())
    def read(self, rank: int, keep: bool, private: bool) -> None:
        rank %= len(self.readers)
        reader, queue = self.readers[rank], self.queues[rank]
        if not queue:
            with pytest.raises(ChannelTimeout):
                reader.read(timeout=0)
            return
        kind, blob, buffers = reader.read(timeout=0)
        expected = queue.popleft()
        assert (kind, bytes(blob), [bytes(buffer) for buffer in buffers]) == expected
        if keep:
            self.kept += [(map_private(b) if private else b, e) for b, e in zip(buffers, expected[2], strict=True)]
            self.kept.append((blob, expected[1]))

    @rule(rank=st.integers(0, 2))
    def skip(self, rank: int) -> None:
        rank %= len(self.readers)
        if self.queues[rank]:
            self.readers[rank].skip(timeout=0)
            self.queues[rank].popleft()

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        view, expected = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        assert bytes(view) == expected

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def scribble(self, data: st.DataObject) -> None:
        """Writing into a private mapping changes nothing of anybody else's."""
        place = data.draw(st.integers(0, len(self.kept) - 1))
        view, expected = self.kept[place]
        if isinstance(view, memoryview) and not view.readonly:
            view[:] = bytes(len(view))
            self.kept[place] = (view, bytes(len(expected)))

    @rule()
    def replace_writer(self) -> None:
        del self.writer
        self.writer = self.arena.writer(0)
        self.reserved.clear()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "queues"):
            return
        assert self.writer.lag() == tuple(map(len, self.queues))
        assert [reader.ready() for reader in self.readers] == [bool(queue) for queue in self.queues]

    def teardown(self) -> None:
        for view, expected in getattr(self, "kept", []):
            assert bytes(view) == expected


TestChannel = Channel.TestCase
TestChannel.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
