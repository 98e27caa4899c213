"""
Nodes inside of arguments: which containers are looked into, and what is found there.

Lists, tuples and dicts of exactly these types, named tuples, and instances of dataclasses. Ray finds nodes anywhere in
an object, by pickling it; what is in other objects cannot be replaced there without knowing how they are made.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from ray.dag import DAGNode

from cgc.errors import GraphError

MAX_DEPTH = 64
"""Containers in containers beyond this are refused: one that holds itself would have no end."""


_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
"""Types that are no containers, known without asking: a constant may be a list of a million numbers."""


class Opened(NamedTuple):
    """A container, taken apart: kinds as in `arguments.BRACKETS`, `keys` for dicts and objects only."""

    kind: str
    children: list[Any]
    keys: list[Any]


def open_container(value: Any) -> Opened | None:
    """The parts of a container; None for any other value."""
    if type(value) is list or type(value) is tuple:
        return Opened(type(value).__name__, list(value), [])
    if type(value) is dict:
        return Opened("dict", list(value.values()), list(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Opened("object", list(value), list(value._fields))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return Opened("object", [getattr(value, name) for name in names], names)
    return None


def nodes_within(value: Any, depth: int = MAX_DEPTH) -> Iterator[DAGNode]:
    """The nodes in a value that is none itself, from left to right; a node comes as often as it is there."""
    opened = open_container(value)
    if opened is None:
        return
    if not depth:
        raise GraphError(f"an argument has containers within containers, more than {MAX_DEPTH} deep, or holds itself")
    for child in opened.children:
        if isinstance(child, DAGNode):
            yield child
        elif type(child) not in _ATOMS:
            yield from nodes_within(child, depth - 1)


def without(value: Any, names: list[Any]) -> Any:
    """A copy of a dataclass instance or a named tuple in which the fields `names` are None."""
    if isinstance(value, tuple):
        return value._replace(**dict.fromkeys(names))  # type: ignore[attr-defined]
    blank = copy.copy(value)
    for name in names:
        object.__setattr__(blank, name, None)  # it may be frozen
    return blank
