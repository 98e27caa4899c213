"""
cgc IR as text: `print_module` and `parse_module`, inverse to each other.

The text is MLIR's syntax. Operations that know where their `.bind` was print `loc("stages.py":13:0)` behind them; the
enclosing `builtin.module` is implied.
"""

from __future__ import annotations

from io import StringIO

from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.mlir_lexer import MLIRTokenKind

from cgc.errors import IRParseError
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
    parser = IRParser(context(), text, filename)
    try:
        return parser.parse_module()
    except ParseError as error:
        raise _located(error.msg, error.span.start, error.span.end, text, filename) from None
    except VerifyException as error:
        # An attribute whose parameters are each well-formed but do not fit together.
        raise _located(str(error), parser.pos, parser.pos, text, filename) from None
    except RecursionError:
        raise _located("regions are nested too deeply", parser.pos, parser.pos, text, filename) from None


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


class IRParser(Parser):
    """Accepts non-ASCII text in string literals that also have escapes (xDSL takes those for bytes)."""

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
