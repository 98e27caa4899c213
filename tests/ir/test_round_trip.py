"""Whatever can be built prints, parses back to the same module, and prints the same again, at every level."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.dag import InputNode, MultiOutputNode

from cgc.ir import (
    DRIVER,
    ActorOp,
    BodyOp,
    CallOp,
    ChannelOp,
    GraphOp,
    InputOp,
    LiteralAttr,
    ModuleOp,
    OpaqueAttr,
    OutputOp,
    ProgramOp,
    ReadOp,
    RecvOp,
    SendOp,
    TensorType,
    TransferOp,
    TransportAttr,
    WriteOp,
    graphs_of,
    parse_module,
    print_module,
    verify_module,
)
from cgc.ir.abstract import abstract_actor
from cgc.ir.base import file_location
from cgc.ir.importer import import_graph

SETTINGS = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LITERALS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
CONSTANTS = st.one_of(LITERALS.map(LiteralAttr.of), st.builds(OpaqueAttr.of, st.integers(0, 99), TEXTS))
TRANSPORTS = st.one_of(
    st.sampled_from(["auto", "accelerator", "shm", "nccl", "tcp", "gloo", "local", "cuda_ipc"]).map(TransportAttr.of),
    st.builds(TransportAttr.of, st.just("custom"), st.builds(OpaqueAttr.of, st.integers(0, 9), TEXTS)),
)
TENSORS = st.builds(
    TensorType.of,
    st.sampled_from(["default", "cpu", "gpu", "gpu:3"]),
    st.none() | st.lists(st.integers(-1, 10**12), max_size=4),
    st.none() | st.sampled_from(["float32", "bfloat16", "int64"]),
    st.none() | TRANSPORTS,
    static=st.booleans(),
    direct=st.booleans(),
)


def assert_round_trip(module: ModuleOp) -> None:
    text = print_module(module)
    parsed = parse_module(text)
    assert parsed.is_structurally_equivalent(module), text
    assert print_module(parsed) == text


@SETTINGS
@given(st.lists(CONSTANTS, max_size=4), st.dictionaries(TEXTS, CONSTANTS, max_size=4), TENSORS, TEXTS)
def test_arguments_types_and_strings(args, kwargs, tensor, text):
    source = InputOp(tensor)
    call = CallOp(
        "a b" if text else "a", "fwd", [source.result, *args], {**kwargs, "last": source.result}, [tensor, tensor]
    )
    call.location = file_location("st\u00e4ges.py", 13)
    output = OutputOp([*call.results], is_list=True)
    actors = [ActorOp(DRIVER, "driver"), ActorOp("a b" if text else "a", class_name=text, devices=[text], node=text)]
    module = ModuleOp([GraphOp("g", [*actors, BodyOp([source, call, output])])])
    verify_module(module)
    assert_round_trip(module)


@st.composite
def graphs(draw):
    """A graph of random shape: several actors, fan-out and fan-in, parts of the input, several results."""
    actors = [abstract_actor(f"Actor{number % 2}", node=f"n{number % 2}") for number in range(draw(st.integers(1, 4)))]
    with InputNode() as inp:
        parts = [inp] if draw(st.booleans()) else [inp[0], inp["key"], inp.name]
    nodes = [*parts]
    for _ in range(draw(st.integers(1, 12))):
        method = draw(st.sampled_from(actors)).step
        args = draw(st.lists(st.sampled_from(nodes) | st.integers(), min_size=1, max_size=3))
        kwargs = draw(st.dictionaries(st.sampled_from(["left", "right"]), st.sampled_from(nodes), max_size=2))
        if draw(st.booleans()):
            nodes.append(method.bind(*args, **kwargs))
        else:
            nodes.extend(method.options(num_returns=2).bind(*args, **kwargs))
    outputs = draw(st.lists(st.sampled_from(nodes[len(parts) :]), min_size=1, max_size=4))
    return MultiOutputNode(outputs)


@SETTINGS
@given(graphs())
def test_level_graph(dag):
    module = import_graph(dag, max_inflight=3).module
    verify_module(module)
    assert_round_trip(module)


@SETTINGS
@given(graphs())
def test_later_levels(dag):
    module = import_graph(dag).module
    for step in (place, schedule, allocate):
        step(next(graphs_of(module)))
        verify_module(module)
        assert_round_trip(module)


@pytest.mark.parametrize("text", ["\\", '"', "\n\t\0", "é\n", "\u2028", "'", "a.b$c", "", "🙂"])
def test_strings_that_need_care(text):
    assert parse_constant(LiteralAttr.of(text)) == text


@pytest.mark.parametrize(
    "value", [0, -1, 2**200, True, False, None, 0.0, -0.0, 1e-05, 1e300, 5e-324, float("inf"), float("-inf")]
)
def test_numbers_keep_value_and_type(value):
    parsed = parse_constant(LiteralAttr.of(value))
    assert (repr(parsed), type(parsed)) == (repr(value), type(value))


def test_literals_are_equal_exactly_if_they_print_alike():
    distinct = [0, 0.0, -0.0, False, None, "", "0", "none", 1, 1.0, True, float("nan")]
    assert len({LiteralAttr.of(value) for value in distinct}) == len(distinct)
    assert LiteralAttr.of(float("nan")) == LiteralAttr.of(float("nan"))


def parse_constant(literal):
    call = CallOp("a", "f", [literal], {}, [])
    text = print_module(ModuleOp([GraphOp("g", [BodyOp([call])])]))
    parsed = next(op for op in parse_module(text).walk() if isinstance(op, CallOp))
    return parsed.bound[0][0].value


# A plain lowering, so that the later levels are tested on random graphs without the passes.


def place(graph: GraphOp) -> None:
    body = next(op for op in graph.body.block.ops if isinstance(op, BodyOp))
    owner, moved = {}, {}
    for operation in list(body.body.block.ops):
        user = operation.actor if isinstance(operation, CallOp) else DRIVER
        for index, operand in enumerate(operation.operands):
            if owner[operand] == user:
                continue
            if (operand, user) not in moved:
                transfer = TransferOp(operand, owner[operand], [user], "shm", reason="test")
                body.body.block.insert_op_before(transfer, operation)
                moved[operand, user] = transfer.results[0]
            operation.operands[index] = moved[operand, user]
        owner.update((result, user) for result in operation.results)
    graph.properties["level"] = graph.level.__class__("placed")


def schedule(graph: GraphOp) -> None:
    body = next(op for op in graph.body.block.ops if isinstance(op, BodyOp))
    parts, late, messages, order = defaultdict(list), [], count(), count()
    values = {}
    for operation in list(body.body.block.ops):
        if isinstance(operation, TransferOp):
            message, receiver = next(messages), operation.receiver_names[0]
            value = values.get(operation.value, operation.value)
            send = SendOp(value, message, [receiver], "shm", next(order))
            recv = RecvOp(message, operation.sender_name, "shm", next(order), value.type)
            values[operation.results[0]] = recv.result
            parts[operation.sender_name].append(send)
            (late if receiver == DRIVER else parts[receiver]).append(recv)
        else:
            copy = operation.clone(values)
            parts[operation.actor if isinstance(operation, CallOp) else DRIVER].append(copy)
    output = parts[DRIVER].pop()
    for recv in late:  # the driver takes its results after it has sent everything
        recv.properties["order"] = recv.order.__class__(next(order))
    parts[DRIVER] += [*late, output]
    body.detach()
    actors = [op.sym_name.data for op in graph.body.block.ops]
    graph.body.block.add_ops(ProgramOp(actor, parts[actor]) for actor in actors)
    body.erase(safe_erase=False)
    graph.properties["level"] = graph.level.__class__("scheduled")


def allocate(graph: GraphOp) -> None:
    programs = [op for op in graph.body.block.ops if isinstance(op, ProgramOp)]
    for program in programs:
        for operation in list(program.body.block.ops):
            if isinstance(operation, SendOp):
                name = f"c{operation.message.data}"
                channel = ChannelOp(
                    name, "shm", program.actor_name, operation.receiver_names, slots=2, slot_bytes=64, static=True
                )
                graph.body.block.insert_op_before(channel, programs[0])
                write = WriteOp(name, [operation.value], [operation.message.data], operation.order.data)
                program.body.block.insert_op_before(write, operation)
                operation.detach()
                operation.erase()
            elif isinstance(operation, RecvOp):
                message = operation.message.data
                read = ReadOp(f"c{message}", [message], operation.order.data, [operation.result.type])
                program.body.block.insert_op_before(read, operation)
                operation.result.replace_all_uses_with(read.results[0])
                operation.detach()
                operation.erase()
    graph.properties["level"] = graph.level.__class__("allocated")
