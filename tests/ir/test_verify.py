"""Each rule of graphs and bodies, broken on purpose: what is said, and at which operation and location."""

from __future__ import annotations

import pytest

from cgc.errors import IRVerifyError
from cgc.ir import BodyOp, CallOp, GraphOp, InputOp, ModuleOp, OutputOp, parse_module, verify_module
from tests.ir.broken import ACTORS, AT, INPUT, assert_is_refused, in_body

INVALID = {
    # Structure
    "no driver": (
        'cgc.graph @g level = graph {\n  cgc.actor @a actor on "n0"\n}',
        "cgc.graph",
        "there is no driver: declare it with cgc.actor @driver driver",
    ),
    "driver that is an actor": (
        'cgc.graph @g level = graph {\n  cgc.actor @driver actor on "n0"\n}',
        "cgc.actor",
        "@driver, and no other actor, is of kind driver",
    ),
    "two drivers": (
        'cgc.graph @g level = graph {\n  cgc.actor @driver driver on "n0"\n  cgc.actor @d driver on "n0"\n}',
        "cgc.actor",
        "@driver, and no other actor, is of kind driver",
    ),
    "same symbol": (
        'cgc.graph @g level = graph {\n  cgc.actor @driver driver on "n0"\n  cgc.actor @driver driver on "n0"\n}',
        "",
        "driver",
    ),
    "no body": (f"cgc.graph @g level = graph {{\n{ACTORS}}}", "cgc.graph", "has one cgc.body, not 0"),
    "program too early": (
        f"cgc.graph @g level = graph {{\n{ACTORS}  cgc.program @a {{\n  }}\n}}",
        "cgc.program",
        "not allowed in a graph at level 'graph'",
    ),
    "class after level graph": (
        'cgc.graph @g level = placed {\n  cgc.actor @driver driver on "n0"\n  cgc.actor @A class on "n0"\n}',
        "cgc.actor",
        "@A is no actor but a class, which only level 'graph' can show",
    ),
    "loose operation": ("%0 = cgc.input : !cgc.object", "cgc.input", "a module holds nothing but cgc.graph operations"),
    # Bodies
    "no output": (in_body("graph", INPUT), "cgc.body", "the body does not end with cgc.output"),
    "output in the middle": (
        in_body("graph", INPUT, "cgc.output %0", "cgc.output %0"),
        "cgc.output",
        "must be the last operation in its parent block",
    ),
    "unknown actor": (
        in_body("graph", "%0 = cgc.call @z::@f() : !cgc.object" + AT, "cgc.output %0"),
        "cgc.call",
        "error: stages.py:13: cgc.call: there is no actor @z",
    ),
    "transfer too early": (
        in_body("graph", INPUT, "%1 = cgc.transfer %0 from @driver to [@a] via shm : !cgc.object", "cgc.output %0"),
        "cgc.transfer",
        "not allowed in the body of a graph at level 'graph'",
    ),
    "transfer missing": (
        in_body("placed", INPUT, "%1 = cgc.call @a::@f(%0) : !cgc.object" + AT, "cgc.output %0"),
        "cgc.call",
        "error: stages.py:13: cgc.call: operand 0 is a value of @driver; a cgc.transfer must bring it to @a first",
    ),
    "transfer to itself": (
        in_body("placed", INPUT, "%1 = cgc.transfer %0 from @a to [@a] via shm : !cgc.object", "cgc.output %0"),
        "cgc.transfer",
        "@a sends to itself",
    ),
    "transfer to nobody": (
        in_body("placed", INPUT, "cgc.transfer %0 from @driver to [] via shm", "cgc.output %0"),
        "cgc.transfer",
        "nobody receives",
    ),
    "receiver twice": (
        in_body(
            "placed",
            INPUT,
            "%1, %2 = cgc.transfer %0 from @driver to [@a, @a] via shm : !cgc.object, !cgc.object",
            "cgc.output %0",
        ),
        "cgc.transfer",
        "a receiver is named twice in [@a, @a]",
    ),
    "transport not settled": (
        in_body("placed", INPUT, "%1 = cgc.transfer %0 from @driver to [@a] via auto : !cgc.object", "cgc.output %0"),
        "cgc.transfer",
        "transport 'auto' is a request; infer-types must settle it first",
    ),
    "hint not settled": (
        in_body("placed", "%0 = cgc.input : !cgc.tensor<cpu, via auto>", "cgc.output %0"),
        "cgc.input",
        "the result still asks for transport 'auto'",
    ),
    "collective without participants": (
        in_body("graph", INPUT, "%1 = cgc.allgather(%0) on [] via nccl : !cgc.object", "cgc.output %1"),
        "cgc.allgather",
        "every participant gives the same number of values (1 operands, 0 participants)",
    ),
    "participant twice": (
        in_body(
            "placed",
            "%0, %1 = cgc.call @a::@f() : !cgc.object, !cgc.object",
            "%2, %3 = cgc.allgather(%0, %1) on [@a, @a] via nccl : !cgc.object, !cgc.object",
            "cgc.output []",
        ),
        "cgc.allgather",
        "a participant is named twice in [@a, @a]",
    ),
    "collective results": (
        in_body("graph", INPUT, "cgc.allgather(%0) on [@a] via nccl", "cgc.output %0"),
        "cgc.allgather",
        "1 operands, but 0 results",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid(case):
    assert_is_refused(*INVALID[case])


def test_use_before_definition():
    module = parse_module(in_body("graph", INPUT, "%1 = cgc.call @a::@f(%0) : !cgc.object", "cgc.output %1"))
    source = next(op for op in module.walk() if isinstance(op, InputOp))
    body = source.parent
    source.detach()
    body.insert_op_after(source, body.first_op)
    with pytest.raises(IRVerifyError, match=r"cgc\.call: operand 0 is used before it is defined"):
        verify_module(module)


def test_the_template_must_fit_the_operands():
    source = InputOp()
    call = CallOp("a", "f", [source.result])
    call.properties["arguments"] = call.arguments.__class__([])
    graph = GraphOp("g", [BodyOp([source, call, OutputOp([call.results[0]])])])
    with pytest.raises(IRVerifyError, match="the arguments take 0 operands, but there are 1"):
        verify_module(ModuleOp([graph]))
