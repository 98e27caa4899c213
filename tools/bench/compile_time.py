"""
Measures how long it takes to compile a graph of 200 calls on two actors, and to get its first result.

    python tools/bench/compile_time.py [--quick] [--contender NAME]... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import ray

from tools.bench.cases import CASE_BY_NAME
from tools.bench.contenders import CONTENDERS, compile_graph, stop_actors
from tools.bench.measure import machine, start_ray

TIMES = 3


def main() -> None:
    """Compile a few times on fresh actors and print the medians."""
    compiled = [name for name in CONTENDERS if name != "classic"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"once instead of {TIMES} times")
    parser.add_argument("--contender", action="append", choices=compiled, help="only this one (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    start_ray()
    figures = {}
    for name in options.contender or compiled:
        runs = [_compile_and_run(name) for _ in range(1 if options.quick else TIMES)]
        compile_s, first_s = (statistics.median(column) for column in zip(*runs, strict=True))
        figures[name] = {"compile_s": compile_s, "first_result_s": first_s}
        print(f"{CONTENDERS[name]:20} compile {compile_s:7.3f} s   first result {first_s:7.3f} s later")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "calls_200": figures}, indent=2) + "\n")


def _compile_and_run(contender: str) -> tuple[float, float]:
    """Seconds to compile, and seconds from then to the first result."""
    case = CASE_BY_NAME["calls-200"]
    actors = case.start_actors()
    dag = case.dag(actors)
    start = time.perf_counter()
    graph = compile_graph(contender, dag)
    compiled = time.perf_counter()
    ray.get(graph.execute(case.payload()))
    end = time.perf_counter()
    graph.teardown()
    stop_actors(actors)
    return compiled - start, end - compiled


if __name__ == "__main__":
    main()
