"""
Arguments of calls: what may stand where an argument stands, as values in Python, as a template in the IR, and as text.

    @a::@fwd(%0, 3, [%1, 2.0], {"key": (%0, "x")}, scale=like opaque<0, "Config">{"left": %1})

A template is one attribute per argument: `OperandAttr` (takes the next SSA operand), a constant, or `NestAttr`, a
container whose items are templates again. Operands fill it from left to right, depth first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ArrayAttr, NoneAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from cgc.ir.attributes import (
    OPERAND,
    Constant,
    LiteralAttr,
    OpaqueAttr,
    OperandAttr,
    parse_optional_literal,
    parse_rest_of_opaque,
    print_literal,
)
from cgc.ir.base import resolve

BRACKETS = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}"), "object": ("{", "}")}
"""Kinds of containers, and how the text writes them."""

KEYED = ("dict", "object")
"""Kinds whose items have keys; those of an object are the names of its fields."""


@irdl_attr_definition
class NestAttr(ParametrizedAttribute):
    """
    A container with operands somewhere in it.

    Parameters:
        kind: One of `BRACKETS`; an `object` is an instance of a dataclass, or a named tuple.
        items: Templates.
        keys: As many constants as items for the kinds of `KEYED`, else none.
        like: For an `object` the one to copy before its fields are set, else nothing.
    """

    name = "cgc.nest"
    kind: StringAttr
    items: ArrayAttr[Attribute]
    keys: ArrayAttr[Attribute]
    like: OpaqueAttr | NoneAttr

    def verify(self) -> None:
        kind = self.kind.data
        if kind not in BRACKETS:
            raise VerifyException(f"unknown kind of container '{kind}' (known: {', '.join(BRACKETS)})")
        if len(self.keys.data) != (len(self.items.data) if kind in KEYED else 0):
            raise VerifyException(f"a {kind} of {len(self.items.data)} items has {len(self.keys.data)} keys")
        if (kind == "object") != isinstance(self.like, OpaqueAttr):
            raise VerifyException("an object, and no other container, says what it is like")
        if not all(isinstance(item, OperandAttr | LiteralAttr | OpaqueAttr | NestAttr) for item in self.items.data):
            raise VerifyException("an item of a container is an operand, a constant or a container")


Template = OperandAttr | LiteralAttr | OpaqueAttr | NestAttr


@dataclass(frozen=True, slots=True)
class Nest:
    """What a `NestAttr` says, with the SSA values in their places."""

    kind: str
    items: Sequence[Bound]
    keys: Sequence[Constant] = ()
    like: OpaqueAttr | None = None


Bound = SSAValue | Constant | Nest
"""An argument as Python code handles it."""


def template_of(argument: Bound) -> Template:
    """The attribute of an argument, in which operands have no names."""
    if isinstance(argument, SSAValue):
        return OPERAND
    if not isinstance(argument, Nest):
        return argument
    items = ArrayAttr([template_of(item) for item in argument.items])
    return NestAttr(StringAttr(argument.kind), items, ArrayAttr(argument.keys), argument.like or NoneAttr())


def operands_of(argument: Bound) -> Iterator[SSAValue]:
    """The SSA values of an argument, in the order in which a template takes them."""
    if isinstance(argument, SSAValue):
        yield argument
    elif isinstance(argument, Nest):
        for item in argument.items:
            yield from operands_of(item)


def fill(template: Attribute, operands: Iterator[SSAValue]) -> Bound:
    """Inverse of `template_of`: the argument with the next operands in the places that take one."""
    if isinstance(template, OperandAttr):
        return next(operands)
    if not isinstance(template, NestAttr):
        assert isinstance(template, LiteralAttr | OpaqueAttr), "verify() lets nothing else be an item"
        return template
    like = template.like if isinstance(template.like, OpaqueAttr) else None
    keys = [key for key in template.keys.data if isinstance(key, LiteralAttr | OpaqueAttr)]
    return Nest(template.kind.data, [fill(item, operands) for item in template.items.data], keys, like)


def operand_count(template: Attribute) -> int:
    """How many operands a template takes."""
    if isinstance(template, NestAttr):
        return sum(operand_count(item) for item in template.items.data)
    return int(isinstance(template, OperandAttr))


def parse_argument(parser: Parser) -> tuple[str | None, Bound]:
    """`argument ::= (name "=")? value`, a name may be quoted; for values see `parse_value`."""
    value = _parse_optional_value(parser)
    if isinstance(value, LiteralAttr) and parser.parse_optional_punctuation("=") is not None:
        # What looked like a literal was the name: `"a b"=1`, `none=1`.
        return (str(value.value) if value.data.startswith('"') else value.data), parse_value(parser)
    if value is not None:
        return None, value
    name = parser.parse_identifier(" or a value")
    if name == "opaque" and parser.parse_optional_punctuation("<") is not None:
        return None, parse_rest_of_opaque(parser)
    if name == "like" and parser.parse_optional_keyword("opaque") is not None:
        return None, _parse_rest_of_object(parser)
    parser.parse_punctuation("=")
    return name, parse_value(parser)


def parse_value(parser: Parser) -> Bound:
    """`value ::= operand | literal | opaque | list | tuple | dict | "like" opaque dict`"""
    value = _parse_optional_value(parser)
    if value is not None:
        return value
    if parser.parse_optional_keyword("like") is not None:
        parser.parse_keyword("opaque")
        return _parse_rest_of_object(parser)
    return _parse_opaque(parser)


def print_argument(printer: Printer, name: str | None, value: Bound) -> None:
    """As `parse_argument` reads it."""
    if name is not None:
        printer.print_identifier_or_string_literal(name)
        printer.print_string("=")
    _print_value(printer, value)


def _parse_optional_value(parser: Parser) -> Bound | None:
    literal = parse_optional_literal(parser)
    if literal is not None:
        return literal
    operand = parser.parse_optional_unresolved_operand()
    if operand is not None:
        return resolve(parser, operand)
    items = parser.parse_optional_comma_separated_list(Parser.Delimiter.SQUARE, lambda: parse_value(parser))
    if items is not None:
        return Nest("list", items)
    items = parser.parse_optional_comma_separated_list(Parser.Delimiter.PAREN, lambda: parse_value(parser))
    if items is not None:
        return Nest("tuple", items)
    entries = parser.parse_optional_comma_separated_list(Parser.Delimiter.BRACES, lambda: _parse_entry(parser))
    return None if entries is None else _keyed("dict", entries, None)


def _parse_rest_of_object(parser: Parser) -> Nest:
    """`object ::= "like" "opaque" "<" index "," summary ">" "{" entry ("," entry)* "}"`, from behind `opaque`"""
    parser.parse_punctuation("<")
    like = parse_rest_of_opaque(parser)
    entries = parser.parse_comma_separated_list(Parser.Delimiter.BRACES, lambda: _parse_entry(parser))
    return _keyed("object", entries, like)


def _parse_entry(parser: Parser) -> tuple[Constant, Bound]:
    """`entry ::= (literal | opaque) ":" value`"""
    key = parse_optional_literal(parser) or _parse_opaque(parser)
    parser.parse_punctuation(":")
    return key, parse_value(parser)


def _keyed(kind: str, entries: Sequence[tuple[Constant, Bound]], like: OpaqueAttr | None) -> Nest:
    return Nest(kind, [item for _, item in entries], [key for key, _ in entries], like)


def _parse_opaque(parser: Parser) -> OpaqueAttr:
    parser.parse_keyword("opaque", " or another value")
    parser.parse_punctuation("<")
    return parse_rest_of_opaque(parser)


def _print_value(printer: Printer, value: Bound) -> None:
    if isinstance(value, SSAValue):
        printer.print_operand(value)
    elif isinstance(value, LiteralAttr):
        print_literal(printer, value)
    elif isinstance(value, OpaqueAttr):
        printer.print_string("opaque")
        value.print_parameters(printer)
    else:
        _print_nest(printer, value)


def _print_nest(printer: Printer, nest: Nest) -> None:
    if nest.like is not None:
        printer.print_string("like ")
        _print_value(printer, nest.like)
    opening, closing = BRACKETS[nest.kind]
    printer.print_string(opening)
    for position, item in enumerate(nest.items):
        if position:
            printer.print_string(", ")
        if nest.keys:
            _print_value(printer, nest.keys[position])
            printer.print_string(": ")
        _print_value(printer, item)
    printer.print_string(closing)
