"""
Measures how the compiler scales: time and memory of pipelines of more and more operations, without a cluster.

    python tools/bench/compile_scaling.py [--verify] [--per-pass] [SHAPE ...]

A shape is ACTORSxBATCHES, a pipeline over shared memory in which every micro-batch goes through all actors. Each is
compiled in a process of its own, so that memory is that of one graph. Times are processor time, since the machine may
be busy. Ends with 1 if the passes took more than 300 µs an operation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

SHAPES = ("16x16", "64x39", "256x97", "1024x64")
"""About 1,000, 10,000, 100,000 and 260,000 operations."""

LIMIT_US = 300.0

HEAD = ["P × M", "operations", "import s", "passes s", "µs an operation", "plan s", "peak memory"]


def main() -> int:
    """Print the table as Markdown; 1 if an operation took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="SHAPE", help=f"default: {' '.join(SHAPES)}")
    parser.add_argument("--verify", action="store_true", help="verify the IR after every pass")
    parser.add_argument("--per-pass", action="store_true", help="print what each pass took, too")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.shapes[0], verify=options.verify)))
        return 0
    print("| " + " | ".join(HEAD) + " |")
    print("|---" * len(HEAD) + "|", flush=True)
    slowest = 0.0
    for shape in options.shapes:
        command = [sys.executable, __file__, "--one", shape, *(["--verify"] if options.verify else [])]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        each_us = found["passes_s"] * 1e6 / found["operations"]
        slowest = max(slowest, each_us)
        cells = [shape.replace("x", " × "), f"{found['operations']:,}", f"{found['import_s']:.2f}"]
        cells += [f"{found['passes_s']:.2f}", f"{each_us:.0f}", f"{found['plan_s']:.2f}"]
        cells += [f"{found['peak_mib']:,.0f} MiB"]
        print("| " + " | ".join(cells) + " |", flush=True)
        if options.per_pass:
            print(found["timing"], file=sys.stderr)
    return 1 if slowest > LIMIT_US else 0


def measure(shape: str, *, verify: bool) -> dict[str, Any]:
    """Compile one pipeline in this process, and predict what it costs."""
    from cgc.compilation import DEFAULT_PIPELINE
    from cgc.ir import graphs_of
    from cgc.ir.importer import import_graph
    from cgc.passes.analysis.cost import CostModel
    from cgc.passes.analysis.plan import plan_of
    from cgc.passes.manager import PassManager
    from cgc.passes.registry import passes_of

    actors, _, batches = shape.partition("x")
    dag = pipeline(int(actors), int(batches))
    clock = [time.process_time()]
    unit = import_graph(dag, max_inflight=10)
    clock.append(time.process_time())
    result = PassManager(passes_of(DEFAULT_PIPELINE), verify_each=verify, keep_initial=False).run(unit)
    clock.append(time.process_time())
    plan_of(next(graphs_of(unit.module)), CostModel())
    clock.append(time.process_time())
    import_s, passes_s, plan_s = (after - before for before, after in pairwise(clock))
    return {
        "operations": result.records[-1].operations,
        "import_s": import_s,
        "passes_s": passes_s,
        "plan_s": plan_s,
        "peak_mib": _peak_mib(),
        "timing": result.timing_table(),
    }


def pipeline(actors: int, batches: int) -> Any:
    """Every micro-batch, a part of the input, goes through all actors."""
    from ray.dag import InputNode, MultiOutputNode

    from cgc import abstract_actor

    stages = [abstract_actor("Stage", f"a{number}") for number in range(actors)]
    with InputNode() as inp:
        values = []
        for batch in range(batches):
            value: Any = inp[batch]
            for stage in stages:
                value = stage.forward.bind(value)
            values.append(value)
        return MultiOutputNode(values)


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    sys.exit(main())
