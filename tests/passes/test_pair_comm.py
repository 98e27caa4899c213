"""Programs are projections of one order that is chosen with the cost model."""

import json

import pytest

from cgc.errors import PassError, SourceError
from cgc.ir import TensorType, TransportAttr, Unit, graphs_of, parse_module, print_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import message_cost
from cgc.passes.graph_view import communication, programs_of
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PIPELINE = "verify-graph,infer-types,place-devices,pair-comm"


def _programs(unit, options=""):
    PassManager(passes_of(PIPELINE + options)).run(unit)
    return programs_of(next(graphs_of(unit.module)))


def _calls(program):
    return [op.method for op in program.body.block.ops if op.name == "cgc.call"]


def test_calls_of_an_actor_keep_the_order_of_binding(graph):
    assert _calls(_programs(graph("several_calls"))["a"]) == ["one", "two", "three"]


def test_a_value_for_the_same_actor_is_no_message(graph):
    program = _programs(graph("edge_within_an_actor"))["a"]
    one, two = (op for op in program.body.block.ops if op.name == "cgc.call")
    assert two.operands[0] is one.results[0]


def test_orders_rise_along_programs_and_meetings_have_one_place(graph):
    places = {}
    for program in _programs(graph("crossing_with_communicator")).values():
        orders = [operation.order.data for operation in communication(program)]
        assert orders == sorted(set(orders))
        for operation in communication(program):
            if operation.transport.is_rendezvous:
                places.setdefault(operation.message.data, set()).add(operation.order.data)
    assert [len(orders) for orders in places.values()] == [1, 1]


def test_a_profile_decides_which_message_goes_first(graph, tmp_path):
    text = """
    cgc.graph @g level = graph {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor class "A" on "n0"
      cgc.actor @b actor class "B" on "n0"
      cgc.actor @c actor class "C" on "n0"
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1, %2 = cgc.call @a::@split(%0) : !cgc.object, !cgc.object
        %3 = cgc.call @b::@f(%1) : !cgc.object
        %4 = cgc.call @c::@f(%2) : !cgc.object
        cgc.output [%3, %4]
      }
    }"""

    def first_receiver(slow):
        profile = tmp_path / f"{slow}.json"
        profile.write_text(json.dumps({"calls": {f"{slow}.f": 1e6}}))
        program = _programs(Unit(parse_module(text)), f"{{cost-model={profile}}}")["a"]
        return next(op for op in program.body.block.ops if op.name == "cgc.send").receiver_names

    assert first_receiver("B") == ("b",)
    assert first_receiver("C") == ("c",)


def test_collectives_become_one_operation_per_participant_at_one_place():
    text = """
    cgc.graph @g level = graph {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on "n0" devices ["gpu:0"]
      cgc.actor @b actor on "n0" devices ["gpu:1"]
      cgc.actor @c actor on "n0" devices ["gpu:2"]
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1 = cgc.call @a::@f(%0) : !cgc.tensor<gpu>
        %2 = cgc.call @b::@f(%0) : !cgc.tensor<gpu>
        %3 = cgc.call @c::@f(%0) : !cgc.tensor<gpu>
        %4, %5 = cgc.allreduce sum(%1, %2) on [@a, @b] via accelerator : !cgc.tensor<gpu>, !cgc.tensor<gpu>
        %6, %7 = cgc.allreduce max(%5, %3) on [@b, @c] via accelerator : !cgc.tensor<gpu>, !cgc.tensor<gpu>
        %8 = cgc.call @a::@g(%4) : !cgc.object
        %9 = cgc.call @b::@g(%6) : !cgc.object
        %10 = cgc.call @c::@g(%7) : !cgc.object
        cgc.output [%8, %9, %10]
      }
    }"""
    unit = Unit(parse_module(text))
    programs = _programs(unit)
    orders = {
        name: [op.order.data for op in program.body.block.ops if op.name == "cgc.allreduce"]
        for name, program in programs.items()
    }
    assert orders["a"] + orders["c"] == orders["b"]
    assert print_module(parse_module(print_module(unit.module))) == print_module(unit.module)


def test_a_transfer_that_nobody_uses_is_an_error_with_the_remedy():
    text = """
    cgc.graph @g level = placed {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on "n0"
      cgc.actor @b actor on "n0"
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1, %2 = cgc.transfer %0 from @driver to [@a, @b] via shm : !cgc.object, !cgc.object
        %3 = cgc.call @a::@f(%1) : !cgc.object
        %4 = cgc.transfer %3 from @a to [@driver] via shm : !cgc.object
        cgc.output %4
      }
    }"""
    with pytest.raises(PassError, match="@b does not use what a transfer brings; remove @b from its receivers"):
        PassManager(passes_of("pair-comm")).run(Unit(parse_module(text)))


def test_a_profile_that_does_not_exist(graph):
    with pytest.raises(SourceError, match=r"nothing\.json: error: cannot read it: No such file"):
        _programs(graph("echo"), "{cost-model=nothing.json}")


def test_a_profile_that_lacks_some_methods_is_a_remark(tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("default-call-us = 7\n[calls]\nA.f = 3\n")
    result = PassManager(passes_of(f"pair-comm{{cost-model={profile}}}")).run(Unit(parse_module(TWO_CLASSES)))
    (remark,) = result.remarks
    assert remark.kind == "UnknownTime"
    assert remark.text == f"{profile} has no time of B.g: taken for 7 µs each"


def test_a_profile_for_other_methods_is_an_error_that_names_them(tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("[calls]\nA.fwd = 3\n")
    with pytest.raises(
        PassError, match=r"has no time of any method of this graph, which calls A\.f, B\.g .*has A\.fwd"
    ):
        PassManager(passes_of(f"pair-comm{{cost-model={profile}}}")).run(Unit(parse_module(TWO_CLASSES)))


TWO_CLASSES = """
cgc.graph @g level = placed {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "A" on "n0"
  cgc.actor @b actor class "B" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm : !cgc.object
    %2 = cgc.call @a::@f(%1) : !cgc.object
    %3 = cgc.transfer %2 from @a to [@b] via shm : !cgc.object
    %4 = cgc.call @b::@g(%3) : !cgc.object
    %5 = cgc.transfer %4 from @b to [@driver] via shm : !cgc.object
    cgc.output %5
  }
}
"""


BROADCAST = """
cgc.graph @g level = graph {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "A" on "n0"
  cgc.actor @b actor class "B" on "n0"
  cgc.actor @c actor class "C" on "n1"
  cgc.actor @d actor class "D" on "n1"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@f(%0) : !cgc.tensor<default, [1000000], float32, via gloo>
    %2 = cgc.call @b::@f(%1) : !cgc.object
    %3 = cgc.call @c::@f(%1) : !cgc.object
    %4 = cgc.call @d::@f(%1) : !cgc.object
    %5 = cgc.call @a::@g(%0) : !cgc.object
    cgc.output [%2, %3, %4, %5]
  }
}
"""


def _meetings(programs):
    return [op for program in programs.values() for op in communication(program) if op.transport.is_rendezvous]


def test_a_value_for_several_actors_becomes_a_broadcast_where_that_is_shorter():
    sent, *received = _meetings(_programs(Unit(parse_module(BROADCAST)), "{broadcast}"))
    assert sent.receiver_names == ("b", "c", "d")
    assert [op.name for op in received] == ["cgc.recv"] * 3
    assert {(op.message.data, op.order.data) for op in received} == {(sent.message.data, sent.order.data)}
    assert len(_meetings(_programs(Unit(parse_module(BROADCAST))))) == 6


def test_whoever_has_to_wait_for_the_others_makes_a_broadcast_no_gain(tmp_path):
    """@b is what takes long: it is served first, and does not wait for @d, which is busy with what @b gave to it."""
    text = BROADCAST.replace("%5 = cgc.call @a::@g(%0)", "%5 = cgc.call @d::@g(%2)").replace(
        "%4 = cgc.call @d::@f(%1)", "%4 = cgc.call @d::@f(%1, %5)"
    )
    lines = text.splitlines()
    late = next(line for line in lines if "%4 =" in line)
    lines.remove(late)
    lines.insert(next(i for i, line in enumerate(lines) if "%5 =" in line) + 1, late)
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"calls": {"B.f": 1e6, "C.f": 0, "D.f": 0, "A.f": 0, "D.g": 0}}))
    unit = Unit(parse_module("\n".join(lines)))
    result = PassManager(passes_of(PIPELINE + f"{{broadcast cost-model={profile}}}")).run(unit)
    told = [remark.text for remark in result.remarks if remark.kind == "WhyNoBroadcast"]
    programs = programs_of(next(graphs_of(unit.module)))
    assert (len(_meetings(programs)), len(told)) == (6, 1), told


def test_a_users_communicator_has_no_broadcast():
    text = BROADCAST.replace("via gloo", 'via custom<0, "mine">')
    assert len(_meetings(_programs(Unit(parse_module(text)), "{broadcast}"))) == 6


@pytest.mark.parametrize(("transport", "rounds", "copies"), [("gloo", 2, 2), ("nccl", 2, 1)])
def test_what_a_broadcast_costs(transport, rounds, copies):
    cost, link = CostModel(), CostModel().link(transport)
    tensor = TensorType.of(shape=[1000], dtype="float32")
    expected = message_cost(TransportAttr.of(transport), [tensor], cost, {}, "a", ("b", "c", "d"))
    assert expected.send_us == rounds * link.latency_us + copies * link.copy_us(4000)
