"""
Pipelines as text: `infer-types,pair-comm,overlap-comm{cost-model=profile.json max-bytes=1048576}`.

    pipeline ::= pass ("," pass)*
    pass     ::= name ("{" (option (" " option)*)? "}")?
    option   ::= name ("=" value)?
    value    ::= a quoted string, or anything without blanks, commas and braces

An option without a value is true. Values get the type of the field that they set.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NoReturn

from cgc.errors import IRParseError

SOURCE = "<pipeline>"


@dataclass(frozen=True, slots=True)
class PassSpec:
    """A pass as the text names it: options by name, with their columns (from 0) for error messages."""

    name: str
    options: dict[str, str]
    column: int = 0
    option_columns: dict[str, int] | None = None


def parse_pipeline(text: str) -> list[PassSpec]:
    """
    The passes that `text` names, in order; blanks around names do not matter.

    Raises:
        IRParseError: The text is not a pipeline; shows the column.
    """
    return _PipelineParser(text).pipeline()


def pipeline_error(text: str, column: int, reason: str, width: int = 1) -> NoReturn:
    """Raise the error of a pipeline's text at a column from 0."""
    raise IRParseError(reason, SOURCE, 1, column + 1, text, width)


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,{}"=]+')
_BLANKS = re.compile(r"\s*")


class _PipelineParser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def pipeline(self) -> list[PassSpec]:
        specs = [self._pass()]
        while self._take(","):
            specs.append(self._pass())
        if self.position < len(self.text):
            self._fail("expected `,` or the end")
        return specs

    def _pass(self) -> PassSpec:
        self._skip_blanks()
        column = self.position
        name = self._match(_NAME, "the name of a pass")
        options: dict[str, str] = {}
        columns: dict[str, int] = {}
        if self._take("{"):
            while not self._take("}"):
                start = self.position
                option = self._match(_NAME, "the name of an option, or `}`").replace("_", "-")
                if option in options:
                    pipeline_error(self.text, start, f"option {option} is given twice", len(option))
                options[option] = self._value() if self._take("=") else "true"
                columns[option] = start
                self._skip_blanks()
        return PassSpec(name, options, column, columns)

    def _value(self) -> str:
        value = self._match(_VALUE, "a value")
        if not value.startswith('"'):
            return value
        try:
            return str(json.loads(value))
        except ValueError:
            self._fail("the string has an unknown escape")

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            self._fail(f"expected {what}")
        self.position = found.end()
        return found.group()

    def _take(self, token: str) -> bool:
        self._skip_blanks()
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        self._skip_blanks()
        return True

    def _skip_blanks(self) -> None:
        found = _BLANKS.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def _fail(self, reason: str) -> NoReturn:
        pipeline_error(self.text, self.position, reason)
