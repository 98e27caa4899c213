"""Calls that take nothing begin with the execution; others are left as they are."""

from ray.dag import InputNode, MultiOutputNode

from cgc.ir import Unit, parse_module, print_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of


def _anchored(dag):
    result = PassManager(passes_of("verify-graph,anchor-calls")).run(import_graph(dag))
    text = result.text()
    again = PassManager(passes_of("anchor-calls")).run(Unit(parse_module(text)))
    assert again.text() == text, "a second run changes nothing"
    lines = print_module(result.unit.module, locations=False).splitlines()
    return [line.strip().removesuffix(" : !cgc.object") for line in lines if " = cgc." in line]


def _actors():
    return (abstract_actor("Stage", name=name) for name in "abc")


def test_a_call_that_takes_an_input_is_left_alone():
    a, b, _ = _actors()
    with InputNode() as inp:
        dag = b.fwd.bind(a.fwd.bind(inp), a.load.bind(1))
    assert not any("after" in line for line in _anchored(dag))


def test_the_first_call_of_an_actor_waits_for_an_input_that_the_actor_gets_anyway():
    a, b, _ = _actors()
    with InputNode() as inp:
        weights = a.load.bind("w")
        dag = b.fwd.bind(a.apply.bind(inp, weights), a.load.bind("v"))
    assert _anchored(dag) == [
        "%0 = cgc.input",
        '%1 = cgc.call @a::@load("w") after(%0)',
        "%2 = cgc.call @a::@apply(%0, %1)",
        '%3 = cgc.call @a::@load("v")',
        "%4 = cgc.call @b::@fwd(%2, %3)",
    ]


def test_actors_without_input_share_one_trigger():
    a, b, c = _actors()
    with InputNode() as inp:
        dag = c.join.bind(a.load.bind(), b.load.bind(1), inp)
    assert _anchored(dag) == [
        "%0 = cgc.trigger",
        "%1 = cgc.input",
        "%2 = cgc.call @a::@load() after(%0)",
        "%3 = cgc.call @b::@load(1) after(%0)",
        "%4 = cgc.call @c::@join(%2, %3, %1)",
    ]


def test_a_trigger_where_the_input_is_made_later():
    a, b, _ = _actors()
    early = a.load.bind(1)
    with InputNode() as inp:
        dag = MultiOutputNode([a.apply.bind(inp), b.apply.bind(early)])
    assert _anchored(dag)[:3] == ["%0 = cgc.trigger", "%1 = cgc.call @a::@load(1) after(%0)", "%2 = cgc.input"]


def test_two_actors_that_wait_for_each_other_only():
    """Each later call has its values from the other one; without the triggers both would run ahead together."""
    a, b, c = _actors()
    with InputNode() as inp:
        x, y = a.load.bind(1), b.load.bind(2)
        dag = MultiOutputNode([a.fwd.bind(y), b.fwd.bind(x), c.fwd.bind(inp)])
    assert [line for line in _anchored(dag) if "load" in line] == [
        "%2 = cgc.call @a::@load(1) after(%0)",
        "%3 = cgc.call @b::@load(2) after(%0)",
    ]
