"""The plan of a small graph, by hand."""

import pytest

from cgc.ir import graphs_of
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.analysis.plan import plan_of
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PIPELINE = "verify-graph,infer-types,place-devices,pair-comm,overlap-comm{streams},allocate-channels"


@pytest.fixture
def plan(graph):
    """A function that gives the plan of a graph with round numbers for costs."""
    link = Link(latency_us=5.0, gb_per_s=1.0, overhead_us=1.0)
    cost = CostModel(links={"shm": link, "nccl": link}, default_call_us=100.0, object_bytes=1000)

    def run(name):
        unit = graph(name)
        PassManager(passes_of(PIPELINE)).run(unit)
        return plan_of(next(graphs_of(unit.module)), cost)

    return run


def test_diamond(plan):
    found = plan("diamond")
    # Three calls and four messages follow each other; each message is a write (2), a way (5) and a read (1); the last
    # call reads twice.
    assert found.makespan_us == 3 * 100 + 4 * (2 + 5 + 1) + 1
    assert found.busy_us == {"driver": 3, "a": 103, "b": 103, "c": 103, "d": 104}
    assert found.traffic_bytes["a", "b", "shm"] == found.traffic_bytes["a", "c", "shm"] == 1000
    assert found.messages == 5
    assert found.channel_bytes == 5 * 10 * 4096


def test_text_names_participants_and_links(plan):
    text = str(plan("crossing_with_communicator"))
    assert "busy @a" in text
    assert "@a -> @b nccl: 1,000 bytes" in text
