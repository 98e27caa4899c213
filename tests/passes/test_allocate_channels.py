"""Which values share a message and which do not, and what a channel looks like."""

import pytest
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.compilation import default_pipeline
from cgc.errors import IRVerifyError
from cgc.ir import ChannelOp, Unit, graphs_of, parse_module, print_module, verify_module
from cgc.ir.abstract import abstract_actor
from cgc.options import CompileOptions
from cgc.passes.analysis.cost import CostModel
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of
from cgc.passes.verify_schedule import verify

PIPELINE = "verify-graph,infer-types,place-devices,pair-comm,allocate-channels"


@pytest.fixture
def channels(graph):
    """A function that gives (writer, readers, messages of a write) of the writes of a graph, by order of channels."""

    def run(name, pipeline=PIPELINE):
        unit = graph(name) if isinstance(name, str) else name
        PassManager(passes_of(pipeline)).run(unit)
        compiled = next(graphs_of(unit.module))
        verify(compiled, CostModel())
        writes = [op for op in compiled.walk() if op.name == "cgc.write"]
        declared = [op for op in compiled.walk() if isinstance(op, ChannelOp)]
        return [
            (channel.writer_name, channel.reader_names, len(write.message_ids))
            for channel in declared
            for write in writes
            if write.channel_name == channel.sym_name.data
        ]

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


BACK_AND_FORTH = """
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


def test_values_with_a_call_between_them_do_not_share_a_message(channels):
    """The first could be waited for by what the second needs."""
    found = channels(Unit(parse_module(BACK_AND_FORTH)))
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


@pytest.mark.parametrize(
    ("result_type", "slot_bytes"),
    [
        ("!cgc.object", 4096),
        ("!cgc.tensor<cpu, [64, 16], float32>", 4096),
        ("!cgc.tensor<cpu, [64, 16], float32, static>", 1024),
        ("!cgc.tensor<cpu, [?, 16], float32, static>", 1024),
    ],
)
def test_the_size_of_slots_for_static_shapes_is_an_option(result_type, slot_bytes):
    assert _declared(result_type, "{static-slot-bytes=1000}")[1].slot_bytes.data == slot_bytes


@pytest.mark.parametrize(("inflight", "slot_bytes"), [(10, 4096), (64, 4096), (100, 2560), (1000, 256), (10000, 256)])
def test_a_ring_of_very_many_slots_has_smaller_ones(inflight, slot_bytes):
    assert [channel.slot_bytes.data for channel in _declared("!cgc.object", inflight=inflight)] == [slot_bytes] * 2


def _rings(text, options=""):
    """(writer, readers, writes that take turns) of each channel, and the statistics of the pass."""
    unit = Unit(parse_module(text))
    records = PassManager(passes_of(f"{PIPELINE}{options}")).run(unit).records
    compiled = next(graphs_of(unit.module))
    verify(compiled, CostModel())
    declared = [op for op in compiled.walk() if isinstance(op, ChannelOp)]
    return [(c.writer_name, c.reader_names, c.turns) for c in declared], records[-1].statistics


def _graph(*calls, actors="abcd"):
    declared = "\n".join(f'cgc.actor @{name} actor on "n0"' for name in actors)
    lines = "\n".join(calls)
    return f"""cgc.graph @g level = graph {{
      cgc.actor @driver driver on "n0"
      {declared}
      cgc.body {{
        %0 = cgc.input : !cgc.object
        {lines}
      }}
    }}"""


def test_a_message_that_was_taken_before_the_next_is_made_shares_its_channel():
    rings, statistics = _rings(BACK_AND_FORTH)
    assert rings == [("driver", ("a",), 1), ("a", ("b",), 2), ("b", ("a",), 1), ("b", ("driver",), 1)]
    assert statistics["channels"] == 4
    assert statistics["slot-bytes"] == 4 * 10 * 4096
    assert statistics["slot-bytes-unshared"] == 5 * 10 * 4096


def test_sharing_is_an_option():
    rings, statistics = _rings(BACK_AND_FORTH, "{share=false}")
    assert [ring for ring in rings if ring[0] == "a"] == [("a", ("b",), 1)] * 2
    assert statistics["slot-bytes"] == statistics["slot-bytes-unshared"]


def test_what_was_taken_is_known_by_way_of_others():
    """b takes the first, tells c, and c tells a."""
    rings, _ = _rings(
        _graph(
            "%1 = cgc.call @a::@f(%0) : !cgc.object",
            "%2 = cgc.call @b::@f(%1) : !cgc.object",
            "%3 = cgc.call @c::@f(%2) : !cgc.object",
            "%4 = cgc.call @a::@f(%3) : !cgc.object",
            "%5 = cgc.call @b::@f(%4) : !cgc.object",
            "cgc.output %5",
        )
    )
    assert ("a", ("b",), 2) in rings


def test_messages_that_may_be_under_way_together_have_channels_of_their_own():
    """a makes the second without waiting for anything that b does."""
    rings, _ = _rings(
        _graph(
            "%1 = cgc.call @a::@f(%0) : !cgc.object",
            "%2 = cgc.call @a::@g(%1) : !cgc.object",
            "%3 = cgc.call @b::@f(%1) : !cgc.object",
            "%4 = cgc.call @b::@f(%2, %3) : !cgc.object",
            "cgc.output %4",
        )
    )
    assert [ring for ring in rings if ring[0] == "a"] == [("a", ("b",), 1)] * 2


def test_all_readers_have_to_be_done():
    """b is known to have taken the first, c is not."""
    calls = [
        "%1 = cgc.call @a::@f(%0) : !cgc.object",
        "%2 = cgc.call @b::@f(%1) : !cgc.object",
        "%3 = cgc.call @c::@f(%1) : !cgc.object",
        "%4 = cgc.call @a::@f(%2) : !cgc.object",
        "%5 = cgc.call @b::@f(%4) : !cgc.object",
        "%6 = cgc.call @c::@f(%4, %3) : !cgc.object",
        "cgc.output [%5, %6]",
    ]
    rings, _ = _rings(_graph(*calls))
    assert [ring for ring in rings if ring[0] == "a"] == [("a", ("b", "c"), 1)] * 2
    calls[3] = "%4 = cgc.call @a::@f(%2, %3) : !cgc.object"
    rings, _ = _rings(_graph(*calls))
    assert [ring for ring in rings if ring[0] == "a"] == [("a", ("b", "c"), 2)]


def test_an_actor_gets_the_parts_of_the_input_that_it_uses_and_no_others():
    """What both use goes to both in one message, the rest to the one that uses it."""
    a, b = (abstract_actor("Stage", name=name) for name in "ab")
    with InputNode() as inp:
        dag = MultiOutputNode([a.f.bind(inp[0]), b.f.bind(inp[0], inp[1]), b.g.bind(inp[2])])
    graph = next(graphs_of(cgc.lower(dag).unit.module))
    part_of = {op.result: op.key_value for op in graph.walk() if op.name == "cgc.input_attr"}
    readers = {op.sym_name.data: op.reader_names for op in graph.walk() if isinstance(op, ChannelOp)}
    writes = [op for op in graph.walk() if op.name == "cgc.write" and readers[op.channel_name] != ("driver",)]
    sent = {readers[write.channel_name]: [part_of[value] for value in write.operands] for write in writes}
    assert sent == {("a", "b"): [0], ("b",): [1, 2]}


@pytest.mark.parametrize(
    ("size", "slot_bytes"), [(None, 64 * 16 * 4 + 1024), (1_000_000, 64 * 16 * 4 + 1024), (200, 256)]
)
def test_the_buffer_size_of_the_public_options_is_that_of_static_slots(size, slot_bytes):
    (a,) = (abstract_actor("Stage", name=name) for name in "a")
    with InputNode() as inp:
        dag = a.f.bind(inp).with_tensor_transport(transport="shm", _static_shape=True)
    unit = cgc.lower(dag, buffer_size_bytes=size, pipeline="verify-graph").unit
    text = print_module(unit.module).replace("!cgc.tensor<default", "!cgc.tensor<default, [64, 16], float32")
    passes = passes_of(default_pipeline(CompileOptions(buffer_size_bytes=size)))
    parsed = Unit(parse_module(text))
    PassManager(passes).run(parsed)
    channel = [op for op in parsed.module.walk() if isinstance(op, ChannelOp)][-1]
    assert channel.slot_bytes.data == slot_bytes


def test_what_a_channel_declares_is_checked():
    unit = Unit(parse_module(BACK_AND_FORTH))
    PassManager(passes_of(PIPELINE)).run(unit)
    text = print_module(unit.module).replace("shared 2", "shared 3")
    with pytest.raises(IRVerifyError, match="@c1 is shared by 2 writes, not by 3"):
        verify_module(parse_module(text))
