"""Which values share a message and which do not, and what a channel looks like."""

import pytest

from cgc.ir import ChannelOp, Unit, graphs_of, parse_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of
from cgc.passes.verify_schedule import verify

PIPELINE = "verify-graph,infer-types,place-devices,pair-comm,allocate-channels"


@pytest.fixture
def channels(graph):
    """A function that gives (writer, readers, messages) of the channels of a graph."""

    def run(name, pipeline=PIPELINE):
        unit = graph(name) if isinstance(name, str) else name
        PassManager(passes_of(pipeline)).run(unit)
        compiled = next(graphs_of(unit.module))
        verify(compiled, CostModel())
        writes = {op.channel_name: op.message_ids for op in compiled.walk() if op.name == "cgc.write"}
        declared = [op for op in compiled.walk() if isinstance(op, ChannelOp)]
        return [(c.writer_name, c.reader_names, len(writes[c.sym_name.data])) for c in declared]

    return run


def test_one_channel_for_all_readers_of_a_value(channels):
    assert ("a", ("b", "c"), 1) in channels("diamond")


def test_parts_of_the_input_for_the_same_reader_share_a_message(channels):
    assert channels("input_attributes")[:2] == [("driver", ("a",), 2), ("driver", ("b",), 1)]


def test_results_of_one_call_for_the_same_reader_share_a_message(channels):
    assert ("a", ("b",), 2) in channels("several_results")


def test_all_that_one_actor_gives_to_the_driver_alone_shares_a_message(channels):
    found = channels("several_outputs_of_one_actor")
    assert ("a", ("driver",), 2) in found
    assert ("a", ("b", "driver"), 1) in found


def test_values_with_a_call_between_them_do_not_share(channels):
    """The first could be waited for by what the second needs."""
    text = """
    cgc.graph @g level = graph {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on "n0"
      cgc.actor @b actor on "n0"
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1 = cgc.call @a::@f(%0) : !cgc.object
        %2 = cgc.call @b::@g(%1) : !cgc.object
        %3 = cgc.call @a::@h(%2) : !cgc.object
        %4 = cgc.call @b::@i(%3) : !cgc.object
        cgc.output %4
      }
    }"""
    found = channels(Unit(parse_module(text)))
    assert found.count(("a", ("b",), 1)) == 2


def test_where_both_ends_meet_nothing_shares(channels):
    found = channels("tensors_between_gpus")
    assert [c for c in found if c[0] == "a"] == [("a", ("b",), 1), ("a", ("c",), 1)]


def _declared(result_type, options="", inflight=3):
    text = f"""
    cgc.graph @g level = placed, max_inflight = {inflight} {{
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on "n0"
      cgc.body {{
        %0 = cgc.input : !cgc.object
        %1 = cgc.transfer %0 from @driver to [@a] via shm : !cgc.object
        %2 = cgc.call @a::@f(%1) : {result_type}
        %3 = cgc.transfer %2 from @a to [@driver] via shm : {result_type}
        cgc.output %3
      }}
    }}"""
    unit = Unit(parse_module(text))
    PassManager(passes_of(f"pair-comm,allocate-channels{options}")).run(unit)
    return [op for op in unit.module.walk() if isinstance(op, ChannelOp)]


def test_slots_are_the_executions_in_flight():
    assert [channel.slots.data for channel in _declared("!cgc.object")] == [3, 3]


@pytest.mark.parametrize(
    ("result_type", "slot_bytes", "static"),
    [
        ("!cgc.object", 4096, False),
        ("!cgc.tensor<cpu, [64, 16], float32>", 4096, False),
        ("!cgc.tensor<cpu, [64, 16], float32, static>", 64 * 16 * 4 + 1024, True),
        ("!cgc.tensor<cpu, [1024, 1024], float32, static>", 4096, True),
        ("!cgc.tensor<cpu, [?, 16], float32, static>", 4096, False),
    ],
)
def test_only_small_static_shapes_size_their_slots(result_type, slot_bytes, static):
    channel = _declared(result_type)[1]
    assert (channel.slot_bytes.data, channel.static is not None) == (slot_bytes, static)


def test_the_size_of_other_slots_is_an_option():
    assert [channel.slot_bytes.data for channel in _declared("!cgc.object", "{slot-bytes=128}")] == [128, 128]


@pytest.mark.parametrize(("inflight", "slot_bytes"), [(10, 4096), (64, 4096), (100, 2560), (1000, 256), (10000, 256)])
def test_a_ring_of_very_many_slots_has_smaller_ones(inflight, slot_bytes):
    assert [channel.slot_bytes.data for channel in _declared("!cgc.object", inflight=inflight)] == [slot_bytes] * 2
