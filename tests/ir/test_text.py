"""The text of the IR: the document's examples, and what is said about text that is wrong."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from cgc.errors import IRParseError
from cgc.ir import CallOp, graphs_of, location_text, parse_module, print_module, verify_module

DOCUMENT = Path(__file__).parents[2] / "docs" / "ir.md"

BODY = 'cgc.graph @g level = graph {\n  cgc.actor @driver driver on "n0"\n  cgc.body {\n    %s\n  }\n}\n'


def examples() -> dict[str, str]:
    blocks = re.findall(r"```mlir\n(cgc\.graph .*?)```", DOCUMENT.read_text(), re.DOTALL)
    return {re.search(r"level = (\w+)", block).group(1): block for block in blocks}


@pytest.mark.parametrize("level", ["graph", "placed", "scheduled", "allocated"])
def test_the_document_shows_valid_ir_as_it_is_printed(level):
    text = examples()[level]
    module = parse_module(text, "docs/ir.md")
    verify_module(module)
    assert print_module(module) == text


def test_the_document_lists_every_operation():
    from cgc.ir import CGC

    document = DOCUMENT.read_text()
    assert [op.name for op in CGC.operations if f"`{op.name}`" not in document and op.name != "cgc.graph"] == []


def test_locations_are_kept_and_can_be_left_out():
    module = parse_module(BODY % 'cgc.call @a::@f() : !cgc.object loc("stages.py":13:0)')
    call = next(op for op in module.walk() if isinstance(op, CallOp))
    assert location_text(call) == "stages.py:13"
    assert "loc(" in print_module(module)
    assert "loc(" not in print_module(module, locations=False)


def test_an_explicit_module_and_comments_are_accepted():
    text = examples()["graph"]
    wrapped = parse_module("// a comment\nbuiltin.module {\n" + text + "}\n")
    assert print_module(wrapped) == text


def test_discardable_attributes_are_kept():
    text = BODY % '%0 = cgc.input : !cgc.object {remark = "one reader"}\n    cgc.output %0 {n = 3 : i64}'
    assert print_module(parse_module(text)) == text
    text = text.replace("level = graph {", 'level = graph attributes {pass = "x"} {')
    assert print_module(parse_module(text)) == text


ERRORS = {
    "undefined": ("cgc.output %3", 4, 16, "%3 is used before it is defined", "%3"),
    "operation": ("cgc.frobnicate @a", 4, 5, "unknown operation 'cgc.frobnicate' (known: cgc.graph", "cgc.frobnicate"),
    "misspelt": ("cgc.outptu %0", 4, 5, "unknown operation 'cgc.outptu'; did you mean 'cgc.output'?", "cgc.outptu"),
    "transport": (
        "cgc.channel @c ncl from @a to [@b] slots 1 slot_bytes 1",
        4,
        20,
        "unknown transport 'ncl' (known: auto, accelerator, local, shm, tcp, nccl, gloo, cuda_ipc, custom)",
        "ncl",
    ),
    "type": (
        "%0 = cgc.input : !cgc.thing",
        4,
        23,
        "unknown type 'cgc.thing' (known: cgc.object, cgc.tensor, cgc.future)",
        "cgc.thing",
    ),
    "positional after keyword": (
        "cgc.call @a::@f(k=1, 2)",
        4,
        26,
        "a positional argument follows a keyword argument",
        "2",
    ),
    "keyword twice": ("cgc.call @a::@f(k=1, k=2)", 4, 26, "keyword argument 'k' is given twice", "k"),
    "number": ("cgc.call @a::@f(-x)", 4, 22, "expected a number after '-'", "x"),
    "results": ("%0, %1 = cgc.input : !cgc.object", 4, 5, "Operation has 1 results, but was given 2 to bind.", ""),
    "no future": ("%0 = cgc.input : !cgc.object\n%1 = cgc.wait %0", 5, 15, "expected a !cgc.future", "%0"),
    "string": ('cgc.actor @a actor on "x', 4, 27, "End of file reached before closing string literal.", ""),
    "two blocks": ("cgc.group {\n^1:\n}", 5, 1, "invalid block name", ""),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_show_line_column_and_a_caret(case):
    text, line, column, reason, marked = ERRORS[case]
    with pytest.raises(IRParseError) as caught:
        parse_module(BODY % text, "wrong.mlir")
    error = caught.value
    assert (error.file, error.line, error.column) == ("wrong.mlir", line, column), error
    assert reason in error.reason
    head, source, caret = str(error).splitlines()
    assert head.startswith(f"wrong.mlir:{line}:{column}: error: ")
    assert source == (BODY % text).splitlines()[line - 1]
    if marked:
        start = len(caret) - len(caret.lstrip())
        assert source[start : start + len(caret.strip())] == marked


@pytest.mark.parametrize("text", ["", " \n", "// x\n", "%", "\0", "{", "cgc.graph", "cgc.graph @g level = graph"])
def test_text_that_ends_early_or_holds_nothing(text):
    with pytest.raises(IRParseError):
        parse_module(text)


def test_text_with_carriage_returns_and_tabs():
    text = examples()["graph"]
    assert print_module(parse_module(text.replace("\n", "\r\n").replace("  ", "\t"))) == text
    with pytest.raises(IRParseError, match=r"\n\t\t\t\^"):
        parse_module("cgc.graph @g level = graph {\n\t\t\tcgc$\n}")


def test_no_recursion_limit_for_many_operations():
    lines = ["%0 = cgc.input : !cgc.object"]
    lines += [f"%{n} = cgc.call @a::@f(%{n - 1}) : !cgc.object" for n in range(1, 3000)]
    module = parse_module(BODY % "\n    ".join([*lines, "cgc.output %2999"]))
    assert sum(1 for _ in next(graphs_of(module)).walk()) == 3004


def test_a_string_without_end_is_found_at_once():
    """The pattern of xDSL's own lexer needs time exponential in the length of such a string."""
    with pytest.raises(IRParseError, match="before closing string literal"):
        parse_module('cgc.actor @a actor on "' + "a " * 200 + "\n")


def test_generic_form_needs_what_the_definition_asks_for():
    with pytest.raises(IRParseError, match=r"property 'message' expected in operation 'cgc\.send'"):
        parse_module(BODY % '%0 = cgc.input : !cgc.object\n"cgc.send"(%0) : (!cgc.object) -> ()')


def test_damaged_text_is_a_parse_error_or_parses_to_something_that_prints():
    """Mutations of valid texts: deleted, repeated and foreign tokens, cut tokens, odd characters."""
    texts = [*examples().values(), BODY % 'cgc.call @a::@f(nan, "é\\0A", k=opaque<0, "x">) {r = 1 : i64} loc("a":1:0)']
    tokens = [re.findall(r'"[^"]*"|[@%!#]?[\w.$]+|\s+|.', text) for text in texts]
    pool = [token for one in tokens for token in one]
    dice = random.Random(4)
    parsed = 0
    for _ in range(250):
        damaged = list(dice.choice(tokens))
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(damaged))
            odd = chr(dice.choice([0, 9, 34, 37, 64, 92, 0xE9, 0x1F600]))
            damaged[place] = dice.choice(["", " " + dice.choice(pool) + " ", damaged[place][:1], odd])
        try:
            module = parse_module("".join(damaged))
        except IRParseError:
            continue
        parsed += 1
        text = print_module(module)
        assert print_module(parse_module(text)) == text
    assert parsed > 0
