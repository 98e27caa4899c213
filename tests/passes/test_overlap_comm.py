"""What streams gain, what they may cost, and why nothing is done where nothing is."""

import pytest
from ray.dag import InputNode, MultiOutputNode

from cgc.ir import Unit, graphs_of, parse_module, print_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.manager import PassManager
from cgc.passes.overlap_comm import OverlapCommPass
from cgc.passes.registry import passes_of
from cgc.passes.verify_schedule import verify

FRONT = "verify-graph,infer-types,place-devices,pair-comm"


def _pipeline(stages=4, batches=4, transport="nccl"):
    """Forward and backward through `stages`, all forwards first (GPipe)."""
    actors = [abstract_actor("Stage", name=f"s{i}", devices=[f"gpu:{i}"]) for i in range(stages)]
    with InputNode() as inp:
        values = [inp] * batches
        for stage, actor in enumerate(actors):
            values = [actor.forward.bind(value) for value in values]
            if stage < stages - 1:
                values = [value.with_tensor_transport(transport=transport) for value in values]
        for stage, actor in reversed(list(enumerate(actors))):
            values = [actor.backward.bind(value) for value in values]
            if stage > 0:
                values = [value.with_tensor_transport(transport=transport) for value in values]
        return MultiOutputNode(values)


def _run(dag, options="", front=FRONT):
    unit = import_graph(dag) if not isinstance(dag, Unit) else dag
    record = PassManager(passes_of(f"{front},overlap-comm{options}")).run(unit).records[-1]
    return unit, record


def _makespan(unit):
    return simulate(schedule_of(next(graphs_of(unit.module)), CostModel())).makespan


def test_meetings_run_beside_calls():
    unit, record = _run(_pipeline(), "{streams}")
    text = print_module(unit.module)
    assert "cgc.recv_start" in text
    assert text.count("cgc.wait") == text.count("cgc.recv_start") == 24
    assert record.statistics["makespan-us"] < record.statistics["makespan-us-before"]
    verify(next(graphs_of(unit.module)), CostModel())


def test_a_pipeline_comes_within_five_percent_of_its_bound():
    """Forward fills, backward drains: (stages - 1 + batches) calls each way; no schedule of this order is shorter."""
    unit, _ = _run(_pipeline(stages=4, batches=8), "{streams}")
    bound = 2 * (4 - 1 + 8) * CostModel().default_call_us
    assert bound <= _makespan(unit) <= 1.05 * bound


def test_without_streams_nothing_changes_and_a_remark_says_why(graph):
    unit, record = _run(_pipeline())
    before = import_graph(_pipeline())
    PassManager(passes_of(FRONT)).run(before)
    assert print_module(unit.module, locations=False) == print_module(before.module, locations=False)
    assert [remark.kind for remark in record.remarks] == ["WhyNoOverlap", "WhyNoOverlap"]
    assert "nccl: streams are off; overlap-comm{streams} turns them on" in str(record.remarks[0])


def test_shared_memory_stays_as_it_is(graph):
    unit, record = _run(graph("diamond"), "{streams}")
    assert "recv_start" not in print_module(unit.module)
    assert "shm: the actor itself copies messages" in str(record.remarks[0])


def test_no_gain_is_no_change():
    """A chain has nothing to run beside a message."""
    a, b = (abstract_actor("Stage", name=name, devices=[f"gpu:{i}"]) for i, name in enumerate("ab"))
    with InputNode() as inp:
        dag = b.fwd.bind(a.fwd.bind(inp).with_tensor_transport(transport="nccl"))
    unit, record = _run(dag, "{streams}")
    plain, _ = _run(dag)
    assert print_module(unit.module) == print_module(plain.module)
    assert "streams would take" in str(record.remarks[-1])


def test_what_a_receiver_has_issued_stays_within_the_limit():
    _, free = _run(_pipeline(batches=8), "{streams}")
    _, bounded = _run(_pipeline(batches=8), "{streams max-bytes=1024}")
    assert bounded.statistics["peak-bytes"] <= 1024 <= free.statistics["peak-bytes"]
    assert bounded.statistics["makespan-us"] >= free.statistics["makespan-us"]


def test_twice_is_once():
    unit, _ = _run(_pipeline(), "{streams}")
    text = print_module(unit.module)
    again = Unit(parse_module(text))
    record = PassManager([OverlapCommPass(streams=True)]).run(again).records[0]
    assert print_module(again.module) == text
    assert "the programs have streams or groups already" in str(record.remarks[-1])


@pytest.mark.parametrize("options", ["{streams}", "{streams max-bytes=2048}"])
def test_streams_reach_the_channels(options):
    unit, _ = _run(_pipeline(), options)
    PassManager(passes_of("verify-schedule,allocate-channels,verify-schedule")).run(unit)
    text = print_module(unit.module)
    assert "cgc.read_start" in text
    assert " stream 1" in text
    assert print_module(parse_module(text)) == text
