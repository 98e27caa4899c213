"""Copies straight from and to a channel's pages: right numbers for every seed, and each rule of theirs is needed."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cgc.runtime import _core, serialization
from cgc.runtime.accelerators import base, crossing, pages
from cgc.runtime.accelerators.crossing import Crossing, CrossingEncoder, room_of
from cgc.runtime.accelerators.transfers import Arrival, Transfers
from tests.runtime.accelerators.adversary import AdversarialArray, AdversarialDevice, RegisteredBuffer, mapping_at
from tests.runtime.accelerators.world import World
from tests.runtime.core_peers import DEADLINE, eventually

SEEDS = range(50)
STEPS = 12
COLUMNS = 1000
ALONE = 270
"""Rows of an array that is so large that its segment does not take turns with others: it is used again at once."""


class Pair:
    """Two actors with a device each, and a channel from one to the other; each has mappings of its own."""

    def __init__(self, world: World, slots: int = 2, limit: int = 0) -> None:
        self.world = world
        self.devices = [AdversarialDevice(world, number) for number in range(2)]
        for device in self.devices:
            base.register(device)  # the reducer of their arrays; which of them it is, the crossings say
        self.crossings = [Crossing(lambda device=device: device) for device in self.devices]
        arena = _core.Arena.create([(1, slots, 1024)], 0, limit)
        ends = [_core.Arena.attach(arena.handle) for _ in range(2)]
        offered = [end.offer_pages() for end in ends]
        assert all(offered) is not bool(limit)
        self.writer, self.reader = ends[0].writer(0), ends[1].reader(0, 0)
        self.encoder = CrossingEncoder(self.crossings[0], room_of(self.writer) if all(offered) else None)

    def send(self, value: Any) -> None:
        self.writer.write(*self.encoder.encode(value), DEADLINE)

    def receive(self) -> Any:
        with self.crossings[1]:
            return serialization.decode(*self.reader.read(DEADLINE))

    def end(self) -> None:
        for each in self.crossings:
            each.end()
        assert self.world.violations == [], self.world.violations

    @property
    def straight(self) -> list[int]:
        """Copies between channel and device, off the first and onto the second."""
        return [device.straight for device in self.devices]


def values(step: int, rows: int = 2) -> np.ndarray:
    return np.arange(rows * COLUMNS, dtype=np.float64).reshape(rows, COLUMNS) + 10000.0 * step


def run_two_hops(pair: Pair, most: int = 1) -> None:
    """Several arrays a message beside something else; sizes change; results are computed while the next comes in."""
    first, second = pair.devices
    results: list[tuple[AdversarialArray, np.ndarray]] = []
    for step in range(STEPS):
        sent = [values(step, rows) for rows in (most, 1 + step % 5)]
        pair.send({"arrays": [first.put(each) * 2 for each in sent], "text": str(step)})
        arrived = pair.receive()
        assert arrived["text"] == str(step)
        results += [(array + 1, each * 2 + 1) for array, each in zip(arrived["arrays"], sent, strict=True)]
    for array, wanted in results:
        np.testing.assert_array_equal(second.read(array), wanted)
    pair.end()


@pytest.fixture(autouse=True)
def all_is_unmapped() -> Iterator[None]:
    yield
    gc.collect()
    eventually(lambda: all(thread.name != "cgc-unpin" for thread in threading.enumerate()), "all is unmapped")


def test_numbers_are_right_for_every_seed() -> None:
    for seed in SEEDS:
        pair = Pair(World(seed))
        try:
            run_two_hops(pair)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        assert pair.straight == [2 * STEPS, 2 * STEPS], "none went by way of other memory"


@pytest.mark.parametrize("why", ["limited arena", "device"])
def test_where_nothing_can_be_registered_there_is_one_copy_more(why: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=pages.__name__)
    pair = Pair(World(1), limit=1 << 24 if why == "limited arena" else 0)
    for device in pair.devices:
        device.can_pin = why != "device"
    run_two_hops(pair)
    assert pair.straight == [0, 0]
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * (2 if why == "device" else 0), "once a device"


def test_a_segment_is_used_again_once_its_copies_are_done() -> None:
    pair = Pair(World(2))
    for step in range(STEPS):
        pair.send(pair.devices[0].put(values(step)))
        pair.receive()
        pair.crossings[1].end()
    assert sum(len(device.registered) for device in pair.devices) <= 2 * 8, "of those that take turns"
    assert pair.straight == [STEPS, STEPS]


def test_registrations_end_when_their_graph_has_gone_and_its_last_view() -> None:
    pair = Pair(World(3))
    devices = pair.devices
    pair.send(devices[0].put(values(0)))
    kind, blob, buffers = pair.reader.read(DEADLINE)
    with pair.crossings[1]:
        serialization.decode(kind, blob, buffers)
    pair.end()
    registered = {device.number: [buffer._address for buffer in device.registered] for device in devices}
    assert {number: len(each) for number, each in registered.items()} == {0: 1, 1: 1}
    del pair
    gc.collect()
    eventually(lambda: not devices[0].registered, "the writer's registration has ended")
    assert [len(device.registered) for device in devices] == [0, 1], "a view keeps the reader's"
    np.testing.assert_array_equal(np.frombuffer(buffers[0]), values(0).reshape(-1))
    del buffers
    eventually(lambda: not devices[1].registered, "the reader's registration has ended")
    eventually(lambda: not any(mapping_at(address) for each in registered.values() for address in each), "all is gone")
    assert devices[0].world.violations == []


def test_two_graphs_share_a_device() -> None:
    pairs = [Pair(World(seed)) for seed in (4, 5)]
    pairs[1].devices = pairs[0].devices
    pairs[1].crossings = pairs[0].crossings
    pairs[1].encoder = CrossingEncoder(pairs[0].crossings[0], room_of(pairs[1].writer))
    for step in range(STEPS):
        for number, pair in enumerate(pairs):
            pair.send(pair.devices[0].put(values(step + 50 * number)))
        for number, pair in enumerate(pairs):
            np.testing.assert_array_equal(pair.devices[1].read(pair.receive()), values(step + 50 * number))
    pairs[0].end()


def test_copies_from_memory_that_is_not_registered_are_caught() -> None:
    device = AdversarialDevice(World(0))
    memory = device.pin(memoryview(bytearray(8192)))
    memory.release()
    with pytest.raises(AssertionError, match="not registered any more"):
        device.copy_in(device.empty((8,), np.uint8), memory)
    late = device.pin(memoryview(bytearray(8192)))
    device.copy_in(device.empty((8,), np.uint8), late)
    late.release()
    device.world.drain()
    assert device.world.violations == [
        "a registration has ended while a copy was under way",
        "a copy from or to pages that are not registered any more",
    ]


def upload_without_lease(
    self: Transfers, source: Any, shape: Any, dtype: Any, offset: int = 0, lease: Any = None
) -> Arrival:
    return _upload(self, source, shape, dtype, offset)


_upload = Transfers.upload


def settle_without_waiting(self: Crossing) -> None:
    self._leaving.clear()


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Transfers, "upload", upload_without_lease),
        (Crossing, "settle", settle_without_waiting),
    ],
)
def test_each_rule_is_needed(
    owner: Any, name: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    caught = 0
    for seed in range(10):
        try:
            run_two_hops(Pair(World(seed)), ALONE)
        except AssertionError:
            caught += 1
    assert caught >= 3


def test_unmapping_what_is_registered_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the two is what `pages` is for."""
    late: list[RegisteredBuffer] = []
    monkeypatch.setattr(RegisteredBuffer, "release", lambda self: late.append(self))
    pair = Pair(World(6))
    device = pair.devices[1]
    pair.send(pair.devices[0].put(values(0)))
    pair.receive()
    pair.end()
    del pair
    gc.collect()
    eventually(lambda: len(late) == 2, "both mappings were retired")
    monkeypatch.undo()
    eventually(lambda: not any(mapping_at(buffer._address) for buffer in late), "both are unmapped")
    for buffer in late:
        buffer.release()
    assert set(device.world.violations) == {"memory was unmapped while it was registered"}


def test_room_is_only_for_what_goes_to_a_segment() -> None:
    writer = Pair(World(7)).writer
    room = crossing.room_of(writer)
    assert room(_core.memcpy_threshold() - 1) is None
    assert room(_core.memcpy_threshold()) is not None
