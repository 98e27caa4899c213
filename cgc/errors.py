"""
The error classes of the compiler.

Every message says what is wrong, where (actor, node, file and line of the `.bind`) and what to do. At run time Ray's
own classes are raised where Ray has one. This module imports nothing heavy: workers and the driver share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SHOWN_AROUND = 120
"""Characters of a long line that an error shows on both sides of its position."""


class CgcError(Exception):
    """Base of all errors that cgc raises on its own."""


class Violation(NamedTuple):
    """
    A rule of compiled graphs that a graph breaks.

    `rule` names it, `subject` is the method, class or part of the input that it is about, and `text` says it all.
    """

    rule: str
    subject: str
    text: str


class GraphError(CgcError, ValueError):
    """
    The user's graph is wrong. Also a `ValueError`, which is what Ray raises for the same mistakes.

    Attributes:
        violations: The rules that it breaks, where `verify-graph` found them.
    """

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class SourceError(CgcError):
    """
    Text that was given (IR, a pipeline, a topology, a profile) is wrong; the message shows the line with a caret.

    Attributes:
        reason: What is wrong, without position.
        file: Name of the file that was read.
        line: Line of the error, from 1; 0 if it is the file as a whole.
        column: Column of the error in code points, from 1.
        source: The text of the line.
    """

    def __init__(self, reason: str, file: str, line: int, column: int, source: str = "", width: int = 1) -> None:
        caret = f"\n{_marked(source, column - 1, max(width, 1))}" if source else ""
        place = f"{file}:{line}:{column}" if line else file
        super().__init__(f"{place}: error: {reason}{caret}")
        self.reason = reason
        self.file = file
        self.line = line
        self.column = column
        self.source = source


def _marked(source: str, start: int, width: int) -> str:
    """The line with carets below `width` characters from `start` on; what is far from them is left out."""
    if len(source) > 2 * _SHOWN_AROUND:
        first, last = max(start - _SHOWN_AROUND, 0), start + _SHOWN_AROUND
        head, tail = "…" if first else "", "…" if last < len(source) else ""
        source, start = f"{head}{source[first:last]}{tail}", start - first + len(head)
    # A tab before the caret stays a tab, so that the caret is below its column in any terminal.
    indent = "".join("\t" if character == "\t" else " " for character in source[:start])
    return f"{source}\n{indent}{'^' * min(width, max(len(source) - start, 1))}"


class IRParseError(SourceError):
    """Text is not cgc IR, or not a pipeline of passes."""


class IRVerifyError(CgcError):
    """
    A module breaks a rule of the IR.

    Attributes:
        location: `file:line` of the operation, or `""` if it has none.
        operation: Name of the operation, e.g. `cgc.send`.
    """

    def __init__(self, message: str, location: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.location = location
        self.operation = operation


class PassError(CgcError):
    """
    A pass cannot do its work.

    Attributes:
        pass_name: Name of the pass, e.g. `pair-comm`.
        operation: The operation that it stopped at, or `""`.
        remedy: What to do about it, or `""`.
    """

    def __init__(self, message: str, pass_name: str, operation: str = "", remedy: str = "") -> None:
        super().__init__(f"{pass_name}: {message}" + (f"; {remedy}" if remedy else ""))
        self.pass_name = pass_name
        self.operation = operation
        self.remedy = remedy


class DeadlockError(CgcError):
    """
    A schedule can block for ever.

    Attributes:
        cycle: The operations that wait for one another, in order, each as a short string.
        grid: The step-by-actor grid with the blocked cells marked, as text of several lines.
    """

    def __init__(self, message: str, cycle: Sequence[str] = (), grid: str = "") -> None:
        super().__init__(message + (f"\n{grid}" if grid else ""))
        self.cycle = tuple(cycle)
        self.grid = grid


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the known name that is closest, or nothing; to stand in a message."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
