"""From when each operation ran to a profile, by hand."""

import pytest

from cgc.backend.profiling import profile_of
from cgc.ir import graphs_of, parse_module
from cgc.passes.analysis.cost import CostModel, Link
from cgc.runtime.program import Call, ChannelSpec, Program, Read, Register, Write

GRAPH = """
cgc.graph @g level = scheduled {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
  }
  cgc.program @a {
  }
  cgc.program @b {
  }
}
"""

CHANNEL = ChannelSpec("c0", 0, "shm", "a", ("b",), 2, 256)


def _microseconds(*samples):
    return [(execution, start * 1000, end * 1000) for execution, start, end in samples]


@pytest.fixture
def graph():
    return next(graphs_of(parse_module(GRAPH)))


@pytest.fixture
def programs():
    """Two messages that take turns on one channel, and two calls on each side."""
    call = Call("fwd", (Register(0),), (), (1,))
    sender = (call, Write("c0", (1,)), Call("bwd", (), (), (1,)), Write("c0", (1,)))
    receiver = (Read("c0", (0,)), call, Read("c0", (0,)), call)
    return {"a": Program("g", "a", 2, (CHANNEL,), sender), "b": Program("g", "b", 2, (CHANNEL,), receiver)}


def test_times_of_calls_are_medians_over_actors_and_executions(graph, programs):
    samples = {
        "a": [_microseconds((1, 0, 5000), (2, 0, 10)), [], _microseconds((1, 0, 7)), []],
        "b": [[], _microseconds((1, 0, 12)), [], _microseconds((1, 0, 14))],
    }
    found = profile_of(graph, programs, samples, CostModel({("Other", "call"): 1.0}))
    assert found.calls == {("Other", "call"): 1.0, ("Stage", "fwd"): 13.0, ("Stage", "bwd"): 7.0}
    assert found.links == {}


def test_a_hop_is_measured_where_the_reader_was_waiting(graph, programs):
    samples = {
        # Execution 1: the reader waits for the second message only. It has it 3 µs after the writer is done.
        "a": [[], _microseconds((1, 100, 102)), [], _microseconds((1, 200, 202))],
        "b": [_microseconds((1, 150, 151)), [], _microseconds((1, 160, 205)), []],
    }
    found = profile_of(graph, programs, samples, CostModel(links={"shm": Link(9.0, 20.0, 9.0)}))
    assert found.links == {"shm": Link(latency_us=1.0, gb_per_s=20.0, overhead_us=2.0)}


def test_executions_of_which_one_end_is_forgotten_do_not_count(graph, programs):
    samples = {
        "a": [[], _microseconds((2, 300, 302)), [], []],
        "b": [_microseconds((1, 50, 103), (2, 250, 309)), [], [], []],
    }
    found = profile_of(graph, programs, samples, CostModel())
    assert found.links["shm"] == Link(latency_us=5.0, gb_per_s=10.0, overhead_us=2.0)
