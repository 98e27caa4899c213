"""Who may look into a graph's memory, and what becomes of memory that is not what it claims to be."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgc.runtime._core import Arena, ChannelCorrupt
from tests.runtime.core_peers import DEADLINE, ROOT

NOBODY = 65534

AS_ANOTHER_USER = """
import json, os, sys
from cgc.runtime._core import Arena
from cgc.runtime.inspection import live_graphs, read_graph
from pathlib import Path
handle = json.loads(sys.argv[1])
os.setgroups([])
os.setgid({user})
os.setuid({user})
path = f"/proc/{{handle[0]}}/fd/{{handle[1]}}"
attempts = {{
    "attach": lambda: Arena.attach(tuple(handle)),
    "open": lambda: os.open(path, os.O_RDONLY),
    "inspect": lambda: read_graph(Path(path)),
}}
found = {{"graphs": len(live_graphs())}}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "allowed"
    except OSError as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""


@pytest.fixture
def arena() -> Arena:
    arena = Arena.create([(1, 2, 256)], 1)
    arena.writer(0).write(1, b"secret", [bytes(100_000)])
    return arena


def test_memory_is_for_its_user_alone_and_has_no_name(arena: Arena) -> None:
    _, descriptor, _, _ = arena.handle
    status = os.fstat(descriptor)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    assert status.st_nlink == 0
    assert "cgc" not in " ".join(os.listdir("/dev/shm"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_another_user_can_neither_attach_nor_look(arena: Arena) -> None:
    command = [sys.executable, "-c", AS_ANOTHER_USER.format(user=NOBODY), json.dumps(arena.handle)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "graphs": 0,
        "attach": "PermissionError",
        "open": "PermissionError",
        "inspect": "PermissionError",
    }


def test_nobody_attaches_once_all_have(arena: Arena) -> None:
    handle = arena.handle
    arena.release_handle()
    with pytest.raises((OSError, ChannelCorrupt)):
        Arena.attach(handle)


def test_a_handle_cannot_be_guessed(arena: Arena) -> None:
    pid, descriptor, inode, cookie = arena.handle
    assert cookie != Arena.create([(1, 2, 256)], 1).handle[3]
    with pytest.raises(ChannelCorrupt, match="cookie"):
        Arena.attach((pid, descriptor, inode, cookie ^ 1))


@contextmanager
def memory(content: bytes, seals: int) -> Iterator[tuple[int, int]]:
    """An anonymous file of this process: descriptor and inode."""
    descriptor = os.memfd_create("imitation", os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor, os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def test_memory_that_could_be_truncated_is_refused(arena: Arena) -> None:
    _, descriptor, _, cookie = arena.handle
    whole = Path(f"/proc/self/fd/{descriptor}").read_bytes()
    with memory(whole, 0) as (imitation, inode), pytest.raises(ChannelCorrupt, match="could be truncated"):
        Arena.attach((os.getpid(), imitation, inode, cookie))


def test_truncated_memory_is_refused_at_any_length(arena: Arena) -> None:
    _, descriptor, _, cookie = arena.handle
    whole = Path(f"/proc/self/fd/{descriptor}").read_bytes()
    control = int.from_bytes(whole[32:40], "little")
    lengths = [*range(0, 2048, 61), *range(2048, control, 4093), control - 1]
    for length in lengths:
        with memory(whole[:length], fcntl.F_SEAL_SHRINK) as (imitation, inode), pytest.raises(ChannelCorrupt):
            Arena.attach((os.getpid(), imitation, inode, cookie))


def test_a_segment_beyond_the_end_of_the_file_is_refused(arena: Arena) -> None:
    _, descriptor, _, cookie = arena.handle
    whole = Path(f"/proc/self/fd/{descriptor}").read_bytes()
    control = int.from_bytes(whole[32:40], "little")
    with memory(whole[:control], fcntl.F_SEAL_SHRINK) as (imitation, inode):
        shortened = Arena.attach((os.getpid(), imitation, inode, cookie))
        with pytest.raises(ChannelCorrupt, match="not within"):
            shortened.reader(0, 0).read(timeout=0)
