"""What goes through the compiler: a module, and the Python objects that its text can only refer to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from cgc.ir.attributes import Constant, LiteralAttr, OpaqueAttr
from cgc.ir.graph_ops import GraphOp


class ConstantTable(Sequence[Any]):
    """The objects behind `OpaqueAttr`, by index; the same object has one index however often it is bound."""

    def __init__(self, objects: Sequence[Any] = ()) -> None:
        self._objects: list[Any] = []
        self._index_of_id: dict[int, int] = {}
        for value in objects:
            self.add(value)

    def add(self, value: Any) -> OpaqueAttr:
        """The attribute for `value`, which the table keeps alive."""
        index = self._index_of_id.setdefault(id(value), len(self._objects))
        if index == len(self._objects):
            self._objects.append(value)
        return OpaqueAttr.of(index, summary(value))

    def attribute(self, value: Any) -> Constant:
        """`value` as the text writes it: as a literal if possible, else as an entry of this table."""
        return LiteralAttr.of(value) if LiteralAttr.can_spell(value) else self.add(value)

    def value(self, constant: Constant) -> Any:
        """Inverse of `attribute`. Raises `LookupError` for an entry of another table (or of a parsed text)."""
        if isinstance(constant, LiteralAttr):
            return constant.value
        index = constant.index.data
        if index >= len(self._objects):
            raise LookupError(f"constant {index} ({constant.summary.data}) is not in the table: IR text has no objects")
        return self._objects[index]

    def __getitem__(self, index: Any) -> Any:
        return self._objects[index]

    def __len__(self) -> int:
        return len(self._objects)


@dataclass
class Unit:
    """
    A module on its way through the compiler.

    Attributes:
        module: The IR.
        constants: The objects that the IR refers to; empty for a parsed text.
        handles: Actor handle by symbol; empty for a parsed text.
        tasks: Node of `ray.dag` by symbol, for each actor of kind `task`; empty for a parsed text.
    """

    module: ModuleOp
    constants: ConstantTable = field(default_factory=ConstantTable)
    handles: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)

    def clone(self) -> Unit:
        """A copy of the module that shares the objects."""
        return Unit(self.module.clone(), self.constants, self.handles, self.tasks)


def graphs_of(module: ModuleOp) -> Iterator[GraphOp]:
    """The graphs of a module, in order."""
    return (operation for operation in module.body.ops if isinstance(operation, GraphOp))


def summary(value: Any) -> str:
    """
    What an object looks like, from its type: stable from run to run, and no code of the user runs.

    Arrays and tensors show dtype and shape, functions and classes their name, containers their length.
    """
    kind = type(value)
    if kind.__module__ in ("numpy", "torch") and kind.__name__ in ("ndarray", "Tensor"):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{kind.__name__} {dtype}{list(value.shape)}"
    if kind in (list, tuple, dict, set, frozenset, bytes, bytearray, str):
        return f"{kind.__name__} of {len(value)}"
    name = value.__qualname__ if hasattr(kind, "__qualname__") and kind in _NAMED else kind.__qualname__
    return str(name)


_NAMED = (type, type(summary), type(len))
"""Types whose instances have a name of their own: classes, functions, builtins."""
