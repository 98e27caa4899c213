"""
Compares cgc's orders with those of Ray's scheduler on random graphs that Ray accepts, under random costs.

    python tools/zoo/against_ray.py --graphs N --seed S

The graphs are those of `refused.py`. Both orders are simulated with the same cost model, without streams against Ray's
schedule and with streams (`overlap-comm{streams}`) against its overlap. Ends with 1 if one of cgc's is predicted to
take longer by more than a thousandth, below which `overlap-comm` leaves programs as they are.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from ray_order import RefusedError, ray_makespan
from refused import random_graph

from cgc.ir import GraphOp, graphs_of
from cgc.ir.importer import import_graph
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.problem import Problem, problem_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.manager import PassManager
from cgc.passes.overlap_comm import GAIN
from cgc.passes.registry import passes_of

PROGRAMS = "verify-graph,infer-types,place-devices,pair-comm"
PIPELINES = {"programs": PROGRAMS, "streams": f"{PROGRAMS},overlap-comm{{streams}}"}


class Comparison(NamedTuple):
    """One graph: predicted makespan of cgc's order as a part of that of Ray's."""

    seed: int
    mode: str
    ratio: float


def main() -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first graph (default: 0)")
    options = parser.parse_args()
    found = list(compare(range(options.seed, options.seed + options.graphs)))
    for mode in PIPELINES:
        ratios = sorted(row.ratio for row in found if row.mode == mode)
        shorter = sum(ratio < 1 - GAIN for ratio in ratios) / len(ratios)
        print(
            f"{mode}: {len(ratios):,} graphs; cgc's order takes {statistics.mean(ratios):.3f} of the time of Ray's in "
            f"the mean, {ratios[0]:.3f} at least, {ratios[-1]:.4f} at most; it is shorter in {shorter:.0%} of them"
        )
    longer = [row for row in found if row.ratio > 1 + GAIN]
    for row in longer:
        print(f"seed {row.seed}, {row.mode}: {row.ratio:.4f} of Ray's", file=sys.stderr)
    return 1 if longer else 0


def compare(seeds: range) -> Iterator[Comparison]:
    """The graphs of some seeds that Ray has an order for."""
    for seed in seeds:
        for mode in PIPELINES:
            cost = random_cost(random.Random(seed))
            problem = problem_of(_compiled(seed, "programs", cost), cost)
            assert isinstance(problem, Problem), problem
            try:
                theirs = ray_makespan(_dag(seed), problem, overlap=mode == "streams")
            except RefusedError:
                continue
            ours = simulate(schedule_of(_compiled(seed, mode, cost), cost)).makespan
            yield Comparison(seed, mode, ours / theirs)


def random_cost(rng: random.Random) -> CostModel:
    """Calls, links and values of one size each, far apart from graph to graph."""
    links = {
        name: Link(rng.choice([1, 10, 100]), rng.choice([1, 10, 100]), rng.choice([0, 5])) for name in ("nccl", "shm")
    }
    return CostModel(
        default_call_us=rng.choice([10, 100, 1000]), object_bytes=rng.choice([0, 10**5, 10**6, 10**7]), links=links
    )


def _dag(seed: int) -> Any:
    # Ray accepts more of the graphs in which a call takes one value.
    return random_graph(random.Random(seed), 1 if seed % 2 else 3)


def _compiled(seed: int, mode: str, cost: CostModel) -> GraphOp:
    unit = import_graph(_dag(seed))
    PassManager(passes_of(PIPELINES[mode]), keep_initial=False, cost=cost).run(unit)
    return next(graphs_of(unit.module))


if __name__ == "__main__":
    sys.exit(main())
