"""
Looking at the running graphs of this machine from outside, for `cgc-dump --status`: read-only, same user, no cluster.

Nobody in the graph is asked, since whoever hangs would not answer: everything is in the graph's shared memory. Progress
words say where each participant is, and what the operations are called lies in a ring of its own, the last one, as one
message that is written when the graph starts and that nobody ever takes. The memory is found through the open
descriptors of this user's processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgc.runtime.process_watch import process_state
from cgc.runtime.program import Program
from cgc.runtime.status import ParticipantStatus, describe_operation, status_of

LABEL = "memfd:cgc"
"""How the kernel shows the name of our anonymous shared memory."""

# From native/layout.h, which is the one to change; the version guards against reading another one.
_LINE = 64
_MAGIC = 0x616E657261636763
_LAYOUT_VERSION = 2
_GEOMETRY = struct.Struct("<QIII")
_CLOSED = _LINE
_RINGS = 4 * _LINE
_RING = struct.Struct("<QQIII")
_PARTICIPANT_BYTES = 3 * _LINE
_RING_HEADER_BYTES = 4 * _LINE
_PUBLISHED = _LINE
_SLOT = struct.Struct("<QIIIIQQ")
_IN_SLOT = 0xFFFFFFFF
_MOST = 1 << 28
"""Bytes of a description, and number of rings or participants, that are believed."""


@dataclass(frozen=True, slots=True)
class LiveGraph:
    """
    A graph of a process of this user.

    Attributes:
        graph: Its id.
        driver: Process id of its driver.
        statuses: What its actors are doing.
        states: For each the kernel's letter for its process, `T` for a stopped one; empty if it has ended.
    """

    graph: str
    driver: int
    statuses: tuple[ParticipantStatus, ...]
    states: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"graph {self.graph}, driver pid {self.driver} ({_explain_state(process_state(self.driver))})"]
        for status, state in zip(self.statuses, self.states, strict=True):
            note = "" if state in ("R", "S") else f" [its process {_explain_state(state)}]"
            lines.append(f"  {status}{note}")
        return "\n".join(lines)


def description(graph: str, driver: int, members: Sequence[tuple[str, int, Program]]) -> bytes:
    """What a graph's last ring says of it: members are (name in messages, pid, program) by participant number."""
    content = {
        "graph": graph,
        "driver": driver,
        "members": [
            {
                "name": name,
                "pid": pid,
                "operations": [describe_operation(operation, program) for operation in program.operations],
            }
            for name, pid, program in members
        ],
    }
    return zlib.compress(json.dumps(content).encode(), 1)


def live_graphs() -> list[LiveGraph]:
    """The graphs that run in processes of this user, by driver and id."""
    found = []
    for path in _arenas():
        with contextlib.suppress(OSError, ValueError):  # it is starting or ending just now
            graph = read_graph(path)
            if graph is not None:
                found.append(graph)
    return sorted(found, key=lambda graph: (graph.driver, graph.graph))


def read_graph(path: Path) -> LiveGraph | None:
    """
    The graph whose memory can be opened at `path`; None if it has ended.

    Raises OSError, and ValueError for what is not the memory of a graph of this version of cgc.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read(descriptor)
    except (ArithmeticError, AttributeError, LookupError, TypeError, struct.error, zlib.error) as error:
        raise ValueError(f"{path} is not the memory of a graph: {error}") from error
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> LiveGraph | None:
    magic, version, rings, participants = _GEOMETRY.unpack(os.pread(descriptor, _GEOMETRY.size, 0))
    if magic != _MAGIC or version != _LAYOUT_VERSION or not 0 < rings < _MOST or participants > _MOST:
        raise ValueError("it is not shared memory of this version of cgc")
    if _word(descriptor, _CLOSED):
        return None
    content = json.loads(zlib.decompress(_message(descriptor, _RINGS + (rings - 1) * _LINE)))
    members = content["members"]
    now = time.monotonic_ns()
    lines = _RINGS + rings * _LINE + _PARTICIPANT_BYTES  # participant 0 is the driver
    statuses = [
        _status(os.pread(descriptor, _LINE, lines + number * _PARTICIPANT_BYTES), member, now)
        for number, member in enumerate(members)
    ]
    states = tuple(process_state(member["pid"]) for member in members)
    return LiveGraph(content["graph"], content["driver"], tuple(statuses), states)


def _arenas() -> Iterator[Path]:
    """One path to each arena that a process of this user has open."""
    seen = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if process.stat().st_uid != os.geteuid():
                continue
            for descriptor in (process / "fd").iterdir():
                if LABEL in os.readlink(descriptor) and (inode := descriptor.stat().st_ino) not in seen:
                    seen.add(inode)
                    yield descriptor


def _status(line: bytes, member: Mapping[str, Any], now: int) -> ParticipantStatus:
    operations = member["operations"]
    return status_of(member["name"], memoryview(line).cast("Q"), now, lambda number: tuple(operations[number]))


def _message(descriptor: int, entry: int) -> bytes:
    """The first message of the ring with this entry."""
    ring, _, readers, _, segments = _RING.unpack(os.pread(descriptor, _RING.size, entry))
    if not _word(descriptor, ring + _PUBLISHED):
        raise ValueError("the graph is just being started")
    table = ring + _RING_HEADER_BYTES + readers * _LINE
    slot = table + segments * _LINE
    _, _, _, segment, _, offset, length = _SLOT.unpack(os.pread(descriptor, _SLOT.size, slot))
    if length > _MOST:
        raise ValueError(f"a description of {length} bytes")
    start = slot + _LINE if segment == _IN_SLOT else _word(descriptor, table + segment * _LINE)
    return os.pread(descriptor, length, start + offset)


def _word(descriptor: int, offset: int) -> int:
    return int.from_bytes(os.pread(descriptor, 8, offset), "little")


def _explain_state(state: str) -> str:
    return {"": "has ended", "Z": "has ended", "X": "has ended", "T": "is stopped", "t": "is traced"}.get(
        state, "waits in the kernel" if state == "D" else "runs"
    )
