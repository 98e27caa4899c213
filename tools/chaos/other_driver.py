"""
A driver that is killed: it compiles a graph on actors that it does not own, says so, and executes until it dies.

    python tools/chaos/other_driver.py ADDRESS SEED NAME...
"""

from __future__ import annotations

import sys
from random import Random

import ray

import cgc
from tools.chaos.graphs import Graph
from tools.chaos.pool import NAMESPACE


def main(address: str, seed: str, *names: str) -> None:
    """Execute for ever."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    handles = [ray.get_actor(name) for name in names]
    graph = Graph.draw(Random(seed), len(handles))
    compiled = cgc.compile(graph.bind(handles))
    execution = 0
    while True:
        refs = compiled.execute(*graph.inputs(execution, {}, 1000))
        values = ray.get(refs) if graph.is_list else [ray.get(refs)]
        assert [value.digest for value in values] == graph.expect(execution, {}), "wrong value"
        if not execution:
            print("running", flush=True)
        execution += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
