"""Random graphs through all passes: everything verifies and round-trips, and nothing deadlocks."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.dag import InputNode, MultiOutputNode

from cgc.backend.emit_programs import PRODUCT
from cgc.dump import default_passes
from cgc.ir import graphs_of, parse_module, print_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.analysis.cost import CostModel
from cgc.passes.manager import PassManager
from cgc.passes.overlap_comm import OverlapCommPass
from cgc.passes.verify_schedule import verify
from cgc.runtime import program as runtime

HINTS = [None, {"transport": "auto"}, {"transport": "shm"}, {"transport": "nccl"}]


@st.composite
def graphs(draw, hints=(None,)):
    """A graph over one to four actors; later nodes take earlier ones, and what nobody takes is an output."""
    actors = [
        abstract_actor("Stage", name=f"a{i}", node=draw(st.sampled_from(["n0", "n0", "n1"])), devices=[f"gpu:{i}"])
        for i in range(draw(st.integers(1, 4)))
    ]
    by_part = draw(st.booleans())
    unused = []
    with InputNode() as inp:
        values = [inp[0], inp["k"], inp.attribute] if by_part else [inp]
        inputs = len(values)
        used = set()
        for number in range(draw(st.integers(inputs, 14))):
            taken = draw(st.lists(st.integers(0, len(values) - 1), max_size=3))
            if number < inputs:
                taken.append(number)
            used.update(taken)
            split = taken and max(taken) >= inputs
            arguments = [values[place] for place in taken if place < inputs or values[place] is not None]
            results = draw(st.integers(1, 3)) if split else 1
            method = draw(st.sampled_from(actors)).call.options(num_returns=results)
            node = method.bind(*arguments, draw(st.sampled_from([1, "x", (2,), None])))
            values += list(node) if results > 1 else [node]
        outputs = [place for place in range(inputs, len(values)) if place not in used]
        for place in range(inputs, len(values)):
            hint = draw(st.sampled_from(list(hints)))
            if hint is not None and (hint["transport"] != "nccl" or place not in outputs):
                values[place].with_tensor_transport(**hint)
        unused += [values[place] for place in outputs]
        return MultiOutputNode(unused)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(hints=HINTS), st.booleans())
def test_all_passes_verify_round_trip_and_do_not_deadlock(dag, streams):
    unit = import_graph(dag, max_inflight=3)

    def check(number, name, unit, record):
        text = print_module(unit.module)
        assert print_module(parse_module(text)) == text, name
        for graph in graphs_of(unit.module):
            if graph.level.data in ("scheduled", "allocated"):
                verify(graph, CostModel())

    # All but emit-programs: not every transport can be executed.
    passes = [OverlapCommPass(streams=streams) if one.name == "overlap-comm" else one for one in default_passes(unit)]
    PassManager(passes[:-1], verify_each=True, observers=[check]).run(unit)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(0, 5))
def test_programs_compute_what_the_graph_says(dag, argument):
    """Interpret the programs with queues for channels, and compare with the graph evaluated on its own."""
    unit = import_graph(dag, max_inflight=3)
    graph = next(graphs_of(unit.module))
    expected = _evaluate(graph, argument)
    result = PassManager(default_passes(unit)).run(unit)
    assert _interpret(result.products[PRODUCT], argument) == expected


def _value_of_input(key, argument):
    return ("input", key, argument)


def _evaluate(graph, argument):
    """The outputs of a body, with calls as nested tuples."""
    values = {}
    body = next(op for op in graph.body.block.ops if op.name == "cgc.body")
    for operation in body.body.block.ops:
        if operation.name == "cgc.input":
            values[operation.result] = _value_of_input(None, argument)
        elif operation.name == "cgc.input_attr":
            values[operation.result] = _value_of_input(operation.key_value, argument)
        elif operation.name == "cgc.output":
            return [values[value] for value in operation.operands]
        else:
            made = (operation.actor, operation.method, tuple(values[value] for value in operation.operands))
            values.update({result: (made, index) for index, result in enumerate(operation.results)})
    raise AssertionError("a body ends with cgc.output")


def _interpret(programs, argument):
    """Round robin over the participants; a register that was dropped or never written is an error."""
    queues = {(c.name, reader): [] for p in programs.values() for c in p.channels for reader in c.readers}
    readers = {c.name: c.readers for p in programs.values() for c in p.channels}
    # The register of a trigger is written by nobody: its value is None.
    registers = {name: dict.fromkeys(range(program.registers)) for name, program in programs.items()}
    for name, program in programs.items():
        for operation in program.operations:
            for register in _defined(operation):
                del registers[name][register]
    positions = dict.fromkeys(programs, 0)
    outputs = None
    moved = True
    while moved:
        moved = False
        for name, program in programs.items():
            while positions[name] < len(program.operations):
                operation = program.operations[positions[name]]
                if isinstance(operation, runtime.Read) and not queues[operation.channel, name]:
                    break
                found = _step(operation, name, registers[name], queues, readers, argument)
                outputs = found if isinstance(operation, runtime.Output) else outputs
                for register in getattr(operation, "drop", ()):
                    if register not in getattr(operation, "into", ()):
                        del registers[name][register]
                positions[name] += 1
                moved = True
    assert all(positions[name] == len(program.operations) for name, program in programs.items())
    return outputs


def _defined(operation):
    into = getattr(operation, "into", ())
    return into if isinstance(into, tuple) else (into,)


def _step(operation, actor, registers, queues, readers, argument):
    if isinstance(operation, runtime.Input):
        registers[operation.into] = _value_of_input(operation.key, argument)
    elif isinstance(operation, runtime.Read):
        registers.update(zip(operation.into, queues[operation.channel, actor].pop(0), strict=True))
    elif isinstance(operation, runtime.Write):
        message = [registers[register] for register in operation.values]
        for reader in readers[operation.channel]:
            queues[operation.channel, reader].append(message)
    elif isinstance(operation, runtime.Output):
        return [registers[register] for register in operation.values]
    else:
        taken = tuple(registers[a.index] for a in operation.args if isinstance(a, runtime.Register))
        made = (actor, operation.method, taken)
        registers.update({register: (made, index) for index, register in enumerate(operation.into)})
    return None
