"""The ends of a channel that lends, in one process: what is held, for how long, and what happens at the limits."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import numpy as np
import pytest

from cgc.runtime import _core, serialization
from cgc.runtime.accelerators import base, lending
from cgc.runtime.accelerators.crossing import Crossing, borrowing, support
from cgc.runtime.accelerators.lending import Borrower, Lender, LendingEncoder, Loan
from cgc.runtime.accelerators.transfers import Transfers
from cgc.runtime.program import ChannelSpec
from tests.runtime.accelerators.adversary import AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.sharing import SharingDevice
from tests.runtime.accelerators.world import World

SHAPE = (4,)
SLOTS = 4


class Channel:
    """One writer and its readers, each with a device of its own over the same memory."""

    def __init__(self, seed: int = 0, readers: int = 1, kind: type[AdversarialDevice] = SharingDevice) -> None:
        support(AdversarialArray, partial(base.find, AdversarialDevice.name))
        self.world = World(seed)
        self.devices = [kind(self.world, number) for number in range(readers + 1)]
        names = tuple(f"r{number}" for number in range(readers))
        spec = ChannelSpec("c", 0, "any", "w", names, SLOTS, 4096, returns=tuple(f"c.{name}" for name in names))
        arena = _core.Arena.create([(readers, SLOTS, 4096), *[(1, 1, 256)] * readers], 1)
        self.crossings = crossings = [Crossing(lambda device=device: device) for device in self.devices]  # type: ignore[misc]
        self.readers = [
            Borrower(spec, rank, arena.reader(0, rank), crossings[rank + 1], arena.writer(rank + 1))
            for rank in range(readers)
        ]
        self.writer = arena.writer(0)
        self.lender = Lender(spec, self.writer, crossings[0], [arena.reader(rank + 1, 0) for rank in range(readers)])
        self.encoder = LendingEncoder(crossings[0], self.lender)

    def put(self, value: float) -> AdversarialArray:
        return self.devices[0].put(np.full(SHAPE, value))

    def send(self, value: Any) -> None:
        self.writer.write(*self.encoder.encode(value), timeout=0)

    def receive(self, rank: int = 0) -> Any:
        borrower = self.readers[rank]
        with self.crossings[rank + 1], borrowing(borrower):
            value = serialization.decode(*borrower.read())
            borrower.end_message()
        return value

    def settle(self) -> int:
        """What is still held once everything that can happen has."""
        gc.collect()
        self.world.drain()
        for reader in self.readers:
            reader.give_back()
            self.world.drain()
            reader.give_back()
        self.lender.begin()
        return self.lender.lent


def test_a_loan_ends_with_the_last_array_of_the_last_reader() -> None:
    channel = Channel(readers=2)
    channel.send({"one": channel.put(1.0), "two": channel.put(2.0)})
    first, second = channel.receive(0), channel.receive(1)
    assert channel.settle() == 1
    del first
    assert channel.settle() == 1
    kept = second.pop("two")
    second.clear()
    assert channel.settle() == 1
    np.testing.assert_array_equal(channel.devices[2].read(kept), np.full(SHAPE, 2.0))
    del kept
    assert channel.settle() == 0


def test_a_reader_returns_what_it_could_not_decode() -> None:
    channel = Channel()
    channel.send((channel.put(1.0), Unreadable()))
    with pytest.raises(RuntimeError, match="unreadable"):
        channel.receive()
    channel.readers[0].end_message()
    assert channel.settle() == 0


class Unreadable:
    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise RuntimeError("unreadable")


def test_what_was_encoded_and_not_sent_is_not_held() -> None:
    channel = Channel()
    for value in range(2 * lending.entries_of(ChannelSpec("c", 0, "any", "w", ("r",), SLOTS, 4096))):
        channel.encoder.encode(channel.put(float(value)))
    assert channel.settle() == 0


def test_there_is_always_an_entry_however_much_is_kept() -> None:
    channel = Channel(readers=3)
    kept = []
    for value in range(200):
        channel.send(channel.put(float(value)))
        kept += [(float(value), rank, channel.receive(rank)) for rank in range(3)]
    assert channel.settle() <= 3 * (lending.MOST_KEPT // 3 + 1)
    for value, rank, array in kept:
        np.testing.assert_array_equal(channel.devices[rank + 1].read(array), np.full(SHAPE, value))


@pytest.mark.parametrize("kind", [SharingDevice, AdversarialDevice])
def test_arrays_of_devices_that_cannot_lend_are_copied(kind: type[AdversarialDevice]) -> None:
    channel = Channel(kind=kind)
    channel.send(channel.put(3.0))
    array = channel.receive()
    assert isinstance(array, AdversarialArray)
    assert (array.loan is not None) == (kind is SharingDevice)
    np.testing.assert_array_equal(channel.devices[1].read(array), np.full(SHAPE, 3.0))


def test_what_was_borrowed_is_sent_on_by_a_copy() -> None:
    channel = Channel()
    channel.send(channel.put(3.0))
    borrowed = channel.receive()
    assert channel.settle() == 1
    channel.lender.begin()
    assert channel.lender.lend(borrowed) is None
    np.testing.assert_array_equal(channel.devices[1].read(borrowed), np.full(SHAPE, 3.0))


def send_on_another_stream(seed: int) -> None:
    """The reader computes with what it has borrowed on its stream of downloads, and drops it at once."""
    channel = Channel(seed)
    device = channel.devices[1]
    transfers = Transfers(device)
    for value in range(4):
        channel.send(channel.put(float(value)))
        memory = device.pinned(8 * SHAPE[0])
        departure = transfers.download(channel.receive(), memory)
        channel.readers[0].give_back()
        channel.devices[1].current_stream().record_event().synchronize()
        channel.readers[0].give_back()
        channel.lender.begin()
        channel.put(-1.0)
        departure.wait()
        np.testing.assert_array_equal(np.frombuffer(memory.view, np.float64), np.full(SHAPE, float(value)))


def return_without_waiting(self: Borrower) -> int:
    while self._ended:
        returning = self._ended.popleft()
        self._board[returning.entry] = returning.number
        self._taken -= 1
    return 0


@pytest.mark.parametrize(
    ("owner", "method", "mutant"),
    [(Loan, "keep_for", lambda self, stream: None), (Borrower, "give_back", return_without_waiting)],
)
def test_other_streams_of_the_reader_are_waited_for(
    owner: type, method: str, mutant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100):
        send_on_another_stream(seed)
    monkeypatch.setattr(owner, method, mutant)
    caught = 0
    for seed in range(100):
        try:
            send_on_another_stream(seed)
        except AssertionError:
            caught += 1
    assert caught >= 5
