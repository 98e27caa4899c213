"""
Counts random graphs that Ray's scheduler refuses although they have an order, which cgc finds.

    python tools/zoo/refused.py --graphs N --seed S [--takes 1]

Calls are on actors with a GPU each; values that cross actors go over nccl or through shared memory. Ray's own
scheduler orders them (`ray_order.py`). cgc runs all its passes, and the
schedule that comes out is simulated with both ends of every nccl message waiting for each other. `--takes` is the
largest number of values that a call takes. Ends with 1 if cgc refuses a graph. `--zoo` tells for the graphs of the zoo.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from graphs import ZOO
from ray.dag import InputNode, MultiOutputNode
from ray_order import RefusedError, ray_order

from cgc import CgcError, abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PIPELINE = (
    "verify-graph,infer-types,place-devices,pair-comm,overlap-comm,verify-schedule,allocate-channels,verify-schedule"
)


def main() -> int:
    """Search, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first graph (default: 0)")
    parser.add_argument("--takes", type=int, default=3, metavar="K", help="values that a call takes (default: up to 3)")
    parser.add_argument("--zoo", action="store_true", help="the graphs of the zoo instead")
    options = parser.parse_args()
    if options.zoo:
        for name, build in ZOO.items():
            print(f"{name:<22} {refusal(build()) or 'ordered'}")
        return 0
    counts: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.graphs):
        dag = random_graph(random.Random(seed), options.takes)
        counts["refused by Ray" if (reason := refusal(dag)) else "ordered by Ray"] += 1
        counts[f"  {reason}"] += bool(reason)
        try:
            PassManager(passes_of(PIPELINE), keep_initial=False).run(import_graph(dag))
        except CgcError as error:
            counts["refused by cgc"] += 1
            print(f"seed {seed}: {str(error).splitlines()[0]}", file=sys.stderr)
    for name, count in sorted(counts.items(), key=lambda item: (item[0].startswith(" "), -item[1])):
        if count:
            print(f"{name:<40} {count:>7,} of {options.graphs:,}")
    return 1 if counts["refused by cgc"] else 0


def random_graph(rng: random.Random, takes: int) -> Any:
    """Up to 30 calls on up to six actors, each with the results of up to `takes` calls."""
    actors = [abstract_actor("Layer", f"a{number}", devices=[f"gpu:{number}"]) for number in range(rng.randint(2, 6))]
    nccl = rng.choice([0.2, 0.5, 1.0])
    with InputNode() as inp:
        values: list[tuple[Any, Any]] = []
        readers: dict[int, list[Any]] = {}
        for number in range(rng.randint(3, 30)):
            actor = rng.choice(actors)
            recent = range(max(0, number - 8), number)
            taken = rng.sample(recent, min(len(recent), rng.randint(1, takes)))
            values.append((actor, actor.call.bind(*([values[other][1] for other in taken] or [inp]))))
            readers[number] = []
            for other in taken:
                readers[other].append(actor)
        for (maker, value), others in zip(values, readers.values(), strict=True):
            # Only where all of it crosses actors, so that nothing but the order of meetings can be wrong.
            if others and maker not in others and rng.random() < nccl:
                value.with_tensor_transport(transport="nccl")
        # The driver is in no communicator.
        ends = [value for number, (_, value) in enumerate(values) if not readers[number]]
        return MultiOutputNode(ends)


def refusal(dag: Any) -> str | None:
    """Why Ray has no order for a graph; None if it has one."""
    try:
        ray_order(dag)
    except RefusedError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
