"""The adversarial device proves that it catches what it is there to catch, and accuses nobody else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.runtime.accelerators.adversary import AdversarialDevice, HostBuffer
from tests.runtime.accelerators.world import World

SEEDS = range(100)
VALUES = np.arange(1.0, 9.0, dtype=np.float32)


def source() -> HostBuffer:
    return HostBuffer(memoryview(VALUES.tobytes()))


def upload_and_double(device: AdversarialDevice, *, wait: bool) -> np.ndarray:
    copies = device.new_stream()
    with device.on_stream(copies):
        array = device.empty((8,), np.float32)
        device.copy_in(array, source())
    if wait:
        device.current_stream().wait_event(copies.record_event())
    device.keep_for(array, device.current_stream())
    return device.read(array * 2)


def download(device: AdversarialDevice, *, wait: bool) -> np.ndarray:
    array = device.empty((8,), np.float32)
    device.copy_in(array, source())
    target = device.pinned(array.nbytes)
    device.copy_out(target, array)
    if wait:
        device.current_stream().record_event().synchronize()
    return np.frombuffer(bytes(target.view), np.float32) * 2


def free_while_another_stream_reads(device: AdversarialDevice, *, wait: bool) -> np.ndarray:
    """The array's memory is used again by the compute stream, while a copy stream still has to read it."""
    array = device.empty((8,), np.float32)
    device.copy_in(array, source())
    copies, target = device.new_stream(), device.pinned(array.nbytes)
    copies.wait_event(device.current_stream().record_event())
    with device.on_stream(copies):
        device.copy_out(target, array)
    if wait:
        device.keep_for(array, copies)
    del array
    other = device.empty((8,), np.float32)
    device.copy_in(other, HostBuffer(memoryview(np.zeros(8, np.float32).tobytes())))
    copies.record_event().synchronize()
    return np.frombuffer(bytes(target.view), np.float32) * 2


def reuse_the_source(device: AdversarialDevice, *, wait: bool) -> np.ndarray:
    """The host overwrites its memory while a copy still has to read it."""
    memory = bytearray(VALUES.tobytes())
    array = device.empty((8,), np.float32)
    device.copy_in(array, HostBuffer(memoryview(memory)))
    if wait:
        device.current_stream().record_event().synchronize()
    memory[:] = bytes(len(memory))
    return device.read(array * 2)


def send_and_receive(device: AdversarialDevice, *, wait: bool) -> np.ndarray:
    peer = AdversarialDevice(device.world, 1)
    sends, receives = device.new_stream(), peer.new_stream()
    array = device.empty((8,), np.float32)
    device.copy_in(array, source())
    if wait:
        sends.wait_event(device.current_stream().record_event())
    with device.on_stream(sends):
        device.send(array, 1)
    device.keep_for(array, sends)
    with peer.on_stream(receives):
        received = peer.empty((8,), np.float32)
        peer.receive(received, 0)
    peer.current_stream().wait_event(receives.record_event())
    peer.keep_for(received, peer.current_stream())
    return peer.read(received * 2)


MISTAKES = [
    upload_and_double,
    download,
    free_while_another_stream_reads,
    reuse_the_source,
    send_and_receive,
]


@pytest.mark.parametrize("act", MISTAKES)
def test_what_waits_is_right_for_every_seed(act: Callable[..., np.ndarray]) -> None:
    for seed in SEEDS:
        result = act(AdversarialDevice(World(seed)), wait=True)
        np.testing.assert_array_equal(result, VALUES * 2, err_msg=f"seed {seed}")


@pytest.mark.parametrize("act", MISTAKES)
def test_what_does_not_wait_is_caught(act: Callable[..., np.ndarray]) -> None:
    wrong = [seed for seed in SEEDS if not np.array_equal(act(AdversarialDevice(World(seed)), wait=False), VALUES * 2)]
    assert len(wrong) >= len(SEEDS) // 5, f"only the seeds {wrong} show the mistake"


def test_one_seed_is_one_history() -> None:
    histories = [[act(AdversarialDevice(World(7)), wait=False).tobytes() for act in MISTAKES] for _ in range(2)]
    assert histories[0] == histories[1]


def test_a_wait_for_nothing_is_an_error_and_not_a_hang() -> None:
    device = AdversarialDevice(World(0))
    array = device.empty((1,), np.float32)
    device.receive(array, 1)
    with pytest.raises(AssertionError, match="no stream will ever do"):
        device.current_stream().record_event().synchronize()


def test_pageable_memory_is_refused() -> None:
    device = AdversarialDevice(World(0))
    with pytest.raises(AssertionError, match="not pinned"):
        device.copy_in(device.empty((1,), np.uint8), memoryview(b"1"))
    with pytest.raises(AssertionError, match="not pinned"):
        device.copy_out(memoryview(bytearray(1)), device.empty((1,), np.uint8))


def test_a_world_with_a_thread_of_its_own_needs_no_host() -> None:
    world = World(3, autonomous=True)
    device = AdversarialDevice(world)
    array = device.empty((8,), np.float32)
    device.copy_in(array, source())
    event = device.current_stream().record_event()
    event.synchronize()
    np.testing.assert_array_equal(array.view(), VALUES)
    world.stop()
