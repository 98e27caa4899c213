"""
Compares cgc's echo with the queue that inference engines write themselves: a spinning shared-memory ring of pickles.

The queue is in the manner of vLLM's `MessageQueue`: slots in `multiprocessing.shared_memory`, one flag a slot, pickle
on both sides, and waiting that polls the flag between `sched_yield` calls. It spins for ever, so that its idle cost is
a whole core per waiting process; cgc sleeps. The echo server is a bare process, without an actor or error handling.

    python tools/bench/shm_queue.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import threading
from dataclasses import asdict
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from tools.bench.cases import CASE_BY_NAME
from tools.bench.contenders import Blocking, start
from tools.bench.measure import QUICK, THOROUGH, interleave, machine, start_ray

SLOTS = 10
SLOT_BYTES = 1 << 20
_EMPTY, _FULL = 0, 1
_LENGTH_BYTES = 8
_fence_lock = threading.Lock()


class RingQueue:
    """One writer, one reader. Layout: one flag byte a slot, then the slots, each a length and a pickle."""

    def __init__(self, name: str | None = None) -> None:
        """Create the queue, or attach to the one called `name`."""
        size = SLOTS * (1 + SLOT_BYTES)
        self.memory = SharedMemory(name, create=name is None, size=0 if name else size)
        assert self.memory.buf is not None, "it was opened just now"
        self.bytes = self.memory.buf
        self.position = 0

    def put(self, value: Any) -> None:
        """Pickle `value` into the next slot once that is empty."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        start = self._wait_for(_EMPTY)
        self.bytes[start : start + _LENGTH_BYTES] = len(data).to_bytes(_LENGTH_BYTES, "little")
        self.bytes[start + _LENGTH_BYTES : start + _LENGTH_BYTES + len(data)] = data
        self._hand_over(_FULL)

    def get(self) -> Any:
        """Take the next value."""
        start = self._wait_for(_FULL)
        length = int.from_bytes(self.bytes[start : start + _LENGTH_BYTES], "little")
        value = pickle.loads(self.bytes[start + _LENGTH_BYTES : start + _LENGTH_BYTES + length])
        self._hand_over(_EMPTY)
        return value

    def _wait_for(self, flag: int) -> int:
        """Spin until the current slot has `flag`, and return where its data begins."""
        flags, position = self.bytes, self.position
        _fence()
        while flags[position] != flag:
            os.sched_yield()
            _fence()
        return SLOTS + position * SLOT_BYTES

    def _hand_over(self, flag: int) -> None:
        _fence()
        self.bytes[self.position] = flag
        _fence()
        self.position = (self.position + 1) % SLOTS


def main() -> None:
    """Measure both echoes in interleaved rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    start_ray()
    contenders = {"cgc": start("cgc", CASE_BY_NAME["echo"]), "queue": _start_queue()}
    timings = interleave(contenders, QUICK if options.quick else THOROUGH)
    for contender in contenders.values():
        contender.close()
    for name, timing in timings.items():
        print(f"{name:6} p50 {timing.p50_us:7.1f} µs   p99 {timing.p99_us:7.1f} µs   ({timing.samples} samples)")
    print(f"the queue takes {timings['queue'].p50_us / timings['cgc'].p50_us:.2f} times as long as cgc")
    if options.json:
        figures = {"machine": machine(), **{name: asdict(timing) for name, timing in timings.items()}}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _start_queue() -> Blocking:
    there, back = RingQueue(), RingQueue()
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(there.memory.name, back.memory.name), daemon=True
    )
    server.start()

    def echo() -> Any:
        there.put("hello")
        return back.get()

    def release() -> None:
        there.put(None)
        server.join()
        for queue in (there, back):
            queue.memory.close()
            queue.memory.unlink()

    return Blocking(echo, release, [server.pid or 0])


def _serve(there_name: str, back_name: str) -> None:
    """The other process: echo until None comes."""
    there, back = RingQueue(there_name), RingQueue(back_name)
    while (value := there.get()) is not None:
        back.put(value)


def _fence() -> None:
    """A memory barrier, had from taking a lock, as Python has no other."""
    with _fence_lock:
        pass


if __name__ == "__main__":
    main()
