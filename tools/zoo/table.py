"""
The table of schedules: each graph of the zoo with its bound, Ray's order, and ours.

    python tools/zoo/table.py

Times are predicted milliseconds of one execution under `profile.json`. The first bound is max(longest path, busiest
actor). The second cannot be beaten by a schedule that keeps the order of binding on each actor, as all do (users rely
on the state of their actors), and moves one message at a time in each direction of an actor; `bounds.py` says why.
Ray's columns are the schedules of the installed Ray without and with its overlap: `refused` where it finds none, and
`shm` where it does not send values as they are to be sent. torch's column is the schedule of that name of
`torch.distributed.pipelining`. Ours are messages one at a time, with groups, and with streams.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from graphs import ZOO
from ray_order import RefusedError, ignores_hints, ray_makespan, schedule_in_order
from torch_order import torch_order

from cgc.ir import GraphOp, graphs_of
from cgc.ir.importer import import_graph
from cgc.passes.analysis.bounds import lower_bound
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.events import Task
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.order import tails
from cgc.passes.analysis.problem import Problem, problem_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PROFILE = Path(__file__).with_name("profile.json")
FRONT = f"verify-graph,infer-types,place-devices,pair-comm{{cost-model={PROFILE}}}"
GROUPS = f"group-comm{{cost-model={PROFILE}}}"
STREAMS = f"overlap-comm{{streams cost-model={PROFILE}}}"
HEAD = ["graph", "calls", "bound", "bound in bind order", "Ray", "Ray overlap", "torch"]
HEAD += ["cgc", "cgc groups", "cgc streams", "over the bound"]


def main() -> None:
    """Print the table as Markdown."""
    print("| " + " | ".join(HEAD) + " |")
    print("|---" * len(HEAD) + "|")
    for name, build in ZOO.items():
        print("| " + " | ".join(row(name, build)) + " |")


def row(name: str, build: Callable[[], Any]) -> list[str]:
    """One line of the table."""
    found = measure(name, build)
    over = found["cgc streams"] / found["bound in bind order"] - 1
    missing = "shm" if ignores_hints(build()) else "refused"
    cells = [name, str(int(found["calls"]))]
    for column in HEAD[2:-1]:
        cells.append(f"{found[column] / 1e3:.1f}" if column in found else "" if column == "torch" else missing)
    return [*cells, f"{over:.1%}"]


def measure(name: str, build: Callable[[], Any]) -> dict[str, float]:
    """The columns of one graph in microseconds; a schedule that does not exist is left out."""
    cost = CostModel.load(str(PROFILE))
    plain, groups, streams = (_compiled(build, f"{FRONT}{more}") for more in ("", f",{GROUPS}", f",{STREAMS}"))
    problem = problem_of(plain, cost)
    assert isinstance(problem, Problem), problem
    found = {
        "calls": float(sum(task.us > 0 for task in problem.tasks)),
        "bound": _bound(problem),
        "bound in bind order": lower_bound(len(problem.names), problem.tasks, problem.messages),
        "cgc": simulate(schedule_of(plain, cost)).makespan,
        "cgc groups": simulate(schedule_of(groups, cost)).makespan,
        "cgc streams": simulate(schedule_of(streams, cost)).makespan,
    }
    for column, overlap in (("Ray", False), ("Ray overlap", True)):
        with suppress(RefusedError):
            found[column] = ray_makespan(build(), problem, overlap=overlap)
    order = torch_order(name)
    if order is not None:
        found["torch"] = simulate(schedule_in_order(order, problem, "driver", streams=True)).makespan
    return found


def _compiled(build: Callable[[], Any], pipeline: str) -> GraphOp:
    unit = import_graph(build())
    PassManager(passes_of(pipeline)).run(unit)
    return next(graphs_of(unit.module))


def _bound(problem: Problem) -> float:
    """max(longest path of data, busiest actor)."""
    busy = [0.0] * len(problem.names)
    for task in problem.tasks:
        for actor in task.actors:
            busy[actor] += task.us
    # Every task on an actor of its own: then the order on actors adds nothing to the longest path.
    alone = [Task((index,), task.us) for index, task in enumerate(problem.tasks)]
    return max(*busy, *tails(len(alone), alone, problem.messages)[0])


if __name__ == "__main__":
    main()
