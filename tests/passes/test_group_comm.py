"""Messages that cross between two actors become groups where neither needs the other and nothing gets later."""

import json
import random

import pytest

from cgc.backend.ascii import to_ascii
from cgc.backend.graphviz import to_dot
from cgc.ir import GroupOp, Unit, graphs_of, parse_module, print_module, verify_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.schedule import Kind
from cgc.passes.analysis.simulate import simulate
from cgc.passes.graph_view import communication, programs_of
from cgc.passes.group_comm import GroupCommPass
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of
from tools.fuzz.random_graphs import random_graph, random_profile

PIPELINE = "verify-graph,anchor-calls,infer-types,place-devices,pair-comm,overlap-comm"

CROSSING = """
cgc.graph @g level = graph {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "A" on "n0"
  cgc.actor @b actor class "B" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@f(%0) : !cgc.tensor<default, [1000000], float32, via gloo>
    %2 = cgc.call @b::@f(%0) : !cgc.tensor<default, [500000], float32, via gloo>
    %3 = cgc.call @a::@g(%2) : !cgc.object
    %4 = cgc.call @b::@g(%1) : !cgc.object
    cgc.output [%3, %4]
  }
}
"""

SCHEDULED = """
cgc.graph @g level = scheduled {{
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "A" on "n0"
  cgc.actor @b actor class "B" on "n0"
  cgc.program @driver {{
    %0 = cgc.input : !cgc.object
    cgc.output %0
  }}
  cgc.program @a {{
    {a}
  }}
  cgc.program @b {{
    {b}
  }}
}}
"""
MB, KB = "!cgc.tensor<default, [250000], float32>", "!cgc.tensor<default, [250], float32>"


def _scheduled(a, b):
    return Unit(parse_module(SCHEDULED.format(a="\n".join(a), b="\n".join(b))))


def _group(unit, pipeline="group-comm"):
    """(groups by actor, remarks); never longer than before."""
    (graph,) = graphs_of(unit.module)
    result = PassManager(passes_of(pipeline), verify_each=True).run(unit)
    statistics = result.records[-1].statistics
    assert statistics.get("makespan-us", 0) <= statistics.get("makespan-us-before", 0)
    programs = programs_of(graph)
    groups = {
        name: [op for op in program.body.block.ops if isinstance(op, GroupOp)] for name, program in programs.items()
    }
    return groups, [remark.text for remark in result.remarks if remark.kind == "WhyNoGroup"]


def test_messages_that_cross_are_one_group_at_one_place_of_each_actor():
    unit = Unit(parse_module(CROSSING))
    groups, told = _group(unit, f"{PIPELINE},group-comm")
    (of_a,), (of_b,) = groups["a"], groups["b"]
    assert told == []
    assert [op.name for op in communication(of_a)] == ["cgc.send", "cgc.recv"]
    assert [op.name for op in communication(of_b)] == ["cgc.recv", "cgc.send"]
    assert len({op.order.data for group in (of_a, of_b) for op in communication(group)}) == 1
    assert groups["driver"] == []


def test_both_directions_take_as_long_as_the_longer_one():
    link = CostModel().link("gloo")
    longer, shorter = (link.latency_us + link.copy_us(nbytes) for nbytes in (4_000_000, 2_000_000))

    def makespan(pipeline):
        unit = Unit(parse_module(CROSSING))
        PassManager(passes_of(pipeline)).run(unit)
        return simulate(schedule_of(next(graphs_of(unit.module)), CostModel())).makespan

    assert makespan(PIPELINE) - makespan(f"{PIPELINE},group-comm") == pytest.approx(shorter)
    assert makespan(f"{PIPELINE},group-comm") > 2000 + longer


def test_a_users_communicator_has_no_groups():
    groups, told = _group(
        Unit(parse_module(CROSSING.replace("via gloo", 'via custom<0, "mine">'))), f"{PIPELINE},group-comm"
    )
    assert not any(groups.values())
    assert told == ["messages between @a and @b: Ray's interface of communicators cannot begin two together"]


def test_what_needs_what_it_would_go_with_stays_alone():
    text = CROSSING.replace("%2 = cgc.call @b::@f(%0)", "%2 = cgc.call @b::@f(%1)")
    groups, told = _group(Unit(parse_module(text)), f"{PIPELINE},group-comm")
    assert not any(groups.values())
    (remark,) = told
    assert remark.startswith("messages between @a and @b: each needs another one that it could go with")


def test_messages_on_streams_stay_there():
    unit = Unit(parse_module(CROSSING))
    text = CROSSING.replace("%3 =", "%5 = cgc.call @a::@h(%0) : !cgc.object\n%3 =").replace("[%3, %4]", "[%3, %4, %5]")
    unit = Unit(parse_module(text))
    groups, _ = _group(unit, PIPELINE.replace("overlap-comm", "overlap-comm{streams},group-comm"))
    assert "cgc.recv_start" in print_module(unit.module)
    assert not any(groups.values())


@pytest.mark.parametrize(("first", "second", "place"), [(MB, KB, 0), (KB, MB, 5), (MB, MB, 0)])
def test_the_pair_goes_where_the_longer_one_is(first, second, place):
    """Calls stand between the two messages: what waits for the longer one waits for nothing new."""
    a = (
        f"%0 = cgc.call @a::@f() : {first}",
        "cgc.send %0 message 0 to [@b] via gloo order 0",
        "%1 = cgc.call @a::@g() : !cgc.object",
        f"%2 = cgc.recv message 1 from @b via gloo order 5 : {second}",
    )
    b = (
        f"%0 = cgc.call @b::@f() : {second}",
        f"%1 = cgc.recv message 0 from @a via gloo order 0 : {first}",
        "%2 = cgc.call @b::@g() : !cgc.object",
        "cgc.send %0 message 1 to [@a] via gloo order 5",
        "%3 = cgc.call @b::@h(%1) : !cgc.object",
    )
    groups, _ = _group(_scheduled(a, (*b,)))
    assert {op.order.data for name in "ab" for group in groups[name] for op in communication(group)} == {place}


def test_a_longer_message_does_not_hold_up_what_waits_for_a_shorter_one():
    a = (
        f"%0 = cgc.call @a::@f() : {KB}",
        "cgc.send %0 message 0 to [@b] via gloo order 0",
        "%1 = cgc.call @a::@g() : !cgc.object",
        f"%2 = cgc.recv message 1 from @b via gloo order 5 : {MB}",
    )
    b = (
        f"%0 = cgc.call @b::@f() : {MB}",
        f"%1 = cgc.recv message 0 from @a via gloo order 0 : {KB}",
        "%2 = cgc.call @b::@g(%1) : !cgc.object",
        "cgc.send %0 message 1 to [@a] via gloo order 5",
    )
    groups, told = _group(_scheduled(a, b))
    assert not any(groups.values())
    assert len(told) == 1


def test_a_group_waits_for_what_a_collective_on_a_stream_makes():
    reduce = "cgc.allreduce sum(%0) on [@a, @b] via gloo message 7 order 0 stream 3 : !cgc.object"
    a = (
        "%0 = cgc.call @a::@f() : !cgc.object",
        f"%1 = {reduce}",
        "%3 = cgc.group {",
        "cgc.send %1 message 0 to [@b] via gloo order 4",
        "%2 = cgc.recv message 1 from @b via gloo order 4 : !cgc.object",
        "cgc.yield(%2)",
        "}",
    )
    b = (
        "%0 = cgc.call @b::@f() : !cgc.object",
        f"%1 = {reduce}",
        "%3 = cgc.group {",
        "%2 = cgc.recv message 0 from @a via gloo order 4 : !cgc.object",
        "cgc.send %0 message 1 to [@a] via gloo order 4",
        "cgc.yield(%2)",
        "}",
    )
    unit = _scheduled(a, b)
    verify_module(unit.module)
    schedule = schedule_of(next(graphs_of(unit.module)), CostModel())
    steps = {process.name: [step.label for step in process.steps] for process in schedule.processes}
    assert steps["@a"] == ["f", "begin allreduce", "wait", "send m0 to @b + recv m1 from @b"]
    assert steps["@b"] == ["f", "begin allreduce", "recv m0 from @a + send m1 to @a"]
    assert schedule.processes[-1].steps[-1].kind is Kind.MEET
    assert not simulate(schedule, executions=2).stuck


def test_twice_is_once_and_pictures_show_it():
    unit = Unit(parse_module(CROSSING))
    PassManager(passes_of(f"{PIPELINE},group-comm")).run(unit)
    text = print_module(unit.module)
    again = Unit(parse_module(text))
    PassManager([GroupCommPass()]).run(again)
    assert print_module(again.module) == text
    assert "send m1 to @b + recv m2 from @b" in to_ascii(unit.module)
    assert 'label="send m1 to @b + recv m2 from @b", shape=hexagon' in to_dot(unit.module)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_never_get_longer(seed, tmp_path):
    rng = random.Random(seed)
    unit = random_graph(rng, 60, crossings=True)
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(random_profile(rng)))
    pipeline = PIPELINE.replace("pair-comm", f"pair-comm{{cost-model={profile}}}")
    PassManager(passes_of(pipeline)).run(unit)
    (graph,) = graphs_of(unit.module)
    cost = CostModel.load(str(profile))
    before = simulate(schedule_of(graph, cost, inflight=2), executions=3)
    PassManager(passes_of(f"group-comm{{cost-model={profile}}},verify-schedule"), verify_each=True).run(unit)
    after = simulate(schedule_of(graph, cost, inflight=2), executions=3)
    for process, ends in enumerate(after.ends):
        assert not ends or ends[-1] <= before.ends[process][-1] + 1e-3
