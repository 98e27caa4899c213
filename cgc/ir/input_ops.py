"""
Operations that give what an execution begins with: its input, parts of it, and the fact that it has begun.

    %0 = cgc.input : !cgc.object
    %1 = cgc.input_attr %0["key"] : !cgc.object
    %2 = cgc.trigger : !cgc.object

All belong to the driver.
"""

from __future__ import annotations

from typing import cast

from typing_extensions import Self
from xdsl.dialects.builtin import LocationAttr, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, prop_def, result_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from cgc.ir import base
from cgc.ir.attributes import OBJECT, VALUE, LiteralAttr, parse_optional_literal, print_literal
from cgc.ir.base import CgcOp, Property
from cgc.ir.definition import operation_definition

ACCESSORS = ("item", "attr")


class _OriginOp(CgcOp):
    """Common part of `cgc.input` and `cgc.trigger`: one value from nothing."""

    def __init__(self, result_type: Attribute = OBJECT, *, location: LocationAttr | None = None) -> None:
        super().__init__(result_types=[result_type], location=location)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        operation = cls.create(result_types=base.parse_result_types(parser))
        return base.parse_attributes(parser, operation)

    def print(self, printer: Printer) -> None:
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class InputOp(_OriginOp):
    """The whole input of an execution; belongs to the driver."""

    name = "cgc.input"
    result = result_def(VALUE)


@operation_definition
class InputAttrOp(CgcOp):
    """One part of the input: `%0[0]`, `%0["key"]` (accessor `item`) or `%0 attr "key"` (accessor `attr`)."""

    name = "cgc.input_attr"
    source = operand_def(VALUE)
    key = prop_def(LiteralAttr)
    accessor = prop_def(StringAttr)
    result = result_def(VALUE)

    def __init__(
        self,
        source: SSAValue,
        key: int | str,
        accessor: str = "item",
        result_type: Attribute = OBJECT,
        *,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {"key": LiteralAttr.of(key), "accessor": accessor}
        super().__init__([source], [result_type], properties, location=location)

    def verify_(self) -> None:
        if self.accessor.data not in ACCESSORS:
            raise VerifyException(f"unknown accessor '{self.accessor.data}' (known: {', '.join(ACCESSORS)})")
        if type(self.key.value) not in (int, str) or (self.accessor.data == "attr" and type(self.key.value) is int):
            raise VerifyException("the key must be an integer or a string, and a string for accessor 'attr'")

    @property
    def key_value(self) -> int | str:
        return cast("int | str", self.key.value)

    @classmethod
    def parse(cls, parser: Parser) -> InputAttrOp:
        source = base.parse_operand(parser)
        by_name = parser.parse_optional_keyword("attr") is not None
        if not by_name:
            parser.parse_punctuation("[")
        key = parse_optional_literal(parser)
        if key is None or type(key.value) not in (int, str):
            parser.raise_error("expected an integer or a string as key")
        if not by_name:
            parser.parse_punctuation("]")
        operation = cls.create(
            operands=[source],
            result_types=base.parse_result_types(parser),
            properties={"key": key, "accessor": StringAttr("attr" if by_name else "item")},
        )
        return base.parse_attributes(parser, operation)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.source)
        by_name = self.accessor.data == "attr"
        printer.print_string(" attr " if by_name else "[")
        print_literal(printer, self.key)
        printer.print_string("" if by_name else "]")
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class TriggerOp(_OriginOp):
    """The begin of an execution, as a value for calls to wait for that take none; belongs to the driver."""

    name = "cgc.trigger"
    result = result_def(VALUE)
