"""Leases, private mappings and reservations of the native core."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from cgc.runtime._core import Arena, ChannelTimeout, map_private, memcpy_threshold
from tests.runtime.core_peers import DEADLINE, run_alone

LARGE = 1 << 20


def filled(value: int, size: int = LARGE) -> np.ndarray:
    return np.full(size, value, np.uint8)


@pytest.fixture
def arena() -> Arena:
    return Arena.create([(1, 2, 1024), (2, 2, 1024)], 0)


def test_a_view_stays_as_it_was_while_later_messages_pass(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    writer.write(0, b"", [filled(0)])
    _, _, [kept] = reader.read()
    for value in range(1, 60):
        writer.write(value, b"", [filled(value)])
        assert reader.read()[2][0][0] == value
    assert (np.frombuffer(kept, np.uint8) == 0).all()


def test_a_segment_is_used_again_once_the_last_view_is_gone(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    writer.write(0, b"", [filled(0), filled(1)])
    _, _, views = reader.read()
    array = np.frombuffer(views.pop(), np.uint8)[10:]  # a view of a view of the second buffer
    del views
    writer.write(1, b"", [filled(2), filled(3)])
    reader.skip()
    two = arena.nbytes
    assert (array == 1).all()
    del array
    for _ in range(20):
        writer.write(2, b"", [filled(4), filled(5)])
        reader.skip()
    assert arena.nbytes == two


def test_a_view_outlives_reader_writer_arena_and_close() -> None:
    arena = Arena.create([(1, 2, 1024)], 0)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    writer.write(0, b"", [filled(7)])
    _, _, [view] = reader.read()
    arena.close(1, 0)
    del writer, reader, arena
    gc.collect()
    assert (np.frombuffer(view, np.uint8) == 7).all()


def test_a_reader_that_keeps_everything_gets_copies_and_stops_nobody(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    kept = []
    for value in range(100):
        writer.write(value, b"", [filled(value)], timeout=DEADLINE)
        kept += reader.read()[2]
    for value, view in enumerate(kept):
        assert view.readonly
        assert (np.frombuffer(view, np.uint8) == value).all()
    assert arena.nbytes < 20 * LARGE, "the rest is private memory of the reader"


@pytest.mark.parametrize("size", [LARGE // 2, LARGE, 4 * LARGE])
def test_leases_within_a_memory_limit_never_stop_messages_of_half_of_it(size: int) -> None:
    arena = Arena.create([(1, 8, 1024)], 0, max_bytes=9 * LARGE)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    kept = []
    for value in range(50):
        writer.write(value, b"", [filled(value, size)], timeout=DEADLINE)
        kept += reader.read()[2]
        assert arena.nbytes <= 9 * LARGE
    for value, view in enumerate(kept):
        assert view.readonly
        assert (np.frombuffer(view, np.uint8) == value).all()


def test_a_memory_limit_makes_the_writer_wait_for_leases_and_name_their_holders() -> None:
    arena = Arena.create([(2, 2, 1024)], 0, max_bytes=11 * LARGE // 2)
    writer = arena.writer(0)
    readers = [arena.reader(0, rank) for rank in range(2)]
    kept = []
    for value in range(2):
        writer.write(value, b"", [filled(value)])
        readers[0].skip()
        kept += readers[1].read()[2]
    with pytest.raises(ChannelTimeout, match=r"all 2 segments are in use.* reader 1 keeps views") as caught:
        writer.write(2, b"", [filled(2, 4 * LARGE)], timeout=0.01)
    assert caught.value.holders == (1,)
    writer.write(3, b"small ones need no segment", timeout=0)
    assert [bytes(readers[rank].read()[1][:5]) for rank in range(2)] == [b"small"] * 2

    blocked = threading.Thread(target=writer.write, args=(4, b"", [filled(4, 4 * LARGE)], DEADLINE))
    blocked.start()
    del kept[0]
    assert (np.frombuffer(readers[0].read(DEADLINE)[2][0], np.uint8) == 4).all()
    blocked.join(DEADLINE)
    assert not blocked.is_alive()
    assert (np.frombuffer(kept[0], np.uint8) == 1).all()


@pytest.mark.parametrize("size", [1, memcpy_threshold() - 1, memcpy_threshold(), 100_000, LARGE, 17 * LARGE + 1])
def test_a_private_mapping_is_writable_and_nobody_else_sees_what_is_written(arena: Arena, size: int) -> None:
    writer = arena.writer(1)
    readers = [arena.reader(1, rank) for rank in range(2)]
    writer.write(0, b"", [b"in front", filled(3, size)])
    views = [reader.read()[2][1] for reader in readers]
    private = map_private(views[0])
    assert not private.readonly
    array = np.frombuffer(private, np.uint8)
    assert (array == 3).all()
    array[:] = 4
    assert (array == 4).all()
    assert (np.frombuffer(views[1], np.uint8) == 3).all()
    del views
    for value in range(5, 15):
        writer.write(0, b"", [b"", filled(value, size)])
        for reader in readers:
            reader.skip()
    assert (array == 4).all()


def test_a_private_mapping_keeps_the_lease_of_what_it_has_not_written(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    writer.write(0, b"", [filled(3, 16 * LARGE)])
    private = map_private(reader.read()[2][0])
    private[0] = 9
    for value in range(5, 15):
        writer.write(0, b"", [filled(value, 16 * LARGE)])
        reader.skip()
    array = np.frombuffer(private, np.uint8)
    assert array[0] == 9
    assert (array[1:] == 3).all()


def test_a_private_mapping_of_a_part_of_a_view(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    array = np.arange(5 * LARGE, dtype=np.uint32)
    writer.write(0, b"", [array])
    _, _, [view] = reader.read()
    for part in (slice(10_000, -10_000), slice(10_000, 20_000)):  # mapped, copied
        private = map_private(view[part.start * 4 : part.stop * 4])
        assert (np.frombuffer(private, np.uint32) == array[part]).all()
    with pytest.raises(TypeError, match="contiguous"):
        map_private(view[::2])


@pytest.mark.parametrize("other", [memoryview(bytearray(9)), b"bytes"])
def test_only_views_of_the_core_can_be_mapped(other: object) -> None:
    with pytest.raises(TypeError, match=r"Reader\.read"):
        map_private(other)  # type: ignore[arg-type]


def test_what_lies_in_a_reservation_is_sent_without_a_copy(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    array = np.frombuffer(writer.reserve(LARGE), np.uint8)
    array[:] = 1
    before = arena.nbytes
    writer.write(0, b"", [array[: LARGE // 2], array[LARGE // 2 :], filled(9)])
    _, _, [first, second, copied] = reader.read()
    array[0], array[-1] = 50, 60  # the same memory: seen on the other side
    assert (first[0], second[-1], copied[0]) == (50, 60, 9)
    assert arena.nbytes - before == LARGE, "a segment for the copied buffer only"


def test_a_reservation_is_sent_again_without_a_copy_once_nobody_holds_it(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    array = np.frombuffer(writer.reserve(LARGE), np.uint8)
    array[:] = 1
    writer.write(0, b"", [array])
    _, _, held = reader.read()
    array[:] = 2
    writer.write(0, b"", [array])
    _, _, [copied] = reader.read()
    array[:] = 3
    assert (held[0][0], copied[0]) == (3, 2)
    del held, copied
    writer.write(0, b"", [array])
    _, _, [again] = reader.read()
    array[:] = 4
    assert again[0] == 4


def test_two_reservations_go_in_one_message_and_outlive_the_writer(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    views = [writer.reserve(LARGE) for _ in range(2)]
    for value, view in enumerate(views):
        np.frombuffer(view, np.uint8)[:] = value
    writer.write(0, b"", views)
    del writer
    received = reader.read()[2]
    writer = arena.writer(0)
    writer.write(0, b"", [filled(9), filled(9)])
    assert [view[-1] for view in received] == [0, 1]
    views[0][-1] = 77
    assert received[0][-1] == 77


def test_a_reservation_that_was_dropped_is_free_again(arena: Arena) -> None:
    writer = arena.writer(0)
    for _ in range(50):
        assert len(writer.reserve(LARGE, timeout=0)) == LARGE
    assert arena.nbytes < 3 * LARGE


def test_reservations_that_are_kept_are_limited(arena: Arena) -> None:
    writer = arena.writer(0)
    kept = [writer.reserve(LARGE, timeout=0) for _ in range(20)]  # two for each slot, and 16
    with pytest.raises(ChannelTimeout, match="the writer keeps reserved arrays") as caught:
        writer.reserve(LARGE, timeout=0.01)
    assert caught.value.holders == ()
    del kept[3]
    writer.reserve(LARGE, timeout=0)


FORK = """
import gc, os, numpy as np
from cgc.runtime._core import Arena, map_private
arena = Arena.create([(1, 2, 1024)], 0)
writer, reader = arena.writer(0), arena.reader(0, 0)
writer.write(0, b"", [np.full(1 << 20, 1, np.uint8)])
views = reader.read()[2]
if (child := os.fork()) == 0:
    del views
    gc.collect()
    for use in (reader.read, lambda: writer.write(1, b"")):
        try:
            use()
        except RuntimeError as error:
            assert "belongs to the parent process" in str(error), error
        else:
            os._exit(1)
    del writer, reader
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
for value in range(40):
    writer.write(0, b"", [np.full(1 << 20, 2, np.uint8)])
    reader.skip()
assert (np.frombuffer(views[0], np.uint8) == 1).all()
"""


def test_a_forked_child_gives_back_nothing_of_its_parent() -> None:
    result = run_alone(FORK)
    assert result.returncode == 0, result.stderr


EXIT = """
import threading, numpy as np
from cgc.runtime._core import Arena, map_private
arena = Arena.create([(1, 2, 1024), (1, 2, 1024)], 1)
writer, reader = arena.writer(0), arena.reader(0, 0)
writer.write(0, b"", [np.full(1 << 20, 1, np.uint8)])
view = reader.read()[2][0]
array = np.frombuffer(map_private(view), np.uint8)
reserved = writer.reserve(1 << 20)
line = arena.progress(0)
cycle = [view, array, reserved, line, arena]
cycle.append(cycle)
threading.keep = cycle, writer, reader     # found by the interpreter's last clean-up, in any order

def wait_for_ever(reader):
    while True:
        try:
            reader.read()
        except Exception:
            pass

blocked = arena.reader(1, 0)
for number in range(4):
    threading.Thread(target=wait_for_ever, args=(blocked,), daemon=True).start()
print("end")
"""


def test_the_interpreter_exits_with_live_views_and_daemon_threads_that_wait() -> None:
    for _ in range(5):
        result = run_alone(EXIT)
        assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
