"""What all operations share: construction, errors that carry a location, and the common parts of their text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NoReturn, TypeVar, cast

from typing_extensions import TypeIs
from xdsl.dialects.builtin import (
    ArrayAttr,
    FileLineColLoc,
    IntAttr,
    LocationAttr,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from cgc.ir.attributes import TransportAttr, parse_transport, print_transport

Property = Attribute | int | str | bool | None
"""A property as constructors take it: int is IntAttr, str StringAttr, True UnitAttr; None and False are no property."""

_OpT = TypeVar("_OpT", bound=Operation)


class OperationError(VerifyException):
    """
    A rule that one operation breaks: `error: stages.py:13: cgc.send: …`.

    Attributes:
        location: `file:line` of the operation, or `""`.
        operation: Its name, e.g. `cgc.send`.
        reason: What is wrong, without location.
    """

    def __init__(self, operation: Operation, reason: str) -> None:
        self.location = location_text(operation)
        self.operation = operation.name
        self.reason = reason
        super().__init__(f"error: {self.location + ': ' if self.location else ''}{operation.name}: {reason}")


class CgcOp(IRDLOperation):
    """Base of every operation of the dialect."""

    def __init__(
        self,
        operands: Sequence[SSAValue] = (),
        result_types: Sequence[Attribute] = (),
        properties: Mapping[str, Property] | None = None,
        regions: Sequence[Region] = (),
        location: LocationAttr | None = None,
    ) -> None:
        # Past IRDLOperation.__init__, which takes four times as long to sort out segments that we do not have.
        Operation.__init__(
            self,
            operands=operands,
            result_types=result_types,
            properties={
                name: _property(value)
                for name, value in (properties or {}).items()
                if value is not None and value is not False
            },
            regions=regions,
            location=location,
        )

    def emit_error(self, message: str, underlying_error: Exception) -> NoReturn:
        """Raise `OperationError`; xDSL's own version prints the whole module without a location."""
        reason = message.removeprefix("Operation does not verify: ")
        raise OperationError(self, reason) from underlying_error


def is_any(operation: Operation, kinds: tuple[type[_OpT], ...]) -> TypeIs[_OpT]:
    """`isinstance(operation, kinds)`, in a fifth of the time: operations are abstract base classes."""
    return _is_subclass(type(operation), kinds)


@lru_cache(maxsize=4096)
def file_location(file: str, line: int) -> FileLineColLoc:
    """The location attribute; many operations come from one line, so it is kept."""
    return FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(0))


def location_text(operation: Operation) -> str:
    """`file:line` of the `.bind` that the operation came from, or `""`."""
    location = operation.location
    return f"{location.filename.data}:{location.line.data}" if isinstance(location, FileLineColLoc) else ""


def parse_operand(parser: Parser) -> SSAValue:
    """An operand, whose type follows from its definition (which comes first: no operation jumps)."""
    return resolve(parser, parser.parse_unresolved_operand())


def resolve(parser: Parser, operand: UnresolvedOperand) -> SSAValue:
    values = parser.ssa_values.get(operand.operand_name)
    if values is None:
        parser.raise_error(f"%{operand.operand_name} is used before it is defined", operand.span)
    if operand.index >= len(values):
        parser.raise_error(f"%{operand.operand_name} has {len(values)} values", operand.span)
    return values[operand.index]


def parse_operands(parser: Parser) -> list[SSAValue]:
    """`operands ::= "(" (operand ("," operand)*)? ")"`"""
    return parser.parse_comma_separated_list(Parser.Delimiter.PAREN, lambda: parse_operand(parser))


def print_operands(printer: Printer, operands: Iterable[SSAValue]) -> None:
    printer.print_string("(")
    printer.print_list(operands, printer.print_operand)
    printer.print_string(")")


def parse_result_types(parser: Parser) -> list[Attribute]:
    """`result-types ::= (":" type ("," type)*)?`"""
    if parser.parse_optional_punctuation(":") is None:
        return []
    return list(parser.parse_comma_separated_list(Parser.Delimiter.NONE, parser.parse_type))


def print_result_types(printer: Printer, operation: Operation) -> None:
    if operation.results:
        printer.print_string(" : ")
        printer.print_list(operation.results, lambda result: printer.print_attribute(result.type))


def parse_symbol(parser: Parser) -> SymbolRefAttr:
    """`symbol ::= "@" name`"""
    return symbol_ref(parser.parse_symbol_name().data)


def parse_symbols(parser: Parser) -> ArrayAttr[SymbolRefAttr]:
    """`symbols ::= "[" (symbol ("," symbol)*)? "]"`"""
    return ArrayAttr(parser.parse_comma_separated_list(Parser.Delimiter.SQUARE, lambda: parse_symbol(parser)))


def print_symbols(printer: Printer, symbols: ArrayAttr[SymbolRefAttr]) -> None:
    printer.print_string("[")
    printer.print_list(symbols.data, printer.print_attribute)
    printer.print_string("]")


def parse_block_region(parser: Parser) -> Region:
    """A region of exactly one block, which may be empty."""
    return parser.parse_region(arguments=())


def print_block_region(printer: Printer, region: Region) -> None:
    printer.print_string(" ")
    printer.print_region(region, print_empty_block=False)


def parse_int(parser: Parser) -> IntAttr:
    return int_attr(parser.parse_integer(allow_boolean=False, allow_negative=False))


def parse_optional_int(parser: Parser, keyword: str) -> IntAttr | None:
    """`(keyword integer)?`"""
    return parse_int(parser) if parser.parse_optional_keyword(keyword) is not None else None


def parse_optional_string(parser: Parser, keyword: str) -> StringAttr | None:
    """`(keyword string)?`"""
    return StringAttr(parser.parse_str_literal()) if parser.parse_optional_keyword(keyword) is not None else None


def parse_attributes(parser: Parser, operation: _OpT) -> _OpT:
    """Discardable attributes (remarks of passes and the like): `attributes ::= ("{" … "}")?`"""
    operation.attributes = parser.parse_optional_attr_dict()
    return operation


def parse_keyword_int(parser: Parser, keyword: str) -> IntAttr:
    """`keyword integer`"""
    parser.parse_keyword(keyword)
    return parse_int(parser)


def parse_via(parser: Parser) -> TransportAttr:
    """`"via" transport`"""
    parser.parse_keyword("via")
    return parse_transport(parser)


def parse_place(parser: Parser, properties: dict[str, Attribute | None]) -> None:
    """`"via" transport "order" integer ("stream" integer)?`, into `properties`."""
    properties["transport"] = parse_via(parser)
    properties["order"] = parse_keyword_int(parser, "order")
    properties["stream"] = parse_optional_int(parser, "stream")


def finish(
    parser: Parser, kind: type[_OpT], operands: Sequence[SSAValue], properties: Mapping[str, Attribute | None]
) -> _OpT:
    """The operation with what was parsed so far, and `result-types attributes` that follow."""
    present = {name: value for name, value in properties.items() if value is not None}
    types = parse_result_types(parser)
    return parse_attributes(parser, kind.create(operands=operands, result_types=types, properties=present))


def finish_with_region(parser: Parser, kind: type[_OpT], properties: Mapping[str, Attribute]) -> _OpT:
    """The operation with what was parsed so far, and `("attributes" "{" … "}")? region` that follow."""
    attributes = parser.parse_optional_attr_dict_with_keyword()
    operation = kind.create(properties=properties, regions=[parse_block_region(parser)])
    operation.attributes = dict(attributes.data) if attributes is not None else {}
    return operation


def print_via(printer: Printer, transport: TransportAttr) -> None:
    printer.print_string(" via ")
    print_transport(printer, transport)


def print_place(printer: Printer, transport: TransportAttr, order: IntAttr, stream: IntAttr | None) -> None:
    print_via(printer, transport)
    printer.print_string(f" order {order.data}")
    print_optional_int(printer, "stream", stream)


def verify_ends(sender: SymbolRefAttr | None, receivers: ArrayAttr[SymbolRefAttr], transport: TransportAttr) -> None:
    """Raise `VerifyException` unless somebody else receives, nobody twice, and the transport is settled."""
    names = symbol_names(receivers)
    if not names:
        raise VerifyException("nobody receives")
    if len(set(names)) != len(names):
        raise VerifyException(f"a receiver is named twice in [{', '.join('@' + name for name in names)}]")
    if sender is not None and sender.root_reference.data in names:
        raise VerifyException(f"@{sender.root_reference.data} sends to itself")
    if transport.is_request:
        raise VerifyException(f"transport '{transport.kind.data}' is a request; infer-types must settle it first")


def print_optional_int(printer: Printer, keyword: str, value: IntAttr | None) -> None:
    if value is not None:
        printer.print_string(f" {keyword} {value.data}")


def print_optional_string(printer: Printer, keyword: str, value: StringAttr | None) -> None:
    if value is not None:
        printer.print_string(f" {keyword} ")
        printer.print_string_literal(value.data)


def symbol_ref(symbol: str | SymbolRefAttr) -> SymbolRefAttr:
    return _symbol_ref(symbol) if isinstance(symbol, str) else symbol


@lru_cache(maxsize=4096)
def method_ref(actor: str, method: str) -> SymbolRefAttr:
    """`@actor::@method`"""
    return SymbolRefAttr(actor, [method])


def symbol_refs(symbols: Iterable[str | SymbolRefAttr]) -> ArrayAttr[SymbolRefAttr]:
    return ArrayAttr([symbol_ref(symbol) for symbol in symbols])


def symbol_names(symbols: ArrayAttr[SymbolRefAttr]) -> tuple[str, ...]:
    return tuple(symbol.root_reference.data for symbol in symbols.data)


def transport_attr(transport: str | TransportAttr) -> TransportAttr:
    return TransportAttr.of(transport) if isinstance(transport, str) else transport


def int_attrs(values: Iterable[int]) -> ArrayAttr[IntAttr]:
    return ArrayAttr([int_attr(value) for value in values])


int_attr = lru_cache(maxsize=4096)(IntAttr)
"""The attribute of an integer; making one takes ten times as long as finding one."""

_is_subclass = lru_cache(maxsize=4096)(issubclass)

_symbol_ref = lru_cache(maxsize=4096)(SymbolRefAttr)


def _property(value: Property) -> Attribute:
    if value is True:
        return UnitAttr()
    if isinstance(value, int):
        return int_attr(value)
    return StringAttr(value) if isinstance(value, str) else cast(Attribute, value)
