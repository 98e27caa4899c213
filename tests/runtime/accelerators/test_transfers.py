"""Transfers on the adversarial device: right numbers for every seed, and wrong ones as soon as one rule is left out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from cgc.runtime.accelerators import base, transfers
from cgc.runtime.accelerators.base import Accelerator
from cgc.runtime.accelerators.transfers import Arrival, Departure, Transfers
from tests.runtime.accelerators.adversary import AdversarialArray, AdversarialDevice, HostBuffer
from tests.runtime.accelerators.world import World

SEEDS = range(int(os.environ.get("CGC_TEST_SEEDS", "200")))
"""Of each graph; `CGC_TEST_SEEDS` sets another number: a thousand take a minute."""

SHAPE = (4, 3)
STEPS = 4
"""Executions of a graph; memory comes round after the first."""


def values(step: int) -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(SHAPE) + 100 * step


def pinned(array: np.ndarray) -> HostBuffer:
    return HostBuffer(memoryview(bytearray(array.tobytes())))


class Participant:
    """One actor's device, its transfers, and the host memory it downloads to."""

    def __init__(self, world: World, number: int) -> None:
        self.device = AdversarialDevice(world, number)
        self.transfers = Transfers(self.device)

    def upload(self, step: int) -> Arrival:
        return self.transfers.upload(pinned(values(step)), SHAPE, np.float32)

    def receive(self, peer: int) -> Arrival:
        return self.transfers.receive(SHAPE, np.float32, lambda array: self.device.receive(array, peer))

    def send(self, array: AdversarialArray, peer: int) -> Departure:
        return self.transfers.send(array, lambda leaving: self.device.send(leaving, peer))

    def download(self, array: AdversarialArray) -> Callable[[], np.ndarray]:
        target = self.device.pinned(array.nbytes)
        departure = self.transfers.download(array, target)

        def finish() -> np.ndarray:
            departure.wait()
            return np.frombuffer(bytes(target.view), np.float32).reshape(SHAPE)

        return finish


def run_chain(world: World) -> None:
    """Host → a → b → c → host, several executions in flight; each computes with a temporary that is freed at once."""
    a, b, c = (Participant(world, number) for number in range(3))
    results = []
    for step in range(STEPS):
        a.send(a.upload(step).wait() * 2 + 1, 1)
        b.send(b.receive(0).wait() * 3 + 1, 2)
        results.append(c.download(c.receive(1).wait() * 5 + 1))
    for step, result in enumerate(results):
        np.testing.assert_array_equal(result(), ((values(step) * 2 + 1) * 3 + 1) * 5 + 1)


def run_diamond(world: World) -> None:
    """One value goes to two peers, whose results come back crosswise and are added."""
    a, b, c = (Participant(world, number) for number in range(3))
    results = []
    for step in range(STEPS):
        value = a.upload(step).wait() + 1
        a.send(value, 1)
        a.send(value, 2)
        del value
        b.send(b.receive(0).wait() * 2, 0)
        c.send(c.receive(0).wait() * 3, 0)
        late, early = a.receive(2), a.receive(1)
        results.append(a.download(early.wait() + late.wait()))
    for step, result in enumerate(results):
        np.testing.assert_array_equal(result(), (values(step) + 1) * 5)


def run_prefetch(world: World) -> None:
    """The next execution's input is uploaded while this one computes, and waited for late."""
    a = Participant(world, 0)
    arrival, results = a.upload(0), []
    for step in range(STEPS):
        following = a.upload(step + 1)
        results.append(a.download(arrival.wait() * 2 + 7))
        arrival = following
        a.transfers.let_go()
    for step, result in enumerate(results):
        np.testing.assert_array_equal(result(), values(step) * 2 + 7)


def run_random_ring(world: World) -> None:
    """Values go round a ring of devices in a random number of hops, with random work between."""
    lots = random.Random(len(world.streams))
    ring = [Participant(world, number) for number in range(3)]
    for step in range(STEPS):
        hops, expected = lots.randrange(1, 6), values(step)
        array = ring[0].upload(step).wait()
        for hop in range(hops):
            here, there = ring[hop % 3], ring[(hop + 1) % 3]
            for _ in range(lots.randrange(3)):
                array, expected = array + hop, expected + hop
            here.send(array, there.device.number)
            array = there.receive(here.device.number).wait()
        np.testing.assert_array_equal(ring[hops % 3].download(array)(), expected)


def run_exchange(world: World) -> None:
    """A collective reads what has just been computed, and its result is used at once."""
    a = Participant(world, 0)

    def negate(array: AdversarialArray) -> list[AdversarialArray]:
        result = a.device.empty(SHAPE, np.float32)
        source, target = array.block, result.block
        a.device.current_stream().push(
            lambda: np.negative(source.octets.view(np.float32), out=target.octets.view(np.float32))
        )
        return [result]

    for step in range(STEPS):
        value = a.upload(step).wait() + 1
        (arrival,) = a.transfers.exchange([value], partial(negate, value))
        np.testing.assert_array_equal(a.download(arrival.wait() * 2)(), -(values(step) + 1) * 2)
    a.transfers.drain()


GRAPHS = [run_chain, run_diamond, run_prefetch, run_random_ring, run_exchange]


@pytest.mark.parametrize("run", GRAPHS)
def test_numbers_are_right_for_every_seed(run: Callable[[World], None]) -> None:
    for seed in SEEDS:
        try:
            run(World(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def arrive_without_waiting(self: Arrival) -> AdversarialArray:
    self._accelerator.keep_for(self.array, self._accelerator.current_stream())
    return self.array


def arrive_without_keeping(self: Arrival) -> AdversarialArray:
    self._accelerator.current_stream().wait_event(self._event)
    return self.array


def depart_without_waiting(self: Transfers, stream, array, start, holding=None, ready=None) -> Departure:
    with self.accelerator.on_stream(stream):
        start()
    self.accelerator.keep_for(array, stream)
    return Departure(stream.record_event())


def depart_without_keeping(self: Transfers, stream, array, start, holding=None, ready=None) -> Departure:
    stream.wait_event(self.accelerator.current_stream().record_event())
    with self.accelerator.on_stream(stream):
        start()
    return Departure(stream.record_event())


@pytest.mark.parametrize(
    ("owner", "method", "mutant"),
    [
        (transfers.Arrival, "wait", arrive_without_waiting),
        (transfers.Arrival, "wait", arrive_without_keeping),
        (transfers.Departure, "wait", lambda self: None),
        (transfers.Transfers, "_depart", depart_without_waiting),
        (transfers.Transfers, "_depart", depart_without_keeping),
    ],
)
def test_each_rule_is_needed(
    owner: type, method: str, mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, mutant)
    caught = 0
    for seed in range(50):
        try:
            run_chain(World(seed))
        except AssertionError:
            caught += 1
    assert caught >= 5


def test_host_memory_is_held_until_its_copy_has_run() -> None:
    world = World(0)
    a = Participant(world, 0)
    released: list[str] = []

    class Lease:
        def __del__(self) -> None:
            released.append("released")

    a.transfers.upload(pinned(values(0)), SHAPE, np.float32, lease=Lease())
    a.transfers.let_go()
    assert released == []
    world.drain()
    a.transfers.let_go()
    assert released == ["released"]


def test_accelerators_are_found_by_name() -> None:
    device = AdversarialDevice(World(0))
    assert isinstance(device, Accelerator)
    base.register(device)
    assert base.find("adversary") is device
    assert base.find("cpu").name == "cpu"
    with pytest.raises(LookupError, match="no accelerator is called 'npu'; known: adversary, cpu, cuda"):
        base.find("npu")
