"""
Latency of the native core alone, from Python: a message goes round through a chain of processes.

    python tools/stress/latency.py                       # echo (one peer), small message
    python tools/stress/latency.py --peers 3             # chain of three peers, four processes
    python tools/stress/latency.py --bytes 1048576       # one out-of-band buffer, read as a view
    python tools/stress/latency.py --spin-us 0           # without the yield phase
    python tools/stress/latency.py --idle 5              # CPU time of the waiting peers

Prints one line: percentiles and mean of a round, in microseconds. On a machine that others use too, p5 is what an
idle one would show at p50.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cgc.runtime._core import Arena, ChannelClosed, memcpy_threshold

SLOTS = 10
SLOT_BYTES = 4096


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        relay(*json.loads(sys.argv[2]))
        return
    options = parse_options()
    rings = [(1, SLOTS, SLOT_BYTES)] * (options.peers + 1)
    arena = Arena.create(rings, options.peers, spin_us=options.spin_us)
    if options.pin:
        os.sched_setaffinity(0, {0})
    command = [sys.executable, __file__, "--peer"]
    peers = [
        subprocess.Popen([*command, json.dumps([arena.handle, peer, options.pin, options.nice])])
        for peer in range(options.peers)
    ]
    for peer in range(options.peers):
        if not arena.wait_state(peer, 1, 30.0):
            raise SystemExit(f"peer {peer} did not start")
    try:
        report(options, measure(arena, options))
        if options.idle:
            report_idle([peer.pid for peer in peers], options.idle)
    finally:
        arena.close(1, 0)
        for process in peers:
            process.wait()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=0, help="size of the out-of-band buffer, 0 for none")
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--spin-us", type=int, default=-1)
    parser.add_argument("--reserve", action="store_true", help="send from Writer.reserve: no copy at all")
    parser.add_argument("--pin", action="store_true", help="process n runs on core n modulo 2")
    parser.add_argument("--nice", type=int, default=0, help="niceness of the peers; Ray starts workers with 15")
    parser.add_argument("--idle", type=float, default=0.0, metavar="SECONDS")
    return parser.parse_args()


def measure(arena: Arena, options: argparse.Namespace) -> list[int]:
    """Nanoseconds of each round."""
    writer, reader = arena.writer(0), arena.reader(options.peers, 0)
    blob = b"x" * 100
    payload = [bytes(options.bytes)] if options.bytes else []
    if options.reserve:
        payload = [writer.reserve(max(options.bytes, memcpy_threshold()))]
    times = []
    for _ in range(options.rounds + options.rounds // 10):
        start = time.perf_counter_ns()
        writer.write(1, blob, payload)
        reader.read()
        times.append(time.perf_counter_ns() - start)
    return times[options.rounds // 10 :]


def relay(handle: tuple[int, int, int, int], peer: int, pin: bool, nice: int) -> None:
    """Read from ring `peer`, answer with the same blob on the next ring; buffers are not sent back."""
    os.nice(nice)
    if pin:
        os.sched_setaffinity(0, {(peer + 1) % 2})
    arena = Arena.attach(tuple(handle))
    reader, writer = arena.reader(peer, 0), arena.writer(peer + 1)
    arena.set_state(peer, 1)
    try:
        while True:
            kind, blob, buffers = reader.read()
            del buffers  # so that the writer may use their memory again for the next message
            writer.write(kind, blob)
    except ChannelClosed:
        pass


def report(options: argparse.Namespace, times: list[int]) -> None:
    times.sort()
    p5, p50, p99 = (times[len(times) * percent // 100] / 1000 for percent in (5, 50, 99))
    mean = sum(times) / len(times) / 1000
    print(
        f"peers={options.peers} bytes={options.bytes} spin_us={options.spin_us} rounds={len(times)}: "
        f"p5 {p5:.2f} us, p50 {p50:.2f} us, p99 {p99:.2f} us, mean {mean:.2f} us"
    )


def report_idle(pids: list[int], seconds: float) -> None:
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    used = sum(cpu_seconds(pid) - earlier for pid, earlier in zip(pids, before, strict=True))
    print(f"idle: {len(pids)} peers used {used / seconds * 100:.3f} % of a core in {seconds} s")


def cpu_seconds(pid: int) -> float:
    nanoseconds = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return nanoseconds / 1e9


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
