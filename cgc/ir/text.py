"""
cgc IR as text: `print_module` and `parse_module`, inverse to each other.

The text is MLIR's syntax. Operations that know where their `.bind` was print `loc("stages.py":13:0)` behind them; the
enclosing `builtin.module` is implied.
"""

from __future__ import annotations

import difflib
import re
from io import StringIO
from typing import Any, NoReturn

from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.ir import Operation
from xdsl.parser import Parser, ParserState
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRTokenKind

from cgc.errors import IRParseError
from cgc.ir.base import CgcOp
from cgc.ir.dialect import context


def print_module(module: ModuleOp, *, locations: bool = True) -> str:
    """The module as text, without locations if asked for (for comparing what does not depend on files)."""
    stream = StringIO()
    printer = IRPrinter(stream=stream, locations=locations)
    for operation in module.body.ops:
        printer.print_op(operation)
        printer.print_string("\n")
    return stream.getvalue()


def parse_module(text: str, filename: str = "<text>") -> ModuleOp:
    """
    The module that `text` spells; inverse of `print_module`. Checks syntax, not the rules of a level.

    Raises `IRParseError` with file, line, column and a caret.
    """
    position = 0
    try:
        parser = IRParser(text, filename)
        try:
            return parser.parse_module()
        finally:
            position = parser.pos
    except ParseError as error:
        raise _located(error.msg, error.span.start, error.span.end, text, filename) from None
    except VerifyException as error:
        # An attribute whose parameters are each well-formed but do not fit together.
        raise _located(str(error), position, position, text, filename) from None
    except RecursionError:
        raise _located("nested too deeply", position, position, text, filename) from None
    except Exception as error:
        # The parsers of xDSL's own attributes, which any operation may carry, let all kinds of exceptions through.
        raise _located(f"not understood ({error})", position, position, text, filename) from error


class IRPrinter(Printer):
    """Prints known locations only, and strings as they are instead of as bytes."""

    def __init__(self, stream: StringIO, *, locations: bool) -> None:
        super().__init__(stream=stream)
        self._locations = locations

    def print_op(self, op: Operation) -> None:
        super().print_op(op)
        if self._locations and not isinstance(op.location, UnknownLoc):
            self.print_string(" ")
            self.print_attribute(op.location)

    def print_string_literal(self, string: str) -> None:
        self.print_string(f'"{string.translate(_ESCAPES)}"')


class IRLexer(MLIRLexer):
    """xDSL's lexer, whose pattern for strings takes exponential time to find that a string has no end."""

    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*"')


class IRParser(Parser):
    """
    xDSL's parser with some repairs.

    It accepts non-ASCII text in string literals that also have escapes, which xDSL takes for bytes; an unknown
    operation or type is an error at its name, which xDSL reports one token too late; and an operation in generic form
    must have what its definition asks for, so that whatever was parsed can be printed.
    """

    def __init__(self, text: str, filename: str) -> None:
        super().__init__(context(), "", filename)
        self._parser_state = ParserState(IRLexer(Input(text, filename)))

    def _parse_generic_operation(self, op_type: type[Operation]) -> Operation:
        operation = super()._parse_generic_operation(op_type)
        if isinstance(operation, CgcOp):
            operation.get_irdl_definition().verify(operation)
        return operation

    def _get_op_by_name(self, name: str) -> type[Operation]:
        stack = self._parser_state.dialect_stack
        if (known := self.ctx.get_optional_op(name, dialect_stack=stack)) is not None:
            return known
        self._raise_unknown("operation", name, [op.name for op in self.ctx.loaded_ops])

    def _parse_extended_type_or_attribute(self, name: str, is_type: bool) -> Any:
        if is_type and "." in name and self.ctx.get_optional_type(name) is None:
            self._raise_unknown("type", name, [kind.name for kind in self.ctx.loaded_types])
        return super()._parse_extended_type_or_attribute(name, is_type)  # type: ignore[call-overload]

    def _raise_unknown(self, kind: str, name: str, names: list[str]) -> NoReturn:
        known = {known.removeprefix("cgc."): known for known in names if known.startswith("cgc.")}
        close = difflib.get_close_matches(name.removeprefix("cgc."), known, n=1)
        hint = f"; did you mean '{known[close[0]]}'?" if close else f" (known: {', '.join(known.values())})"
        start = self.lexer.input.content.rfind(name, 0, self.pos)
        self.raise_error(f"unknown {kind} '{name}'{hint}", start, start + len(name))

    def parse_optional_str_literal(self) -> str | None:
        if self._current_token.kind == MLIRTokenKind.BYTES_LIT:
            position = self.pos
            try:
                return self.parse_bytes_literal().decode()
            except UnicodeDecodeError:
                self.raise_error("string literal is not valid UTF-8", position)
        return super().parse_optional_str_literal()


_ESCAPES = {code: f"\\{code:02X}" for code in (*range(0x20), 0x22, 0x7F)} | {0x5C: "\\\\"}


def _located(reason: str, start: int, end: int, text: str, filename: str) -> IRParseError:
    start = min(start, len(text))
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    source = text[first:] if last < 0 else text[first:last]
    width = min(end, first + len(source)) - start
    return IRParseError(reason, filename, text.count("\n", 0, start) + 1, start - first + 1, source, width)
