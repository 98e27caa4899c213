"""Corrupted shared memory: an error of the documented kinds, never a crash."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

import pytest

from cgc.runtime._core import Arena, ChannelCorrupt
from tests.runtime.core_peers import run_alone

LINE = 64
# Offsets of an arena with one ring of one reader and two slots of 256 bytes, and no participants (layout.h).
FILE_END = 2 * LINE
RING = 5 * LINE
PUBLISHED = RING + LINE
CONSUMED = RING + 4 * LINE
SEGMENTS = RING + 5 * LINE
SLOTS = SEGMENTS + 20 * LINE
LARGE = bytes(100_000)

Words = mmap.mmap


@pytest.fixture
def arena() -> Arena:
    return Arena.create([(1, 2, 256)], 0)


@pytest.fixture
def words(arena: Arena) -> Iterator[Words]:
    """The arena's control region, to be changed behind the core's back."""
    pid, descriptor, _, _ = arena.handle
    with open(f"/proc/{pid}/fd/{descriptor}", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        yield mapping


def put(words: Words, offset: int, value: int, format: str = "<Q") -> None:
    words[offset : offset + struct.calcsize(format)] = struct.pack(format, value)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, 1, "magic"),
        (8, 99, "layout version 99"),
        (12, 2**31, "rings"),
        (12, 2, "directory of rings"),
        (16, 3, "directory of rings"),
        (24, 1, "cookie"),
        (32, 2**40, "shorter"),
        (4 * LINE, 3, "directory of rings"),
        (4 * LINE + 8, 2**50, "a slot has at most"),
        (4 * LINE + 16, 0, "1 to 383 readers"),
        (4 * LINE + 20, 5, "shorter|directory"),
        (4 * LINE + 24, 5, "directory of rings"),
    ],
)
def test_a_wrong_header_is_refused_at_attach(arena: Arena, words: Words, offset: int, value: int, message: str) -> None:
    put(words, offset, value, "<I" if value < 2**32 and offset not in (0, 24, 32, 4 * LINE) else "<Q")
    with pytest.raises(ChannelCorrupt, match=message):
        Arena.attach(arena.handle)


@pytest.mark.parametrize("published", [2**64 - 1, 5, 2**63])
def test_a_reader_refuses_an_impossible_count(arena: Arena, words: Words, published: int) -> None:
    reader = arena.reader(0, 0)
    put(words, PUBLISHED, published)
    with pytest.raises(ChannelCorrupt, match="published messages"):
        reader.read(timeout=0)


@pytest.mark.parametrize("consumed", [2**64 - 1, 3])
def test_a_writer_refuses_an_impossible_count(arena: Arena, words: Words, consumed: int) -> None:
    writer = arena.writer(0)
    for _ in range(2):
        writer.write(1, b"")
    put(words, CONSUMED, consumed)
    with pytest.raises(ChannelCorrupt, match="consumed"):
        writer.write(1, b"", timeout=0)
    with pytest.raises(ChannelCorrupt, match="consumed"):
        writer.lag()


@pytest.mark.parametrize(
    ("offset", "value", "format", "message"),
    [
        (SLOTS, 7, "<Q", "another message"),
        (SLOTS + 12, 2, "<I", "table of buffers"),
        (SLOTS + 16, 20, "<I", "segment that cannot exist"),
        (SLOTS + 16, 5, "<I", "not handed to this reader"),
        (SLOTS + 24, 2**64 - 8, "<Q", "out of its slot"),
        (SLOTS + 32, 257, "<Q", "out of its slot"),
        (SLOTS + 48, 256, "<Q", "out of its slot"),
        (SLOTS + LINE + 8, 2**32 - 1, "<I", "out of its slot"),
        (SLOTS + LINE + 16, 131_072, "<Q", "out of its segment"),
        (SLOTS + LINE + 24, 2**63, "<Q", "out of its segment"),
        (SEGMENTS, 2**40, "<Q", "not within"),
        (SEGMENTS, 1, "<Q", "not within"),
        (SEGMENTS, 0, "<Q", "not within"),
        (SEGMENTS + 8, 2**63, "<Q", "not within"),
        (SEGMENTS + 8, 0, "<Q", "not within"),
        (SEGMENTS + 16, 0, "<Q", "not handed to this reader"),
    ],
)
def test_a_wrong_descriptor_is_refused(
    arena: Arena, words: Words, offset: int, value: int, format: str, message: str
) -> None:
    arena.writer(0).write(1, b"12345678", [LARGE])
    reader = arena.reader(0, 0)
    put(words, offset, value, format)
    for take in (reader.read, reader.skip):
        with pytest.raises(ChannelCorrupt, match=message):
            take(timeout=0)
    assert reader.consumed == 0


def test_a_wrong_end_of_file_is_refused(arena: Arena, words: Words) -> None:
    put(words, FILE_END, 64)
    with pytest.raises(ChannelCorrupt, match="end of file"):
        arena.writer(0).write(1, LARGE)


def test_a_successor_refuses_wrong_segments(arena: Arena, words: Words) -> None:
    arena.writer(0).write(1, LARGE)
    put(words, SEGMENTS + 8, 2**62)
    with pytest.raises(ChannelCorrupt, match="not within"):
        arena.writer(0)


FUZZ = """
import gc, mmap, random
from cgc.runtime import _core
from cgc.runtime._core import Arena

EXPECTED = (_core.ChannelClosed, _core.ChannelTimeout, _core.ChannelCorrupt, _core.ChannelMemory, RuntimeError)

def attempt(random, arena, ends, kept):
    action = random.randrange(6)
    try:
        if action == 0:
            ends["writer"] = ends.get("writer") or arena.writer(0)
            ends["writer"].write(1, bytes(random.randrange(400)), [bytes(random.randrange(200_000))], timeout=0)
        elif action == 1:
            ends["writer"] = ends.get("writer") or arena.writer(0)
            kept.append(ends["writer"].reserve(1000, timeout=0))
        elif action == 2:
            ends["reader"] = ends.get("reader") or arena.reader(0, 0)
            kept += [view for view in ends["reader"].read(timeout=0)[2]]
        elif action == 3 and kept:
            view = kept.pop(random.randrange(len(kept)))
            bytes(view), _core.map_private(view)
        elif action == 4:
            ends.clear()
        else:
            Arena.attach(arena.handle).nbytes, arena.closed, arena.state(0)
    except EXPECTED:
        pass

def fuzz(seed):
    chance = random.Random(seed)
    arena = Arena.create([(1, 2, 256)], 1, max_bytes=1 << 24)
    pid, descriptor, *_ = arena.handle
    with open(f"/proc/{pid}/fd/{descriptor}", "r+b") as file, mmap.mmap(file.fileno(), 4096) as words:
        ends, kept = {}, []
        for _ in range(40):
            for _ in range(3):
                attempt(chance, arena, ends, kept)
            place = chance.randrange(8 * 64) * 8 % 4088
            if chance.random() < 0.5:
                words[place + chance.randrange(8)] = chance.randrange(256)
            else:
                words[place : place + 8] = chance.choice([0, 1, 2**64 - 1, 2**63, 65536, 2**32]).to_bytes(8, "little")
            if words[64:72] != bytes(8) and chance.random() < 0.9:
                words[64:72] = bytes(8)        # rarely closed: that ends all paths but one

for seed in range({start}, {start} + 150):
    print(seed, flush=True)
    fuzz(seed)
    gc.collect()
"""


@pytest.mark.parametrize("start", [0, 1000, 2000])
def test_random_corruption_never_crashes(start: int) -> None:
    result = run_alone(FUZZ.replace("{start}", str(start)))
    last = result.stdout.split()[-1:]
    assert result.returncode == 0, f"seed {last}: exit status {result.returncode}: {result.stderr}"


def test_the_offsets_of_this_file_are_those_of_the_layout(arena: Arena, words: Words) -> None:

    arena.writer(0).write(0x11223344, b"inline")
    assert words[SLOTS : SLOTS + 12] == struct.pack("<QI", 1, 0x11223344)
    assert words[SLOTS + LINE : SLOTS + LINE + 6] == b"inline"
    assert words[PUBLISHED] == 1
