"""
cgc IR as text: `print_module` and `parse_module`, inverse to each other.

The text is MLIR's syntax. Operations that know where their `.bind` was print `loc("stages.py":13:0)` behind them; the
enclosing `builtin.module` is implied.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from io import StringIO
from typing import Any, NoReturn

from xdsl.dialects.builtin import LocationAttr, ModuleOp, UnknownLoc
from xdsl.ir import Attribute, Operation, SSAValue, TypeAttribute
from xdsl.parser import Parser, ParserState
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRToken, MLIRTokenKind, PunctuationSpelling

from cgc.errors import IRParseError
from cgc.ir.base import CgcOp, file_location
from cgc.ir.dialect import context
from cgc.ir.lexer import IRLexer, IRToken

_NO_OPERATION = "expected an operation: a module holds `cgc.graph @name level = … { … }`"


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
        reason = _NO_OPERATION if error.msg == "Could not parse entire input!" else error.msg
        raise _located(reason, error.span.start, error.span.end, text, filename) from None
    except VerifyException as error:
        # An attribute whose parameters are each well-formed but do not fit together.
        raise _located(str(error), position, position, text, filename) from None
    except RecursionError:
        raise _located("nested too deeply", position, position, text, filename) from None
    except Exception as error:
        # The parsers of xDSL's own attributes, which any operation may carry, let all kinds of exceptions through.
        raise _located(f"not understood ({error})", position, position, text, filename) from error


class IRPrinter(Printer):
    """Prints known locations only, and strings as they are instead of as bytes; each attribute is spelled once."""

    def __init__(self, stream: StringIO, *, locations: bool) -> None:
        super().__init__(stream=stream)
        self._locations = locations
        self._write = stream.write
        # By identity: the module keeps its attributes alive while it is printed, and hashing one costs as much.
        self._spelled: dict[int, str] = {}

    def print_string(self, text: str, *, indent: int | None = None) -> None:
        if "\n" in text:
            super().print_string(text, indent=indent)
        else:
            self._write(text)

    def _print_new_line(self, indent: int | None = None, print_message: bool = True) -> None:
        self._write("\n" + " " * ((self._indent if indent is None else indent) * self.indent_num_spaces))

    def print_op(self, op: Operation) -> None:
        if isinstance(op, CgcOp) and not op.regions:
            self._print_results(op)
            self._write(op.name)
            op.print(self)
        else:
            super().print_op(op)
        if self._locations and not isinstance(op.location, UnknownLoc):
            self._write(" ")
            self.print_attribute(op.location)

    def print_ssa_value(self, value: SSAValue) -> str:
        name = self._ssa_values.get(value)
        if name is None:
            return super().print_ssa_value(value)
        self._write("%" + name)
        return name

    def print_attribute(self, attribute: Attribute) -> None:
        text = self._spelled.get(id(attribute))
        if text is None:
            outer, write = self.stream, self._write
            self.stream = inner = StringIO()
            self._write = inner.write
            super().print_attribute(attribute)
            text = self._spelled[id(attribute)] = inner.getvalue()
            self.stream, self._write = outer, write
        self._write(text)

    def print_string_literal(self, string: str) -> None:
        self.print_string(f'"{string.translate(_ESCAPES)}"')


class IRParser(Parser):
    """
    xDSL's parser with some repairs and some short cuts.

    It accepts non-ASCII text in string literals that also have escapes, which xDSL takes for bytes; an unknown
    operation or type is an error at its name, which xDSL reports one token too late; and an operation in generic form
    must have what its definition asks for, so that whatever was parsed can be printed.

    Tokens carry their text, so the questions that are asked most are a comparison; a type, or a location, that is
    spelled as an earlier one is that one.
    """

    def __init__(self, text: str, filename: str) -> None:
        super().__init__(_shared_context(), "", filename)
        self._parser_state = ParserState(IRLexer(Input(text, filename)))
        self._spelled: dict[str, TypeAttribute] = {}

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
        token = self._parser_state.current_token
        if isinstance(token, IRToken):
            if token.kind is not MLIRTokenKind.STRING_LIT:
                return None
            self._consume_token()
            return token.text[1:-1]  # Strings with escapes are no IRToken.
        if token.kind is MLIRTokenKind.BYTES_LIT:
            position = self.pos
            try:
                return self.parse_bytes_literal().decode()
            except UnicodeDecodeError:
                self.raise_error("string literal is not valid UTF-8", position)
        return super().parse_optional_str_literal()

    def parse_integer(self, allow_boolean: bool = True, allow_negative: bool = True, context_msg: str = "") -> int:
        token = self._parser_state.current_token
        if token.kind is not MLIRTokenKind.INTEGER_LIT or not isinstance(token, IRToken):
            return super().parse_integer(allow_boolean, allow_negative, context_msg)
        self._consume_token()
        return int(token.text)

    def parse_optional_type(self) -> TypeAttribute | None:
        start = self._parser_state.current_token
        if start.kind is not MLIRTokenKind.EXCLAMATION_IDENT:
            return super().parse_optional_type()
        match = _PLAIN_TYPE.match(self.lexer.input.content, self.lexer.pos - len(start.text))
        if match is None:
            return super().parse_optional_type()
        known = self._spelled.get(match[0])
        if known is not None:
            self._resume_from(match.end())
            return known
        parsed = super().parse_optional_type()
        if parsed is not None:
            self._spelled[match[0]] = parsed
        return parsed

    def parse_optional_location(self) -> LocationAttr | None:
        token = self._parser_state.current_token
        if token.text != "loc":
            return None
        match = _PLAIN_LOCATION.match(self.lexer.input.content, self.lexer.pos - len(token.text))
        if match is None:
            return super().parse_optional_location()
        self._resume_from(match.end())
        return file_location(match[1], int(match[2]))

    def _consume_token(self, expected_kind: MLIRTokenKind | None = None) -> MLIRToken:
        state = self._parser_state
        token = state.current_token
        state.current_token = state.lexer.lex()
        return token

    def _parse_optional_token(self, expected_kind: MLIRTokenKind) -> MLIRToken | None:
        return self._consume_token() if self._parser_state.current_token.kind is expected_kind else None

    def parse_optional_keyword(self, keyword: str) -> str | None:
        return self.parse_optional_characters(keyword)

    def parse_optional_punctuation(self, punctuation: PunctuationSpelling) -> PunctuationSpelling | None:
        if self._parser_state.current_token.text != punctuation:
            return None
        self._consume_token()
        return punctuation

    def parse_punctuation(self, punctuation: PunctuationSpelling, context_msg: str = "") -> PunctuationSpelling:
        if self._parser_state.current_token.text != punctuation:
            return super().parse_punctuation(punctuation, context_msg)
        self._consume_token()
        return punctuation

    def parse_optional_characters(self, text: str) -> str | None:
        if self._parser_state.current_token.text != text:
            return None
        self._consume_token()
        return text


_PLAIN_TYPE = re.compile(
    r"!cgc\.(?:object|tensor<[^<>\"#!/\n]*>|future<!cgc\.(?:object|tensor<[^<>\"#!/\n]*>)>)(?![\w$.<-])"
)
"""A type whose spelling says all: no alias, comment or string in it."""

_PLAIN_LOCATION = re.compile(r'loc\("([^"\\\n\v\f]*)":([0-9]+):0\)')

_shared_context = cache(context)
"""Dialects are loaded once: a context does not change while it parses."""

_ESCAPES = {code: f"\\{code:02X}" for code in (*range(0x20), 0x22, 0x7F)} | {0x5C: "\\\\"}


def _located(reason: str, start: int, end: int, text: str, filename: str) -> IRParseError:
    start = min(start, len(text))
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    source = text[first:] if last < 0 else text[first:last]
    width = min(end, first + len(source)) - start
    return IRParseError(reason, filename, text.count("\n", 0, start) + 1, start - first + 1, source, width)
