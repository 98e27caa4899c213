"""
Runs four small graphs on classic Ray, Ray's Compiled Graph and cgc, prints one table, and shows what cgc compiled.

    python tools/demo.py        (or: make demo)

For each graph, `demo-out/<graph>/` holds the IR after every pass (`{nn}_{pass}.mlir`), each participant's operations
(`programs.txt`), and the schedule for Graphviz (`schedule.dot`, and `schedule.svg` where `dot` is installed).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import ray
from rich.console import Console

import cgc
from tools.bench.cases import CASE_BY_NAME, Case
from tools.bench.contenders import CONTENDERS, stop_actors
from tools.bench.measure import QUICK, measure, start_ray, table

GRAPHS = ("echo", "chain", "fan-out", "asyncio")
OUTPUT = Path("demo-out")


def main() -> None:
    """Measure, print, and leave the compiled graphs in `demo-out/`."""
    console = Console()
    start_ray()
    cases = [CASE_BY_NAME[name] for name in GRAPHS]
    results = []
    for case in cases:
        print(f"measuring {case.title}", file=sys.stderr)
        results.append(measure(case, CONTENDERS, QUICK))
    console.print(table(results))

    shutil.rmtree(OUTPUT, ignore_errors=True)
    for case in cases:
        _show(case, OUTPUT / case.name)
    console.print(f"The IR after every pass, the programs and the schedules are in [bold]{OUTPUT}/[/bold]:")
    for path in sorted(OUTPUT.iterdir()):
        console.print(f"  {path}/: {', '.join(sorted(file.name for file in path.iterdir()))}", style="dim")


def _show(case: Case, folder: Path) -> None:
    """Compile the case once more and write everything that there is to see."""
    folder.mkdir(parents=True)
    actors = case.start_actors()
    graph = cgc.compile(case.dag(actors), name=case.name, enable_asyncio=case.asyncio, dump_dir=str(folder))
    with graph:
        programs = "\n\n".join(str(program) for program in graph.programs.values())
        (folder / "programs.txt").write_text(programs + "\n")
        drawn = str(folder / "schedule") if shutil.which("dot") else None
        (folder / "schedule.dot").write_text(graph.visualize(drawn))
    stop_actors(actors)


if __name__ == "__main__":
    main()
    ray.shutdown()
