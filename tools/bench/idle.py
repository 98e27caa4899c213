"""
Measures what an idle graph costs: CPU time of the driver and of three actors while nothing is executed.

Each contender's graph is executed once and then left alone. `classic` has actors and no graph: it shows what Ray's own
background threads cost.

    python tools/bench/idle.py [--quick] [--contender NAME]... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import ray

from tools.bench.cases import CASE_BY_NAME
from tools.bench.contenders import CONTENDERS, compile_graph, pids, stop_actors
from tools.bench.measure import machine, start_ray

SECONDS = 10.0
QUICK_SECONDS = 3.0
SETTLE_SECONDS = 1.0


def main() -> None:
    """Measure one contender after the other and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} instead of {SECONDS:.0f} seconds")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="only this one (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    start_ray()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    figures = {name: _idle_use(name, seconds) for name in options.contender or CONTENDERS}
    without = figures.get("classic")
    for name, use in figures.items():
        line = f"{CONTENDERS[name]:20} driver {use['driver']:6.2f} %   three actors {use['actors']:6.2f} % of a core"
        if without and name != "classic":
            line += f"   of which the graph {sum(use.values()) - sum(without.values()):6.2f} %"
        print(line)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "percent_of_a_core": figures}, indent=2) + "\n")


def _idle_use(contender: str, seconds: float) -> dict[str, float]:
    """Percent of one core that driver and actors use, over `seconds`."""
    case = CASE_BY_NAME["chain"]
    actors = case.start_actors()
    driver = psutil.Process(os.getpid())
    processes = [psutil.Process(pid) for pid in pids(actors)]
    graph: Any = None
    if contender == "classic":
        ray.get(case.remote(actors, "hello"))
    else:
        graph = compile_graph(contender, case.dag(actors))
        ray.get(graph.execute("hello"))
    time.sleep(SETTLE_SECONDS)

    before = _cpu_seconds(driver), sum(map(_cpu_seconds, processes))
    start = time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - start
    after = _cpu_seconds(driver), sum(map(_cpu_seconds, processes))

    if graph is not None:
        graph.teardown()
    stop_actors(actors)
    return {part: 100 * (b - a) / elapsed for part, a, b in zip(("driver", "actors"), before, after, strict=True)}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
