"""The native core within one process: messages, sizes, readers, arguments."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cgc.runtime._core import Arena, ChannelTimeout, Writer, memcpy_threshold

THRESHOLD = memcpy_threshold()
SLOT = 1024
ROTATION = 2 << 20
"""Most bytes of segments of one capacity that take turns, while one would do."""
SIZES = [0, 1, 63, 64, 100, SLOT - 1, SLOT, SLOT + 1, THRESHOLD - 1, THRESHOLD, 65_536, 65_537, 1 << 20, (5 << 20) + 3]


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def address(buffer: memoryview) -> int:
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]


@pytest.fixture
def arena() -> Arena:
    return Arena.create([(1, 2, SLOT), (3, 4, SLOT)], 2)


@pytest.mark.parametrize("size", SIZES)
def test_a_blob_of_any_size_arrives_unchanged(arena: Arena, size: int) -> None:
    arena.writer(0).write(7, noise(size))
    kind, blob, buffers = arena.reader(0, 0).read()
    assert (kind, bytes(blob), buffers) == (7, noise(size), [])
    assert isinstance(blob, bytes if size < THRESHOLD else memoryview)


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_of_any_size_arrives_unchanged_and_read_only(arena: Arena, size: int) -> None:
    arena.writer(0).write(7, b"blob", [noise(size)])
    kind, blob, [buffer] = arena.reader(0, 0).read()
    assert (kind, blob, bytes(buffer)) == (7, b"blob", noise(size))
    assert buffer.readonly
    if size >= THRESHOLD:
        assert address(buffer) % 64 == 0


@pytest.mark.parametrize("count", [2, 40, 2000])
@pytest.mark.parametrize("size", [0, 10, 5000])
def test_many_buffers_arrive_in_order(arena: Arena, count: int, size: int) -> None:
    sent = [noise(size, seed) for seed in range(count)]
    arena.writer(0).write(1, b"", sent)
    _, _, received = arena.reader(0, 0).read()
    assert [bytes(buffer) for buffer in received] == sent


def test_buffers_of_mixed_sizes_share_a_message(arena: Arena) -> None:
    sent = [noise(size, size) for size in SIZES]
    arena.writer(0).write(1, noise(3000), sent)
    _, blob, received = arena.reader(0, 0).read()
    assert bytes(blob) == noise(3000)
    assert [bytes(buffer) for buffer in received] == sent


@pytest.mark.parametrize(
    "array",
    [np.arange(6000.0).reshape(60, 100), np.asfortranarray(np.arange(6000.0).reshape(60, 100)), np.float32(3.5)],
    ids=["C order", "Fortran order", "scalar"],
)
def test_contiguous_arrays_of_any_type_are_buffers(arena: Arena, array: np.ndarray) -> None:
    arena.writer(0).write(1, b"", (array,))
    _, _, [buffer] = arena.reader(0, 0).read()
    assert bytes(buffer) == array.tobytes("A")


def test_a_pickle_with_out_of_band_buffers_goes_through(arena: Arena) -> None:
    value = {"large": np.arange(100_000), "small": np.arange(3), "text": "x"}
    buffers: list[pickle.PickleBuffer] = []
    blob = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arena.writer(0).write(1, blob, buffers)
    _, received, views = arena.reader(0, 0).read()
    result = pickle.loads(received, buffers=views)
    assert (result["large"] == value["large"]).all()
    assert (result["small"] == value["small"]).all()
    assert not result["large"].flags.writeable


@pytest.mark.parametrize(
    ("buffers", "message"),
    [
        ([b"good", np.zeros((8, 8))[:, ::2]], "buffer 1 is not contiguous"),
        ([5], "buffer 0 is of type int, which exports no buffer"),
        (5, "buffers is not a sequence"),
    ],
)
def test_what_is_no_buffer_is_refused_and_nothing_is_sent(arena: Arena, buffers: object, message: str) -> None:
    writer = arena.writer(0)
    with pytest.raises(TypeError, match=message):
        writer.write(1, b"", buffers)  # type: ignore[arg-type]
    assert writer.published == 0
    writer.write(1, b"still usable")
    assert arena.reader(0, 0).read()[1] == b"still usable"


def test_a_kind_has_32_bits(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    writer.write(2**32 - 1, b"")
    assert reader.read()[0] == 2**32 - 1
    for kind in (-1, 2**32):
        with pytest.raises(TypeError):
            writer.write(kind, b"")


def test_messages_keep_their_order_through_many_turns_of_the_ring(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    for number in range(1000):
        writer.write(number, b"%d" % number)
        if number:
            kind, blob, _ = reader.read()
            assert (kind, blob) == (number - 1, b"%d" % (number - 1))


def test_every_reader_gets_every_message(arena: Arena) -> None:
    writer = arena.writer(1)
    readers = [arena.reader(1, rank) for rank in range(3)]
    for number in range(4):
        writer.write(number, noise(100_000, number))
    assert writer.lag() == (4, 4, 4)
    for rank, reader in enumerate(readers):
        for number in range(4 - rank):
            assert bytes(reader.read()[1]) == noise(100_000, number)
    assert writer.lag() == (0, 1, 2)
    assert [reader.consumed for reader in readers] == [4, 3, 2]
    assert [reader.ready() for reader in readers] == [False, True, True]


def test_skip_consumes_without_a_look(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    before = arena.nbytes
    for number in range(50):
        writer.write(number, b"", [noise(100_000)])
        reader.skip()
    assert reader.consumed == 50
    assert arena.nbytes - before <= ROTATION, "the same few segments were used again and again"
    with pytest.raises(ChannelTimeout):
        reader.skip(timeout=0)


def test_a_growing_message_replaces_its_segment(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    before = arena.nbytes
    for power in range(14, 24):
        writer.write(1, noise(1 << power))
        assert bytes(reader.read()[1]) == noise(1 << power)
    assert arena.nbytes - before <= (1 << 23) + ROTATION, "larger segments have replaced the smaller ones"


def test_an_empty_ring_times_out(arena: Arena) -> None:
    reader = arena.reader(0, 0)
    for timeout in (0, 0.01):
        with pytest.raises(ChannelTimeout, match="ring 0: no message 0 for reader 0 in time") as caught:
            reader.read(timeout=timeout)
        assert caught.value.holders == ()
    with pytest.raises(ValueError, match="not a number"):
        reader.read(timeout=float("nan"))


def test_a_full_ring_times_out_and_names_the_readers_behind(arena: Arena) -> None:
    writer = arena.writer(1)
    readers = [arena.reader(1, rank) for rank in range(3)]
    for _ in range(4):
        writer.write(1, b"")
    readers[1].read()
    with pytest.raises(ChannelTimeout, match="reader 0, 2 has not taken the oldest of 4 messages") as caught:
        writer.write(2, b"", timeout=0.01)
    assert caught.value.holders == (0, 2)
    for reader in readers:
        reader.skip()
    writer.write(2, b"", timeout=0)
    assert writer.published == 5


def test_a_time_out_of_infinity_waits(arena: Arena) -> None:
    arena.writer(0).write(1, b"", timeout=float("inf"))
    assert arena.reader(0, 0).read(timeout=1e300)[0] == 1


def test_writer_and_readers_are_the_only_ones(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    with pytest.raises(RuntimeError, match="the writer's side of ring 0 is in use by process"):
        arena.writer(0)
    with pytest.raises(RuntimeError, match="reader 0 of ring 0 is in use by process"):
        arena.reader(0, 0)
    for number in range(20):  # until all segments that take turns are there
        writer.write(number, noise(100_000))
        assert reader.read()[0] == number
    writer.write(20, b"unread")
    before = arena.nbytes
    del writer, reader
    arena.writer(0).write(21, noise(100_000))
    assert arena.nbytes == before, "a later writer takes over the segments"
    reader = arena.reader(0, 0)
    assert [reader.read()[0] for _ in range(2)] == [20, 21]


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (384, 1, 1), (1, 2**20 + 1, 1), (1, 1, 2**40 + 1)])
def test_impossible_rings_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"1 to|at most"):
        Arena.create([shape], 0)


@pytest.mark.parametrize("slot_bytes", [0, 1, 63, 65])
def test_slots_of_any_size_work(slot_bytes: int) -> None:
    arena = Arena.create([(1, 1, slot_bytes)], 0)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    for size in (0, 1, 64, 100, 100_000):
        writer.write(1, noise(size), [noise(size)])
        _, blob, [buffer] = reader.read()
        assert bytes(blob) == bytes(buffer) == noise(size)


def test_many_readers_hold_one_message() -> None:
    arena = Arena.create([(383, 2, 64)], 0)
    writer = arena.writer(0)
    readers = [arena.reader(0, rank) for rank in range(383)]
    for _ in range(3):
        writer.write(1, b"", [noise(100_000)])
        views = [reader.read()[2][0] for reader in readers]
        assert all(view == noise(100_000) for view in views)
        del views
    for _ in range(2):
        writer.write(1, b"")
    with pytest.raises(ChannelTimeout) as caught:
        writer.write(1, b"", timeout=0)
    assert caught.value.holders == tuple(range(383))


def test_places_that_do_not_exist_are_refused(arena: Arena) -> None:
    uses = (lambda: arena.writer(2), lambda: arena.reader(2, 0), lambda: arena.reader(0, 1), lambda: arena.state(2))
    for use in uses:
        with pytest.raises(IndexError):
            use()


def test_progress_lines_and_states_are_shared_words(arena: Arena) -> None:
    line = arena.progress(1)
    assert (line.format, line.nbytes, line.readonly) == ("Q", 64, False)
    line[7] = 2**64 - 1
    assert list(arena.progress(1)) == [0] * 7 + [2**64 - 1]
    assert list(arena.progress(0)) == [0] * 8
    arena.set_state(1, 3)
    assert (arena.state(0), arena.state(1)) == (0, 3)
    assert arena.wait_state(1, 3, 0)
    assert not arena.wait_state(1, 4, 0.01)


def test_a_progress_line_outlives_its_arena() -> None:
    line = Arena.create([], 1).progress(0)
    line[0] = 5
    assert line[0] == 5


def test_no_file_system_shows_an_arena(arena: Arena) -> None:
    pid, descriptor, inode, _ = arena.handle
    file = Path(f"/proc/{pid}/fd/{descriptor}")
    assert str(file.readlink()) == "/memfd:cgc-arena (deleted)"
    assert file.stat().st_ino == inode
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_writer_is_made_by_an_arena_only() -> None:
    with pytest.raises(TypeError):
        Writer()
