"""Containers with nodes in them: what the importer makes of them, and their text."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.errors import GraphError, IRParseError, IRVerifyError
from cgc.ir import ActorOp, BodyOp, CallOp, GraphOp, InputOp, ModuleOp, Nest, OutputOp, parse_module, print_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.attributes import LiteralAttr, OpaqueAttr
from cgc.ir.importer import import_graph
from cgc.ir.verify import DRIVER, verify_module
from cgc.runtime.program import Call


class Stage:
    def fwd(self, *args, **kwargs):
        return args


@dataclasses.dataclass(frozen=True)
class Config:
    left: Any
    right: Any = 0


class Pair(NamedTuple):
    one: Any
    two: Any


def call_text(*args: Any, **kwargs: Any) -> str:
    """The call of a graph whose only call has these arguments, `INPUT` standing for the input."""
    with InputNode() as inp:
        dag = abstract_actor(Stage).fwd.bind(*_with_input(args, inp), **_with_input(kwargs, inp))
    unit = import_graph(dag)
    verify_module(unit.module)
    text = print_module(unit.module)
    assert print_module(parse_module(text)) == text
    found = re.search(r"@fwd(\(.*\)) : ", text)
    assert found is not None
    return found.group(1)


class _Input:
    pass


INPUT: Any = _Input()


def _with_input(value: Any, node: Any) -> Any:
    if value is INPUT:
        return node
    if type(value) in (list, tuple):
        return type(value)(_with_input(item, node) for item in value)
    if type(value) is dict:
        return {key: _with_input(item, node) for key, item in value.items()}
    if isinstance(value, Pair):
        return Pair(*_with_input(tuple(value), node))
    if isinstance(value, Config):
        return Config(_with_input(value.left, node), _with_input(value.right, node))
    return value


def test_containers_of_every_kind():
    assert call_text([INPUT, 1], (INPUT,), {"k": INPUT, 2: None}) == '([%0, 1], (%0), {"k": %0, 2: none})'
    assert call_text(Config(INPUT, 3), Pair(1, INPUT)) == (
        '(like opaque<0, "Config">{"left": %0}, like opaque<1, "Pair">{"two": %0})'
    )


def test_containers_in_containers_and_by_keyword():
    assert call_text(1, x=[{"a": (INPUT, [INPUT])}, INPUT]) == '(1, x=[{"a": (%0, [%0])}, %0])'
    assert call_text(Config([INPUT], (1, 2))) == '(like opaque<0, "Config">{"left": [%0]})'


def test_a_container_without_nodes_is_one_constant():
    assert call_text(INPUT, [1, 2], [(3, 4), INPUT]) == ('(%0, opaque<0, "list of 2">, [opaque<1, "tuple of 2">, %0])')


def test_the_object_to_copy_has_no_nodes_in_it():
    with InputNode() as inp:
        dag = abstract_actor(Stage).fwd.bind(Config(inp, [inp]), Pair(inp, 2))
    assert list(import_graph(dag).constants) == [Config(None, None), Pair(None, 2)]


def test_programs_show_containers():
    with InputNode() as inp:
        dag = abstract_actor(Stage).fwd.bind([inp, 1], (inp,), {"k": inp}, c=Config(inp))
    programs = cgc.lower(dag).products["programs"]
    (call,) = [op for op in programs["Stage_0"].operations if isinstance(op, Call)]
    assert str(call) == "r1 = call fwd([r0, 1], (r0,), {'k': r0}, c=Config(left=r0))    drop r0"


@pytest.mark.parametrize("hide", [lambda node: {node}, lambda node: [frozenset([node])], lambda node: {node: 1}])
def test_nodes_in_other_objects_are_refused(hide):
    with InputNode() as inp:
        dag = abstract_actor(Stage).fwd.bind(inp, hide(abstract_actor("a").f.bind(inp)))
    with pytest.raises(GraphError, match=r"test_arguments\.py:\d+: Stage\.fwd: .* with a node in it .*a\.f\)"):
        import_graph(dag)


def test_a_container_that_holds_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with InputNode() as inp:
        endless.append(inp)
        dag = abstract_actor(Stage).fwd.bind(endless)
    with pytest.raises(GraphError, match="holds itself"):
        import_graph(dag)


def test_a_list_of_nodes_is_no_output():
    with InputNode() as inp:
        dag = MultiOutputNode([[abstract_actor(Stage).fwd.bind(inp)]])
    with pytest.raises(GraphError, match="unpack it"):
        import_graph(dag)


KEYS = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers()).map(LiteralAttr.of)
LEAVES = st.one_of(st.none(), KEYS, st.builds(OpaqueAttr.of, st.integers(0, 9), st.just("x")))


def nests(children: Any) -> Any:
    entries = st.lists(st.tuples(KEYS, children), max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["list", "tuple"]), st.lists(children, max_size=3)),
        st.tuples(st.just("dict"), entries),
        st.tuples(st.just("object"), entries),
    )


def bound(shape: Any, operand: Any) -> Any:
    """None stands for the operand."""
    if shape is None:
        return operand
    if not isinstance(shape, tuple):
        return shape
    kind, items = shape
    if kind in ("list", "tuple"):
        return Nest(kind, [bound(item, operand) for item in items])
    like = OpaqueAttr.of(0, "Config") if kind == "object" else None
    return Nest(kind, [bound(item, operand) for _, item in items], [key for key, _ in items], like)


@given(st.lists(st.recursive(LEAVES, nests, max_leaves=12), max_size=3))
def test_any_nesting_prints_and_parses_back(shapes):
    source = InputOp()
    call = CallOp("a", "f", [bound(shape, source.result) for shape in shapes], {"k": source.result})
    body = BodyOp([source, call, OutputOp([call.results[0]])])
    module = ModuleOp([GraphOp("g", [ActorOp(DRIVER, "driver"), ActorOp("a"), body])])
    verify_module(module)
    text = print_module(module)
    parsed = parse_module(text)
    assert parsed.is_structurally_equivalent(module), text
    assert print_module(parsed) == text


@pytest.mark.parametrize("argument", ["[%0", "{1}", "like [%0]", 'like opaque<0, "C">[%0]', "{%0: 1}", "[x=%0]"])
def test_wrong_text(argument):
    text = (
        "cgc.graph @g level = graph {\n"
        '  cgc.actor @driver driver on "n0"\n  cgc.actor @a actor on "n0"\n'
        f"  cgc.body {{\n    %0 = cgc.input : !cgc.object\n    cgc.call @a::@f({argument})\n    cgc.output %0\n  }}\n}}"
    )
    with pytest.raises(IRParseError, match=":6:"):
        parse_module(text)


def test_a_template_and_its_operands_must_agree():
    source = InputOp()
    call = CallOp("a", "f", [Nest("list", [source.result, source.result])])
    call.operands = [source.result]
    body = BodyOp([source, call, OutputOp([call.results[0]])])
    with pytest.raises(IRVerifyError, match="take 2 operands, but there are 1"):
        verify_module(ModuleOp([GraphOp("g", [ActorOp(DRIVER, "driver"), ActorOp("a"), body])]))
