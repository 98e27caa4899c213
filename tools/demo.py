"""
Runs four small graphs on classic Ray, Ray's Compiled Graph and cgc, prints one table, and shows what cgc compiled.

    python tools/demo.py        (or: make demo)

For each graph, `demo-out/<graph>/` holds the IR after every pass (`{nn}_{pass}.mlir`), each participant's operations
(`programs.txt`), and the schedule for Graphviz (`schedule.dot`, and `schedule.svg` where `dot` is installed).
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import ray
from rich.console import Console

import cgc
from cgc.backend.drawing import draw
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
    folders = ",".join(case.name for case in cases)
    files = sorted(path.name for path in (OUTPUT / cases[0].name).iterdir())
    console.print(f"\nWhat cgc compiled is in {OUTPUT}/{{{folders}}}/:", highlight=False)
    listing = textwrap.fill(", ".join(files), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    console.print(listing, style="dim")


def _show(case: Case, folder: Path) -> None:
    """Compile the case once more and write everything that there is to see."""
    folder.mkdir(parents=True)
    actors = case.start_actors()
    graph = cgc.compile(case.dag(actors), name=case.name, enable_asyncio=case.asyncio, dump_dir=str(folder))
    with graph:
        programs = "\n\n".join(str(program) for program in graph.programs.values())
        (folder / "programs.txt").write_text(programs + "\n")
        (folder / "schedule.dot").write_text(graph.schedule())
        if shutil.which("dot"):
            (folder / "schedule.svg").write_bytes(draw(graph.schedule(), "svg"))
    stop_actors(actors)


if __name__ == "__main__":
    main()
    ray.shutdown()
