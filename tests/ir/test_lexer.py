"""The lexer of one pattern finds the same tokens as xDSL's own."""

from __future__ import annotations

import random

import pytest
from xdsl.utils.exceptions import ParseError
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRTokenKind

from cgc.ir.lexer import IRLexer, IRToken
from tests.ir.test_text import examples

PIECES = """ab a.b$ _ %0 %a-b % @a @"a b" @1 !t !0 ! #a #-} #1 {-# { } -> - ... .. 0 12 0x1F 0xg 1. 1.5e3 1.e 1x ""
"a b" "a\\n" "\\22" "é" "\\E9" "x // / * ? | + = : :: ( ) [ ] < > é \t \r\n \0 \n // loc("a":1:0) // comment"""


class Reference(MLIRLexer):
    """xDSL's, but for the pattern that takes exponential time to find that a string has no end."""

    _unescaped_characters_regex = IRLexer._unescaped_characters_regex


def tokens(lexer):
    """What the lexer makes of its input, and the error that it ends with."""
    found = []
    try:
        while not found or found[-1][0] is not MLIRTokenKind.EOF:
            token = lexer.lex()
            found.append((token.kind, token.text, token.span.start, token.span.end, type(token.span)))
    except ParseError as error:
        found.append(error.msg)
    return found


def same(text):
    ours, theirs = tokens(IRLexer(Input(text, "t"))), tokens(Reference(Input(text, "t")))
    assert ours == theirs, text
    return ours


@pytest.mark.parametrize("level", ["graph", "placed", "scheduled", "allocated"])
def test_the_text_of_each_level(level):
    assert len(same(examples()[level])) > 50


def test_what_the_printer_writes_is_found_by_the_pattern():
    lexer = IRLexer(Input(examples()["allocated"].rstrip(), "t"))
    while (token := lexer.lex()).kind is not MLIRTokenKind.EOF:
        assert isinstance(token, IRToken), token.text


def test_pieces_in_any_order():
    pieces = PIECES.split(" ")
    dice = random.Random(1)
    for _ in range(2000):
        same(dice.choice(["", " "]).join(dice.choices(pieces, k=dice.randint(1, 12))))


def test_odd_characters():
    dice = random.Random(2)
    for _ in range(2000):
        same("".join(dice.choices('ab_.$-%@!#^"\\01x9 \n\t/(){}[]<>,:=+*?|é', k=dice.randint(1, 12))))
