"""Ray nodes that go away, and a control plane that restarts, in clusters of their own on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def run(*programs: str) -> dict[str, Any]:
    """What the programs found, by their names, in one cluster."""
    command = [sys.executable, "-m", "tests.runtime.cluster_program", *programs]
    # A directory of its own (with a short name: there are sockets in it), or every `ray.init()` of this machine would
    # connect to this cluster.
    with tempfile.TemporaryDirectory(prefix="cgc-") as directory:
        environment = os.environ | {"RAY_TMPDIR": directory}
        process = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert process.returncode == 0, process.stderr[-4000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("{"))  # Ray prints there, too
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture(scope="module")
def faults() -> dict[str, Any]:
    """What happened in a cluster that lost nodes, and then its control plane: first for a while, then for ever."""
    return run("nodes", "cause", "gcs")


def test_actors_of_other_nodes_on_this_machine_take_part_and_die_with_their_node(faults):
    for how, found in faults["nodes"].items():
        assert not found["same node as the driver"]
        assert found["actor"] in found["text"], how
        assert found["node"] in found["text"], how
        assert "@Actor_1 (Actor, actor" in found["text"], how
        assert found["ended"], how
        assert found["survivor"] == "answers", how
        if how == "killed":  # whose workers notice it within a second
            assert "has died: its node's raylet, process" in found["text"]


def test_an_error_does_not_wait_for_a_control_plane_that_does_not_answer_and_later_ones_have_the_cause(faults):
    found = faults["cause"]
    assert "its process ended. Ray has not told a cause yet." in found["first"]
    assert found["second"] == found["first"]
    assert "its process ended. " in found["later"]
    assert "The actor died unexpectedly" in found["later"]
    assert "yet" not in found["later"]


def test_a_graph_runs_on_while_the_gcs_restarts(faults):
    assert faults["gcs"]["executions"] > 10


def test_an_actor_that_the_memory_monitor_kills():
    found = run("memory")["memory"]
    assert f"Actor @Actor_0 (Actor, actor {found['actor']}" in found["text"]
