"""The native core between processes: waiting, closing, signals, kills."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from cgc.runtime._core import Arena, ChannelClosed, ChannelCorrupt, ChannelTimeout
from tests.runtime.core_peers import DEADLINE, eventually, finish, peer, run_alone, wait_until_asleep

LARGE = 1 << 20

ECHO = """
reader, writer = arena.reader(0, 0), arena.writer(1)
try:
    while True:
        kind, blob, buffers = reader.read()
        writer.write(kind, blob, buffers)
except _core.ChannelClosed as error:
    print(error.code, error.culprit)
"""


def test_messages_go_to_a_process_and_back() -> None:
    arena = Arena.create([(1, 2, 256), (1, 2, 256)], 0)
    with peer(arena, ECHO) as process:
        writer, reader = arena.writer(0), arena.reader(1, 0)
        for number, size in enumerate([0, 10, 300, 20_000, 100_000, 3 << 20, 5] * 3):
            sent = np.random.default_rng(number).bytes(size)
            writer.write(number, sent, [sent, b"", sent[: size // 2]], DEADLINE)
            kind, blob, buffers = reader.read(DEADLINE)
            assert (kind, bytes(blob), [bytes(b) for b in buffers]) == (number, sent, [sent, b"", sent[: size // 2]])
        arena.close(42, 7)
        assert finish(process) == "42 7\n"


SUM = """
reader = arena.reader(0, arguments[0])
total = 0
for _ in range(arguments[1]):
    kind, blob, [buffer] = reader.read()
    total = (total * 31 + kind + buffer[0] + buffer[-1] + len(buffer)) % 1_000_003
print(total)
"""


def test_readers_in_several_processes_all_see_the_same() -> None:
    arena = Arena.create([(3, 2, 256)], 0)
    with peer(arena, SUM, 0, 300) as first, peer(arena, SUM, 1, 300) as second, peer(arena, SUM, 2, 300) as third:
        writer = arena.writer(0)
        total = 0
        for number in range(300):
            array = np.full(1 + number * 997 % 300_000, number % 251, np.uint8)
            writer.write(number, b"", [array], DEADLINE)
            total = (total * 31 + number + 2 * (number % 251) + len(array)) % 1_000_003
        assert [finish(process) for process in (first, second, third)] == [f"{total}\n"] * 3


# ---- close ----

BLOCKED_READER = """
reader = arena.reader(0, 0)
arena.set_state(0, 1)
try:
    reader.read()
except _core.ChannelClosed as error:
    print("closed", error.code, error.culprit)
"""

BLOCKED_WRITER = """
writer = arena.writer(0)
for _ in range(2):
    writer.write(0, b"")
arena.set_state(0, 1)
try:
    writer.write(0, b"")
except _core.ChannelClosed as error:
    print("closed", error.code, error.culprit)
"""

BLOCKED_BY_LEASE = """
writer = arena.writer(0)
kept = [writer.reserve(1 << 20) for _ in range(20)]
arena.set_state(0, 1)
try:
    writer.write(0, b"", [b"x" * 100_000])
except _core.ChannelClosed as error:
    print("closed", error.code, error.culprit)
"""


@pytest.mark.parametrize(
    "code", [BLOCKED_READER, BLOCKED_WRITER, BLOCKED_BY_LEASE], ids=["reader", "slots", "segments"]
)
def test_close_wakes_who_waits(code: str) -> None:
    arena = Arena.create([(1, 2, 256)], 1)
    with peer(arena, code) as process:
        wait_until_asleep(process, arena)
        assert arena.close(5, -1)
        assert finish(process) == "closed 5 -1\n"


@pytest.mark.parametrize("code", [BLOCKED_READER, BLOCKED_WRITER], ids=["reader", "writer"])
def test_a_killed_closer_leaves_nobody_asleep(code: str) -> None:
    """Closed by a process that was killed before it could wake anybody: the word alone, written from outside."""
    arena = Arena.create([(1, 2, 256)], 1)
    with peer(arena, code) as process:
        wait_until_asleep(process, arena)
        pid, descriptor, *_ = arena.handle
        with open(f"/proc/{pid}/fd/{descriptor}", "r+b", buffering=0) as file:
            file.seek(64)
            file.write(((1 << 63) | (3 << 32) | 4).to_bytes(8, "little"))
        assert finish(process) == "closed 3 4\n"


def test_the_first_closer_gives_the_reason() -> None:
    arena = Arena.create([(1, 2, 256)], 1)
    assert arena.closed is None
    assert arena.close(2**31 - 1, -5)
    assert not arena.close(1, 1)
    assert arena.closed == (2**31 - 1, -5)
    with pytest.raises(ValueError, match="not negative"):
        arena.close(-1, 0)


def test_readers_drain_a_closed_ring_then_learn_of_the_close() -> None:
    arena = Arena.create([(1, 4, 256)], 1)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    for number in range(3):
        writer.write(number, b"", [bytes(100_000)])
    arena.close(9, 3)
    for use in (lambda: writer.write(3, b""), lambda: writer.reserve(1)):
        with pytest.raises(ChannelClosed) as caught:
            use()
        assert (caught.value.code, caught.value.culprit) == (9, 3)
    assert [reader.read()[0] for _ in range(3)] == [0, 1, 2]
    assert not reader.ready()
    for take in (reader.read, reader.skip):
        with pytest.raises(ChannelClosed):
            take(timeout=0)


def test_states_can_be_waited_for_on_a_closed_arena() -> None:
    arena = Arena.create([], 1)
    arena.close(1, 0)
    waiter = threading.Thread(target=arena.wait_state, args=(0, 5, DEADLINE))
    waiter.start()
    arena.set_state(0, 5)
    waiter.join(DEADLINE)
    assert not waiter.is_alive()


# ---- kills ----

IDLE_READER = """
reader = arena.reader(0, 0)
view = reader.read()[2]
arena.set_state(0, 1)
reader.read()
"""


def test_a_killed_reader_stops_the_writer_with_its_name_and_nobody_else() -> None:
    arena = Arena.create([(2, 2, 256)], 1)
    writer, other = arena.writer(0), arena.reader(0, 1)
    with peer(arena, IDLE_READER) as process:
        writer.write(0, b"", [bytes(LARGE)])
        wait_until_asleep(process, arena)
        process.kill()
        process.wait()
    for number in (1, 2):
        assert other.read(DEADLINE)[0] == number - 1
        writer.write(number, b"", [bytes(LARGE)], DEADLINE)
    assert other.read(DEADLINE)[0] == 2
    with pytest.raises(ChannelTimeout) as caught:
        writer.write(3, b"", timeout=0.01)
    assert caught.value.holders == (0,)
    successor = arena.reader(0, 0)
    assert [successor.read(DEADLINE)[0] for _ in range(2)] == [1, 2]
    writer.write(3, b"", timeout=0)


SLEEPING_WRITER = """
writer = arena.writer(0)
for number in range(2):
    writer.write(number, b"", [bytes([number]) * 100_000])
arena.set_state(0, 1)
writer.write(2, b"")
"""


def test_what_a_killed_writer_has_published_can_be_read() -> None:
    arena = Arena.create([(1, 2, 256)], 1)
    with peer(arena, SLEEPING_WRITER) as process:
        wait_until_asleep(process, arena)
        process.kill()
        process.wait()
    reader = arena.reader(0, 0)
    for number in range(2):
        kind, _, [buffer] = reader.read(DEADLINE)
        assert (kind, bytes(buffer)) == (number, bytes([number]) * 100_000)
    with pytest.raises(ChannelTimeout):
        reader.read(timeout=0.01)
    arena.writer(0).write(2, b"from the next writer", [bytes(100_000)])
    assert reader.read(DEADLINE)[1] == b"from the next writer"


ENDLESS_WRITER = """
writer = arena.writer(0)
arena.set_state(0, arguments[0])
while True:
    number = writer.published
    writer.write(number % 2**32, b"%d" % number, [bytes([number % 251]) * (number * 7919 % 200_000)])
"""


def test_writers_killed_at_any_moment_leave_an_unbroken_sequence() -> None:
    arena = Arena.create([(1, 2, 256)], 1)
    reader = arena.reader(0, 0)

    def read_one() -> None:
        expected = reader.consumed
        kind, blob, [buffer] = reader.read(timeout=0.2)
        assert (kind, blob) == (expected, b"%d" % expected)
        assert bytes(buffer) == bytes([expected % 251]) * (expected * 7919 % 200_000)

    for life in range(1, 6):
        with peer(arena, ENDLESS_WRITER, life) as process:
            assert arena.wait_state(0, life, DEADLINE)
            end = reader.consumed + 300 + life * 37
            killer = threading.Timer(0.02 * life, process.kill)
            killer.start()
            while reader.consumed < end or killer.is_alive():
                try:
                    read_one()
                except ChannelTimeout:
                    break
            killer.join()
            process.wait()
        while reader.ready():
            read_one()
    assert reader.consumed > 0


# ---- signals and threads ----

INTERRUPTED = """
import signal
seen = []
signal.signal(signal.SIGUSR1, lambda *_: (seen.append(1), arena.set_state(0, 2)))
waits = {
    "read": arena.reader(0, 0).read,
    "write": lambda: [arena.writer(0).write(0, b"") for _ in range(3)],
    "state": lambda: arena.wait_state(0, 99, -1),
}
try:
    wait = waits[arguments[0]]
    arena.set_state(0, 1)
    wait()
except KeyboardInterrupt:
    print("interrupted", seen)
"""


@pytest.mark.parametrize("wait", ["read", "write", "state"])
def test_signals_reach_python_while_the_core_waits(wait: str) -> None:
    arena = Arena.create([(1, 2, 256)], 1)
    with peer(arena, INTERRUPTED, wait) as process:
        wait_until_asleep(process, arena)
        process.send_signal(signal.SIGUSR1)  # its handler returns: the wait goes on
        wait_until_asleep(process, arena, state=2)
        process.send_signal(signal.SIGINT)
        assert finish(process) == "interrupted [1]\n"


def in_a_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


def test_other_threads_run_while_one_waits() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    reader = arena.reader(0, 0)
    thread, results = in_a_thread(lambda: reader.read(DEADLINE))
    assert thread.is_alive()
    arena.writer(0).write(3, b"from this thread")
    thread.join(DEADLINE)
    assert results == [(3, b"from this thread", [])]


def test_a_reader_serves_one_thread_at_a_time() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    reader = arena.reader(0, 0)
    thread, results = in_a_thread(lambda: reader.read(DEADLINE))

    def refused() -> bool:
        try:
            reader.ready()
        except RuntimeError as error:
            return "in use by another thread" in str(error)
        return False

    eventually(refused, "the other thread waits")
    arena.writer(0).write(3, b"")
    thread.join(DEADLINE)
    assert results == [(3, b"", [])]
    assert not reader.ready()


def test_a_thread_may_close_while_another_waits() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    reader = arena.reader(0, 0)
    caught: list[ChannelClosed] = []

    def read() -> None:
        try:
            reader.read()
        except ChannelClosed as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    arena.close(1, 2)
    thread.join(DEADLINE)
    assert [error.culprit for error in caught] == [2]


# ---- idle ----


def test_waiting_costs_next_to_nothing() -> None:
    """Under one per cent of a core while asleep, by the kernel's account of the peer's CPU time."""
    arena = Arena.create([(1, 2, 256)], 1)
    with peer(arena, BLOCKED_READER) as process:
        wait_until_asleep(process, arena)
        start, used = time.monotonic(), cpu_seconds(process.pid)
        eventually(lambda: time.monotonic() > start + 1.0, "a second passes")
        assert cpu_seconds(process.pid) - used < 0.01 * (time.monotonic() - start)
        arena.close(0, 0)
        finish(process)


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


# ---- handles ----


def test_a_handle_is_picklable_and_says_who() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    assert pickle.loads(pickle.dumps(arena.handle)) == arena.handle
    assert arena.handle[0] == os.getpid()
    again = Arena.attach(arena.handle)
    assert again.handle == arena.handle
    again.writer(0).write(1, b"through another mapping")
    assert arena.reader(0, 0).read(DEADLINE)[1] == b"through another mapping"


def test_after_its_release_a_handle_leads_nowhere_and_mappings_stay() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    handle = arena.handle
    early = Arena.attach(handle)
    arena.release_handle()
    arena.release_handle()
    with pytest.raises((OSError, ChannelCorrupt)):
        Arena.attach(handle)
    with pytest.raises(RuntimeError, match="released"):
        _ = arena.handle
    arena.writer(0).write(1, b"", [bytes(LARGE)])
    assert len(early.reader(0, 0).read(DEADLINE)[2][0]) == LARGE


def test_an_attached_arena_outlives_its_creator() -> None:
    result = run_alone(
        """
import os, sys
from cgc.runtime._core import Arena
arena = Arena.create([(1, 2, 256)], 0)
ready, go = os.pipe(), os.pipe()
if os.fork() == 0:
    other = Arena.attach(arena.handle)
    del arena
    os.write(ready[1], b"x")
    os.close(go[1])
    os.read(go[0], 1)                       # ends when the creator has ended
    writer, reader = other.writer(0), other.reader(0, 0)
    for number in range(5):
        writer.write(number, b"", [bytes(1 << 20)])
        reader.skip()
    print("works", flush=True)
    os._exit(0)
os.read(ready[0], 1)
os._exit(0)
"""
    )
    assert (result.stdout, result.stderr) == ("works\n", "")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda pid, fd, inode, cookie: (2**22 + 1, fd, inode, cookie), FileNotFoundError, "has it ended"),
        (lambda pid, fd, inode, cookie: (pid, 9999, inode, cookie), FileNotFoundError, "released the handle"),
        (lambda pid, fd, inode, cookie: (pid, fd, inode + 1, cookie), ChannelCorrupt, "is not the arena"),
        (lambda pid, fd, inode, cookie: (pid, 0, inode, cookie), ChannelCorrupt, "is not the arena"),
        (lambda pid, fd, inode, cookie: (pid, fd, inode, cookie ^ 1), ChannelCorrupt, "wrong cookie"),
    ],
    ids=["process", "descriptor", "inode", "other file", "cookie"],
)
def test_a_wrong_handle_is_refused(change: Callable[..., tuple[int, int, int, int]], error: type, message: str) -> None:
    arena = Arena.create([], 0)
    with pytest.raises(error, match=message):
        Arena.attach(change(*arena.handle))
