"""
Strict reading of small TOML and JSON files (topologies, profiles): every mistake is one message with its line.

    with open_settings("cluster.toml") as section:      # refuses what nobody asked for when the block ends
        latency = section.number("latency-us")
        for place in section.names("devices", ()):
            ...

Parsers keep no positions of keys, so that a line is found again by looking for the keys on the way to it, in order.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from cgc.errors import SourceError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_REQUIRED: Any = object()

Key = str | int
"""A step on the way to a value: the name of a key, or the number of a table in an array of tables."""


@contextmanager
def open_settings(path: str | os.PathLike[str]) -> Iterator[Section]:
    """
    The file's uppermost section; `.json` is JSON, all else TOML.

    Raises:
        SourceError: The file cannot be read or parsed, or has a key that was not asked for by the end of the block.
    """
    path = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SourceError(f"cannot read it: {reason}", path, 0, 0) from error
    root = Section(path, text, (), _parse(path, text))
    yield root
    root.refuse_others()


@dataclass(slots=True)
class Section:
    """
    A table of the file. Values are asked for by key; what was never asked for is refused in the end.

    Attributes:
        path: The file.
        text: What is in it.
        way: The keys that lead here.
        content: The table itself.
    """

    path: str
    text: str
    way: tuple[Key, ...]
    content: dict[str, Any]
    _known: list[str] = field(default_factory=list)
    _inner: list[Section] = field(default_factory=list)

    def number(self, key: str, default: float = _REQUIRED, *, positive: bool = False) -> float:
        """A number that is not negative, or even not 0."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"{key} is a number, got {value!r}", key)
        if not (0 < value <= sys.float_info.max or (value == 0 and not positive)):
            self.fail(f"{key} must be {'positive' if positive else 'a number from 0 on'}, got {value!r}", key)
        return float(value)

    def name(self, key: str, default: str = _REQUIRED) -> str:
        """A text that is not empty."""
        value = self._get(key, default)
        if not isinstance(value, str) or (not value and value is not default):
            self.fail(f"{key} is a name, got {value!r}", key)
        return value

    def names(self, key: str, default: Sequence[str] = _REQUIRED) -> tuple[str, ...]:
        """A name, or a list of names."""
        value = self._get(key, default)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list | tuple) or not all(isinstance(each, str) and each for each in found):
            self.fail(f"{key} is a name or a list of names, got {value!r}", key)
        return tuple(found)

    def flag(self, key: str) -> bool:
        """True or false; false if it is not there."""
        value = self._get(key, False)
        if not isinstance(value, bool):
            self.fail(f"{key} is true or false, got {value!r}", key)
        return value

    def section(self, key: str) -> Section:
        """The table of that name; an empty one if there is none."""
        return self._section(self._get(key, {}), key)

    def sections(self, key: str) -> list[Section]:
        """The tables of an array of tables (`[[key]]`)."""
        value = self._get(key, [])
        if not isinstance(value, list):
            self.fail(f"{key} is a list of tables: write [[{key}]]", key)
        return [self._section(each, key, number) for number, each in enumerate(value)]

    def refuse_others(self) -> None:
        """
        State that all keys have been asked for that this section may have.

        Raises:
            SourceError: There are others.
        """
        for key in self.content:
            if key not in self._known:
                known = sorted(set(self._known))
                self.fail(f"unknown key {key!r}{did_you_mean(key, known)}; known are {', '.join(known)}", key)
        for inner in self._inner:
            inner.refuse_others()

    def fail(self, reason: str, *way: Key) -> NoReturn:
        """Raise the error about what lies at `way` from here."""
        line, column, width = _position(self.text, (*self.way, *way))
        source = self.text.splitlines()[line - 1] if line else ""
        raise SourceError(reason, self.path, line, column, source, width)

    def _get(self, key: str, default: Any) -> Any:
        self._known.append(key)
        if key not in self.content and default is _REQUIRED:
            self.fail(f"{key} is missing")
        return self.content.get(key, default)

    def _section(self, content: Any, *way: Key) -> Section:
        if not isinstance(content, dict):
            self.fail(f"{way[0]} is a table, got {content!r}", *way)
        self._inner.append(Section(self.path, self.text, (*self.way, *way), content))
        return self._inner[-1]


class _TwiceError(Exception):
    """An object of JSON has two values for the key that the error holds."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_unique) if path.endswith(".json") else tomllib.loads(text)
    except json.JSONDecodeError as error:
        _fail_at(path, text, error.lineno, error.colno, f"not JSON: {error.msg}")
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        line, column = map(int, found.groups()) if found else (len(text.splitlines()), 1)
        _fail_at(path, text, line, column, f"not TOML: {reason}")
    except (_TwiceError, RecursionError) as error:
        reason = f"{error.args[0]!r} stands twice in it" if isinstance(error, _TwiceError) else "nested too deeply"
        raise SourceError(reason, path, 0, 0) from None
    if not isinstance(content, dict):
        _fail_at(path, text, 1, 1, f"an object is expected, got a {type(content).__name__}")
    return content


def _fail_at(path: str, text: str, line: int, column: int, reason: str) -> NoReturn:
    source = next(iter(text.splitlines()[line - 1 : line]), "")
    raise SourceError(reason, path, line, column, source)


def _position(text: str, way: Sequence[Key]) -> tuple[int, int, int]:
    """Line, column and width of the last key of `way` that can be found, or zeros."""
    last: re.Match[str] | None = None
    for index, key in enumerate(way):
        if isinstance(key, int):
            continue
        following = way[index + 1] if index + 1 < len(way) else 0
        pattern = re.compile(rf"(?<![\w.-])[\"']?({re.escape(key)})[\"']?(?=\s*[=:\].])")
        for _ in range(following + 1 if isinstance(following, int) else 1):  # a number counts tables of that name
            found = pattern.search(text, last.end() if last else 0)
            last = found or last
    if last is None:
        return 0, 0, 0
    place = last.start(1)
    return text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place), len(last[1])
