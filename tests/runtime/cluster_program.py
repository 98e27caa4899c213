"""
A driver with a cluster of its own on this machine, for `test_cluster_faults.py`: prints what happened as JSON.

    python -m tests.runtime.cluster_program PROGRAM...      # of nodes, cause, gcs, memory; gcs comes last
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster
from ray.dag import InputNode

import cgc
from cgc.runtime.process_watch import wait_until_ended
from tests.runtime.helpers import DEADLINE, Actor

HEADROOM = 1 << 30

WITHOUT_GCS = 2.0
"""Seconds that the graph runs on while there is no GCS."""

WITH_NEW_GCS = 2.0
"""
Seconds that it runs with the new one.

That one knows nothing of the cluster, which only a Redis would remember: some of Ray's own calls end the process.
"""


def compiled(*actors: Any) -> cgc.CompiledGraph:
    with InputNode() as inp:
        value = inp
        for actor in actors:
            value = actor.echo.bind(value)
    return cgc.compile(value)


def on(resource: str) -> Any:
    return Actor.options(resources={resource: 0.1}).remote()


def remove_nodes(cluster: Cluster) -> dict[str, Any]:
    """Graphs over two nodes of one machine; one node is removed, another one's raylet is killed."""
    nodes = {name: cluster.add_node(num_cpus=1, resources={name: 1}) for name in ("removed", "killed")}
    here = on("head")
    found: dict[str, Any] = {}
    for name, node in nodes.items():
        victim = on(name)
        with compiled(here, victim) as graph:
            assert ray.get(graph.execute(1)) == 1
            info = graph._driver.infos["Actor_1"]
            begin = time.monotonic()
            cluster.remove_node(node, allow_graceful=name == "removed")
            error = _death(lambda graph=graph: ray.get(graph.execute(2)))
            seconds = time.monotonic() - begin
            found[name] = {
                "text": str(error),
                "actor": info.actor_id,
                "node": info.node_id,
                "seconds": seconds,
                "same node as the driver": info.node_id == ray.get_runtime_context().get_node_id(),
                "ended": wait_until_ended(info.pid, DEADLINE),
            }
        with compiled(here) as graph:
            found[name]["survivor"] = ray.get(graph.execute("answers"))
    return found


def restart_gcs(cluster: Cluster) -> dict[str, Any]:
    """The cluster's control plane goes away and comes back under a running graph."""
    with compiled(on("head"), on("head")) as graph:
        executions = 0
        cluster.head_node.kill_gcs_server()
        end = time.monotonic() + WITHOUT_GCS
        while time.monotonic() < end:
            assert ray.get(graph.execute(executions)) == executions
            executions += 1
        cluster.head_node.start_gcs_server()
        end = time.monotonic() + WITH_NEW_GCS
        while time.monotonic() < end:
            assert ray.get(graph.execute(executions)) == executions
            executions += 1
    return {"executions": executions}


def run_out_of_memory(cluster: Cluster) -> dict[str, Any]:
    """A method takes more than `HEADROOM` bytes, which is where this cluster's memory monitor kills workers."""

    def grow(actor: Any) -> None:
        actor.ballast = np.ones(HEADROOM + HEADROOM // 2, dtype=np.uint8)
        threading.Event().wait(DEADLINE)

    actor = on("head")
    with InputNode() as inp:
        dag = actor.apply.bind(inp)
    with cgc.compile(dag) as graph:
        info = graph._driver.infos["Actor_0"]
        error = _death(lambda: ray.get(graph.execute(grow)))
    return {"text": str(error), "actor": info.actor_id}


def wait_for_a_late_cause(cluster: Cluster) -> dict[str, Any]:
    """An actor dies while the control plane, which knows why actors die, does not answer for a while."""
    gcs = next(each for each in psutil.Process().children(recursive=True) if each.name() == "gcs_server")
    with compiled(on("head")) as graph:
        assert ray.get(graph.execute(1)) == 1
        gcs.suspend()
        try:
            os.kill(graph._driver.infos["Actor_0"].pid, signal.SIGKILL)
            first = str(_death(lambda: ray.get(graph.execute(2))))
            second = str(_death(lambda: graph.execute(3)))
        finally:
            gcs.resume()
        later, end = second, time.monotonic() + DEADLINE
        while later == second and time.monotonic() < end:
            later = str(_death(lambda: graph.execute(4)))
    return {"first": first, "second": second, "later": later}


def _death(function: Callable[[], Any]) -> ray.exceptions.ActorDiedError:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            function()
        except ray.exceptions.ActorDiedError as error:
            return error
    raise AssertionError("no death was told")


PROGRAMS = {"nodes": remove_nodes, "gcs": restart_gcs, "memory": run_out_of_memory, "cause": wait_for_a_late_cause}


def main(*names: str) -> None:
    """Run some of the programs in a cluster of their own."""
    if "memory" in names:
        memory = psutil.virtual_memory()
        os.environ["RAY_memory_monitor_refresh_ms"] = "50"
        os.environ["RAY_memory_usage_threshold"] = str((memory.total - memory.available + HEADROOM) / memory.total)
    cluster = Cluster(initialize_head=True, head_node_args={"resources": {"head": 1}, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        print("\n" + json.dumps({name: PROGRAMS[name](cluster) for name in names}), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
