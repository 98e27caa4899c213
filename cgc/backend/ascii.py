"""
From IR to a table for terminals: one column per participant, time from top to bottom.

        µs  @driver/execute  @a           @b
       0.0  write @c0
       2.1                   read @c0
       3.1                   fwd
    1003.1                   write @c1
    1005.2                                read @c1

The times are those that the cost model predicts for one execution; steps that start together share a row. `*` marks
the longest path.
"""

from __future__ import annotations

from cgc.errors import PassError
from cgc.ir import ModuleOp, graphs_of
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.critical import critical_path
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import Simulation, simulate


def to_ascii(module: ModuleOp, cost: CostModel | None = None) -> str:
    """
    The schedule of a module as text.

    Raises:
        PassError: The module is not scheduled yet.
    """
    parts = []
    for graph in graphs_of(module):
        if graph.level.data not in ("scheduled", "allocated"):
            raise PassError(f"@{graph.sym_name.data} has no schedule yet", "ascii", "", "run pair-comm before")
        parts.append(table(simulate(schedule_of(graph, cost or CostModel()))))
    return "\n".join(parts)


def table(simulation: Simulation) -> str:
    """A simulation of one execution as a table."""
    processes = simulation.schedule.processes
    critical = set(critical_path(simulation))
    rows: list[tuple[float, dict[int, str]]] = []
    steps = sorted(
        (start, index, number) for index, starts in enumerate(simulation.starts) for number, start in enumerate(starts)
    )
    for start, index, number in steps:
        label = processes[index].steps[number].label + ("*" if (index, number) in critical else "")
        if not rows or rows[-1][0] != start or index in rows[-1][1]:
            rows.append((start, {}))
        rows[-1][1][index] = label
    widths = [
        max([len(process.name), *(len(cells.get(index, "")) for _, cells in rows)])
        for index, process in enumerate(processes)
    ]
    head = f"{'µs':>10}  " + "  ".join(p.name.ljust(w) for p, w in zip(processes, widths, strict=True))
    lines = [head.rstrip()]
    for start, cells in rows:
        line = "  ".join(cells.get(index, "").ljust(width) for index, width in enumerate(widths))
        lines.append(f"{start:>10.1f}  {line}".rstrip())
    lines.append(f"{simulation.makespan:>10.1f}  end; * is the longest path")
    return "\n".join(lines) + "\n"
