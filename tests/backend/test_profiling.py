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

KIB, MIB = 1024, 1024 * 1024
CHANNEL = ChannelSpec("c0", 0, "shm", "a", ("b",), 2, 256)


def _microseconds(*samples, nbytes=0):
    return [(execution, start * 1000, end * 1000, nbytes) for execution, start, end in samples]


def _exchange(*messages):
    """Samples of one message an execution, (bytes, µs of the writer); the reader waits and has it 4 µs later."""
    written, read, now = [], [], 0
    for execution, (nbytes, us) in enumerate(messages, start=1):
        written += _microseconds((execution, now, now + us), nbytes=nbytes)
        read += _microseconds((execution, now - 1, now + us + 4))
        now += 10 * us
    return {"a": [[], written, [], []], "b": [read, [], [], []]}


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


@pytest.mark.parametrize("disturbed", [[], [(MIB, 9000), (64 * KIB, 700)]])
def test_two_sizes_tell_the_overhead_from_the_bandwidth_for_all_sizes(graph, programs, disturbed):
    """3 µs and 5 GB/s, by hand; a message in seven that takes far longer changes nothing."""
    messages = [(64 * KIB, 3 + 64 * KIB / 5e3), (MIB, 3 + MIB / 5e3)] * 3
    found = profile_of(graph, programs, _exchange(*messages, *disturbed), CostModel())
    assert found.links["shm"] == Link(latency_us=1.0, gb_per_s=pytest.approx(5.0), overhead_us=pytest.approx(3.0))
    assert found.link("shm").copy_us(16 * MIB) == pytest.approx(3 + 16 * MIB / 5e3, rel=1e-3)


def test_far_sizes_decide_the_slope(graph, programs):
    """Between 1 and 2 KiB there is only noise, which says the opposite."""
    messages = [(KIB, 4.0), (2 * KIB, 2.0), (16 * MIB, 2 + 16 * MIB / 8e3)] * 3
    found = profile_of(graph, programs, _exchange(*messages), CostModel())
    assert found.link("shm").gb_per_s == pytest.approx(8.0, rel=0.01)


def test_one_size_keeps_the_bandwidth_and_predicts_that_size(graph, programs):
    base = CostModel(links={"shm": Link(1.0, 10.0, 1.0)})
    found = profile_of(graph, programs, _exchange(*[(64 * KIB, 9.0)] * 5), base).link("shm")
    assert found.gb_per_s == 10.0
    assert found.overhead_us == pytest.approx(9.0 - 64 * KIB / 10e3, abs=0.1)
    assert found.copy_us(64 * KIB) == pytest.approx(9.0, abs=0.1)


@pytest.mark.parametrize("messages", [[(16 * MIB, 2.0)], [(64 * KIB, 2.0), (16 * MIB, 2.0)]])
def test_messages_without_a_copy_are_as_fast_as_they_were(graph, programs, messages):
    """Arrays of `cgc.alloc`: the old bandwidth would take 1,678 µs."""
    found = profile_of(graph, programs, _exchange(*messages * 3), CostModel(links={"shm": Link(1.0, 10.0, 1.0)}))
    assert found.link("shm").copy_us(16 * MIB) == pytest.approx(2.0, abs=0.1)


def test_a_size_of_few_messages_does_not_count(graph, programs):
    """The first message of a size maps memory, which takes far longer than the copy."""
    found = profile_of(graph, programs, _exchange(*[(64 * KIB, 9.0)] * 5, (16 * MIB, 50_000.0)), CostModel())
    assert found.link("shm").gb_per_s == 10.0


def test_values_are_as_large_as_they_were_on_average(graph, programs):
    found = profile_of(graph, programs, _exchange((1000, 2.0), (4000, 3.0)), CostModel())
    assert found.object_bytes == 2500
    assert profile_of(graph, programs, {"a": [[], [], [], []], "b": [[], [], [], []]}, CostModel()).object_bytes == 1024
