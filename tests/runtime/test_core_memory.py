"""What the native core does when shared memory is short: one clear error, and everything that exists stays usable."""

from __future__ import annotations

import fcntl
import os

import pytest

from cgc.runtime._core import Arena, ChannelMemory
from tests.runtime.core_peers import run_alone

MIB = 1 << 20


def test_an_arena_beyond_its_limit_is_refused() -> None:
    with pytest.raises(ChannelMemory, match=r"rings need 8.\d MiB .* its limit is 4.0 MiB"):
        Arena.create([(1, 8, MIB)], 0, max_bytes=4 * MIB)


def test_an_arena_beyond_the_machine_is_refused_without_waking_the_killer() -> None:
    with pytest.raises(ChannelMemory, match=r"cannot reserve 64.0 TiB .* leaves \d"):
        Arena.create([(1, 1, 1 << 40)] * 64, 0)


def test_a_message_beyond_the_limit_is_an_error_and_the_ring_stays_usable() -> None:
    arena = Arena.create([(1, 2, 256)], 0, max_bytes=4 * MIB)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    for use in (lambda: writer.write(1, b"", [bytes(5 * MIB)]), lambda: writer.reserve(5 * MIB)):
        with pytest.raises(ChannelMemory, match=r"5.0 MiB .* their limit is 4.0 MiB"):
            use()
    assert writer.published == 0
    writer.write(1, b"", [bytes(3 * MIB)])
    writer.write(2, b"small")
    assert [reader.read()[0] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("nbytes", [1 << 50, 1 << 62, (1 << 63) - 1, (1 << 64) - 1])
def test_absurd_sizes_are_an_error(nbytes: int) -> None:
    writer = Arena.create([(1, 2, 256)], 0).writer(0)
    with pytest.raises(ChannelMemory):
        writer.reserve(nbytes)
    assert len(writer.reserve(MIB)) == MIB


def test_one_ring_cannot_take_the_memory_that_another_has() -> None:
    arena = Arena.create([(1, 2, 256), (1, 2, 256)], 0, max_bytes=4 * MIB)
    first, second = arena.writer(0), arena.writer(1)
    first.write(1, b"", [bytes(2 * MIB)])
    with pytest.raises(ChannelMemory, match="limit"):
        second.write(1, b"", [bytes(3 * MIB)])
    second.write(1, b"", [bytes(MIB)])
    assert arena.nbytes <= 4 * MIB


def test_within_a_limit_a_ring_gives_back_what_became_too_small() -> None:
    arena = Arena.create([(1, 4, 256)], 0, max_bytes=6 * MIB)
    writer, reader = arena.writer(0), arena.reader(0, 0)
    for size in (MIB, MIB, MIB, 2 * MIB, 5 * MIB, MIB // 2):
        for _ in range(3):
            writer.write(1, b"", [bytes(size)], timeout=0)
            reader.skip()
    assert arena.nbytes <= 6 * MIB


FILE_SIZE_LIMIT = """
import resource, signal
from cgc.runtime._core import Arena, ChannelMemory
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
arena = Arena.create([(1, 2, 256)], 0)
writer, reader = arena.writer(0), arena.reader(0, 0)
for _ in range(50):
    try:
        writer.write(1, b"", [bytes(8 << 20)])
    except ChannelMemory as error:
        assert "limit on file sizes (ulimit -f), 4.0 MiB" in str(error), error
    else:
        raise SystemExit("written beyond the limit")
before = arena.nbytes
for number in range(20):
    writer.write(number, b"", [bytes(2 << 20)])
    assert len(reader.read()[2][0]) == 2 << 20
try:
    Arena.create([(1, 8, 1 << 20)], 0)
except ChannelMemory as error:
    print(error)
"""


def test_the_limit_on_file_sizes_is_an_error_and_no_signal() -> None:
    result = run_alone(FILE_SIZE_LIMIT)
    assert result.returncode == 0, result.stderr
    assert "cannot reserve 8.1 MiB" in result.stdout


ADDRESS_SPACE_LIMIT = """
import resource
from cgc.runtime._core import Arena, ChannelMemory, map_private
arena = Arena.create([(1, 2, 256)], 0)
writer, reader = arena.writer(0), arena.reader(0, 0)
data = bytes(64 << 20)
writer.write(1, b"", [bytes(1 << 20)])
view = reader.read()[2][0]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
try:
    writer.write(2, b"", [data])
except ChannelMemory as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
before = arena.nbytes
writer.write(3, b"", [data])
assert reader.read()[0] == 3
assert arena.nbytes > before
"""


def test_the_limit_on_address_space_is_an_error() -> None:
    result = run_alone(ADDRESS_SPACE_LIMIT)
    assert result.returncode == 0, result.stderr
    assert "cannot map 64.0 MiB" in result.stdout


def test_no_peer_can_truncate_an_arena_under_the_others() -> None:
    arena = Arena.create([(1, 2, 256)], 0)
    _, descriptor, _, _ = arena.handle
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_all_memory_goes_with_the_last_user() -> None:
    result = run_alone(
        """
import gc, os
from cgc.runtime._core import Arena
def ours():
    maps = [line for line in open("/proc/self/maps") if "cgc-arena" in line]
    paths = [f"/proc/self/fd/{descriptor}" for descriptor in os.listdir("/proc/self/fd")]
    links = [os.readlink(path) for path in paths if os.path.lexists(path)]
    return maps + [link for link in links if "cgc-arena" in link]
arena = Arena.create([(1, 2, 256)], 1)
writer, reader = arena.writer(0), arena.reader(0, 0)
writer.write(1, b"", [bytes(1 << 20)])
view, line = reader.read()[2][0], arena.progress(0)
assert len(ours()) == 4, ours()      # control region, segment, two descriptors
del writer, reader, arena, line
assert ours()
del view
gc.collect()
print(ours())
"""
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
